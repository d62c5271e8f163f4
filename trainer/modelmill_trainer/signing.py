"""Signing: a person signs a stored artifact with a key of their own, and the verification asks who did.

The keys are those of `cryptography`; what is signed, and where a signature lies, is in `modelmill_contracts.signature`.
"""

from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from modelmill_contracts import artifact, folder, signature
from modelmill_contracts.report import Signed
from modelmill_contracts.store import Store, StoreError, artifact_key, signature_key
from modelmill_contracts.task import SigningKey
from modelmill_trainer.failure import TaskError

_KINDS = "Ed25519, or ECDSA on P-256"
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey


class Made(NamedTuple):
    """A signature in the store, and whether it is new."""

    key: str
    new: bool


def signed_by(store: Store, digest: str, manifest: bytes, keys: tuple[SigningKey, ...]) -> Signed | None:
    """The first of the keys that signed the artifact, whose manifest has that digest.

    TaskError where a signature does not fit, or a key is none.
    """
    for declared in keys:
        key, fingerprint = _public(declared), signature.fingerprint(declared.public_key)
        if fingerprint is None:
            raise _no_key(declared)
        found = _stored(store, signature_key(digest, fingerprint))
        if found is None:
            continue
        if not _fits(key, found, manifest):
            raise TaskError(
                "SignatureInvalid",
                f"the signature of {declared.name} in the store does not fit this artifact; delete"
                f" {signature_key(digest, fingerprint)} there, and sign again",
            )
        return Signed(declared.name, fingerprint)
    return None


def sign(store: Store, digest: str, private_key: bytes) -> Made:
    """Sign the stored artifact with that digest by a private key (PEM); TaskError, StoreError, ArtifactError."""
    key = _private(private_key)
    manifest = store.get(f"{artifact_key(digest)}/{artifact.MANIFEST}", artifact.MAX_MANIFEST)
    folder.read_manifest(manifest, digest)
    made = key.sign(manifest) if isinstance(key, Ed25519PrivateKey) else key.sign(manifest, ECDSA(SHA256()))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    where = signature_key(digest, str(signature.fingerprint(pem)))
    new = store.put_once(where, made)
    if not new and not _fits(key.public_key(), store.get(where, signature.MAX_BYTES), manifest):
        raise TaskError("SignatureInvalid", f"another signature is at {where}, and does not fit; delete it first")
    return Made(where, new)


def _stored(store: Store, key: str) -> bytes | None:
    try:
        return store.get(key, signature.MAX_BYTES)
    except StoreError as error:
        if error.reason == "ObjectNotFound":
            return None
        raise


def _fits(key: PublicKey, found: bytes, manifest: bytes) -> bool:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(found, manifest)
        else:
            key.verify(found, manifest, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _public(declared: SigningKey) -> PublicKey:
    try:
        key = load_pem_public_key(declared.public_key.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(declared) from error
    if isinstance(key, Ed25519PublicKey) or (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise _no_key(declared)


def _private(pem: bytes) -> PrivateKey:
    wanted = f"the private key must be PEM without a password: {_KINDS}"
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TaskError("KeyInvalid", wanted) from error
    if isinstance(key, Ed25519PrivateKey) or (
        isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise TaskError("KeyInvalid", wanted)


def _no_key(declared: SigningKey) -> TaskError:
    said = f"spec.signing of the Workspace: the publicKey of {declared.name} is none; give {_KINDS}, as PEM"
    return TaskError("KeyInvalid", said)


def read_key(path: Path) -> bytes:
    """The private key's file; TaskError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskError("KeyInvalid", f"{path} cannot be read: {error.strerror}") from error
