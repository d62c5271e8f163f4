"""Signatures: made by `modelmill sign` with a key of a person's own, and looked for when an artifact is verified."""

import shutil
import subprocess
from pathlib import Path

import pytest
from trainer_tasks import BREAST_CANCER, LOGISTIC, SCALER, run, steps, trained

from modelmill_contracts import signature
from modelmill_contracts.report import Report, Signed, TrainingResult
from modelmill_contracts.store import Store, signature_key
from modelmill_contracts.task import SigningKey, StoreLocation, VerificationTask
from modelmill_trainer import command

ALGORITHMS = {"ed25519": ["ed25519"], "p256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


def openssl(*words: str) -> str:
    return subprocess.run(["openssl", *words], check=True, capture_output=True, text=True).stdout


def key(folder: Path, name: str, algorithm: str = "ed25519") -> tuple[Path, SigningKey]:
    """A private key's file, and what the Workspace declares of it."""
    path = folder / f"{name}.pem"
    openssl("genpkey", "-algorithm", *ALGORITHMS[algorithm], "-out", str(path))
    return path, SigningKey(name, openssl("pkey", "-in", str(path), "-pubout"))


@pytest.fixture
def made(store: StoreLocation) -> TrainingResult:
    return trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC)).result


def sign(made: TrainingResult, path: Path) -> int:
    return command.main(["sign", made.uri, "--key", str(path)])


def verified(store: StoreLocation, made: TrainingResult, *keys: SigningKey, signed: bool = True) -> Report:
    return run(VerificationTask(store, made.uri, made.artifact, keys, signed))


def by(report: Report) -> Signed | None:
    assert report.ok, report
    found: Signed | None = report.result.signed
    return found


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_who_signed_an_artifact_is_told(
    store: StoreLocation, made: TrainingResult, tmp_path: Path, algorithm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (_, ana), (path, bob) = key(tmp_path, "ana"), key(tmp_path, "bob", algorithm)
    assert sign(made, path) == 0
    fingerprint = signature.fingerprint(bob.public_key)
    assert fingerprint is not None
    where = signature_key(made.artifact, fingerprint)
    assert capsys.readouterr().out == f"signed: {store.uri}/{where}\n"
    assert by(verified(store, made, ana, bob)) == Signed("bob", fingerprint)
    # openssl says the same of the key.
    der = tmp_path / "der"
    openssl("pkey", "-in", str(path), "-pubout", "-outform", "DER", "-out", str(der))
    assert openssl("dgst", "-sha256", "-r", str(der)).startswith(fingerprint)


def test_an_artifact_that_nobody_signed_is_refused_only_where_somebody_must_have(
    store: StoreLocation, made: TrainingResult, tmp_path: Path
) -> None:
    (_, ana), (path, _) = key(tmp_path, "ana"), key(tmp_path, "somebody")
    assert sign(made, path) == 0  # whose signature does not count
    answer = verified(store, made, ana)
    assert (answer.ok, answer.reason) == (False, "SignatureMissing")
    assert answer.message == (
        f"none of the Workspace's keys has signed this artifact (ana); sign it: modelmill sign {made.uri} --key KEY.pem"
    )
    assert by(verified(store, made, ana, signed=False)) is None
    assert by(verified(store, made, signed=False)) is None


def test_a_signature_that_does_not_fit_is_refused_in_any_case(
    store: StoreLocation, made: TrainingResult, tmp_path: Path
) -> None:
    path, ana = key(tmp_path, "ana")
    where = signature_key(made.artifact, str(signature.fingerprint(ana.public_key)))
    Store(store).put_once(where, b"forged")
    for signed in (True, False):
        answer = verified(store, made, ana, signed=signed)
        assert (answer.ok, answer.reason) == (False, "SignatureInvalid")
        assert "the signature of ana in the store does not fit this artifact" in answer.message
    assert sign(made, path) == 1
    Store(store).delete(where)
    assert sign(made, path) == 0
    assert by(verified(store, made, ana)) is not None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_who_signs_again_changes_nothing(
    store: StoreLocation, made: TrainingResult, tmp_path: Path, algorithm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, ana = key(tmp_path, "ana", algorithm)
    assert (sign(made, path), sign(made, path)) == (0, 0)
    assert capsys.readouterr().out.splitlines()[1].startswith("signed before: ")
    assert by(verified(store, made, ana)) is not None


def test_the_signature_of_another_artifact_is_none_of_this_one(
    store: StoreLocation, made: TrainingResult, tmp_path: Path
) -> None:
    path, ana = key(tmp_path, "ana")
    other = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), seed=8).result
    assert other.artifact != made.artifact
    assert sign(other, path) == 0
    fingerprint = str(signature.fingerprint(ana.public_key))
    assert verified(store, made, ana).reason == "SignatureMissing"
    Store(store).put_once(
        signature_key(made.artifact, fingerprint), Store(store).get(signature_key(other.artifact, fingerprint), 256)
    )
    assert verified(store, made, ana).reason == "SignatureInvalid"


@pytest.mark.parametrize("body", ["", "AAAA", "!"])
def test_a_key_that_is_none_is_named(store: StoreLocation, made: TrainingResult, body: str) -> None:
    broken = SigningKey("ana", f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    answer = verified(store, made, broken)
    assert (answer.ok, answer.reason) == (False, "KeyInvalid")
    assert "the publicKey of ana is none; give Ed25519, or ECDSA on P-256, as PEM" in answer.message


def test_what_cannot_sign_is_said(made: TrainingResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = key(tmp_path, "ana")
    rsa, none, missing = tmp_path / "rsa.pem", tmp_path / "none.pem", tmp_path / "missing.pem"
    openssl("genpkey", "-algorithm", "RSA", "-out", str(rsa))
    none.write_text("no key")
    for wrong in (rsa, none):
        assert sign(made, wrong) == 1
        assert "the private key must be PEM without a password: Ed25519" in capsys.readouterr().err
    assert sign(made, missing) == 1
    assert f"{missing} cannot be read: No such file" in capsys.readouterr().err
    for artifact, said in (
        ("file:///somewhere/else", "is no artifact: it must end in /artifacts/sha256-"),
        (made.uri[:-1] + ("0" if made.uri[-1] != "0" else "1"), "no such object"),
    ):
        assert command.main(["sign", artifact, "--key", str(path)]) == 1
        assert said in capsys.readouterr().err


def test_a_text_without_der_has_no_fingerprint() -> None:
    assert signature.fingerprint("-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----\n") is None
