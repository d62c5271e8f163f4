"""Signatures: who signed an artifact is found in the store, and counts by a public key that the Workspace declares.

What is signed are the bytes of the artifact's manifest, whose sha256 is the artifact's digest: Ed25519, or ECDSA on
P-256 with SHA-256.  The signature is a file of its own, not in the artifact's folder, under the digest and the key's
fingerprint.
"""

import base64
import binascii
import hashlib

_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
MAX_BYTES = 256  # of a signature


def fingerprint(pem: str) -> str | None:
    """The first 16 hex digits of the sha256 of a public key's DER; None where the text has no DER."""
    body = pem.strip().removeprefix(_BEGIN).removesuffix(_END)
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return hashlib.sha256(der).hexdigest()[:16]
