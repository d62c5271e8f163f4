"""Credentials by which the pods of one training know each other: TLS with one key that each of them derives.

What a scheduler and its workers send each other are calls of functions: whoever may speak to them may run code in pods
that have the store's credentials.  So each side has to prove that it knows what only pods of this training are told.

The key is derived (HKDF, RFC 5869) and the certificate is signed with Ed25519, which needs no random numbers (RFC
8032): the same secret gives the same certificate, to the byte, so that everybody trusts exactly this one.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_CONTEXT = b"modelmill.dev/workers/v1"
_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "modelmill-workers")])
# It lives as long as its secret: as one Job.
_FROM, _UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


class Credentials(NamedTuple):
    key: str  # PEM
    certificate: str  # PEM; also the only one that is trusted


def credentials(secret: bytes) -> Credentials:
    """Key and certificate of all who know this secret."""
    seed = HKDF(hashes.SHA256(), 32, salt=None, info=_CONTEXT).derive(secret)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    return Credentials(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
    )
