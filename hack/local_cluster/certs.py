"""The cluster's keys and certificates, made with openssl: one CA per cluster, ECDSA keys, one identity per
component.

Nothing is shared between clusters, so that a kubeconfig of one is worth nothing in another.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from local_cluster.commands import run

DAYS = "3650"


class Authority:
    """A certificate authority in a folder: `ca.crt`, `ca.key` and the certificates that it signed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate = folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if not self.certificate.exists():
            _new_key(self.key)
            unfinished = self.certificate.with_suffix(".unfinished")
            subject = f"/CN=modelmill-{name}"
            run(
                [
                    "openssl",
                    "req",
                    "-x509",
                    "-new",
                    "-key",
                    self.key,
                    "-subj",
                    subject,
                    "-days",
                    DAYS,
                    "-out",
                    unfinished,
                ]
            )
            unfinished.rename(self.certificate)

    def issue(self, name: str, user: str, group: str | None = None, hosts: tuple[str, ...] = ()) -> tuple[Path, Path]:
        """A certificate for both ends of TLS. `hosts` are DNS names and addresses; user and group are the
        RBAC subject."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        wanted = f"{user} {group} {' '.join(hosts)}"
        note = self.folder / f"{name}.for"
        if certificate.exists() and note.exists() and note.read_text() == wanted:
            return certificate, key
        _new_key(key)
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        request = run(["openssl", "req", "-new", "-key", key, "-subj", subject]).stdout
        extensions = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
        if hosts:
            extensions += f"subjectAltName={subject_alternatives(hosts)}\n"
        extension_file = self.folder / f"{name}.ext"
        extension_file.write_text(extensions)
        run(
            [
                *("openssl", "x509", "-req", "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"),
                *("-days", DAYS, "-extfile", extension_file, "-out", certificate),
            ],
            stdin=request,
        )
        extension_file.unlink()
        note.write_text(wanted)
        return certificate, key


def service_account_key(folder: Path) -> tuple[Path, Path]:
    """The key pair that signs and verifies service account tokens."""
    private, public = folder / "service-accounts.key", folder / "service-accounts.pub"
    if not public.exists():
        _new_key(private)
        unfinished = public.with_suffix(".unfinished")
        run(["openssl", "ec", "-in", private, "-pubout", "-out", unfinished])
        unfinished.rename(public)
    return private, public


def subject_alternatives(hosts: tuple[str, ...]) -> str:
    return ",".join(f"IP:{host}" if host.replace(".", "").isdigit() else f"DNS:{host}" for host in hosts)


def administrators_token(file: Path, user: str, group: str) -> str:
    """A token, by the file in which the API server finds whose it is.

    The API server remembers a token; a certificate it verifies for each request, an eighth of its CPU in our tests.
    """
    if not file.exists():
        _write_privately(file, f"{secrets.token_hex(32)},{user},{user},{group}\n")
    return file.read_text().partition(",")[0]


def write_kubeconfig(
    path: Path, cluster: str, server: str, authority: Authority, identity: tuple[Path, Path] | str
) -> None:
    """A kubeconfig that stands alone: a token, or certificate and key, inside, readable by its owner only."""

    def inline(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    if isinstance(identity, str):
        user = f"token: {identity}"
    else:
        certificate, key = identity
        user = f"client-certificate-data: {inline(certificate)}\n    client-key-data: {inline(key)}"
    text = f"""\
apiVersion: v1
kind: Config
current-context: {cluster}
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {inline(authority.certificate)}
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: {cluster}
users:
- name: {cluster}
  user:
    {user}
"""
    _write_privately(path, text)


def _write_privately(path: Path, text: str) -> None:
    """Whole or not at all, and readable by its owner only."""
    unfinished = path.with_name(path.name + ".unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    unfinished.rename(path)


def _new_key(path: Path) -> None:
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])
    path.chmod(0o600)
