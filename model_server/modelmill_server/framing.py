"""How a body is framed: where its JSON ends and raw tensors begin (the binary tensor extension)."""

from collections.abc import Iterable

from modelmill_server.errors import RefusedError, invalid

JSON_SIZE_HEADER = "Inference-Header-Content-Length"
JSON_SIZE_NAME = JSON_SIZE_HEADER.lower().encode()  # as in `http1.Request`
BINARY = b"application/octet-stream"  # the content type of an answer with raw tensors
_MAX_DIGITS = 15


def json_size(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The size of the JSON that raw tensors follow; None where the body is JSON only.

    Raises RefusedError where the body cannot be read: it is compressed, or the size is none.
    """
    size = None
    for name, value in headers:
        if name == JSON_SIZE_NAME:
            size = known_size(value)
            if size is None:
                raise invalid("HeaderInvalid", f"the header {JSON_SIZE_HEADER} must be a number of bytes; mend it")
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise RefusedError(415, "EncodingUnknown", "a compressed body is not read; send it as it is")
    return size


def size_mismatch(size: int) -> RefusedError:
    """What is said where the JSON would not fit into the body's `size` bytes."""
    return invalid(
        "BinarySizeMismatch", f"the header {JSON_SIZE_HEADER} says more than the body's {size} bytes; mend it"
    )


def known_size(value: bytes) -> int | None:
    """The header's value as a number, None where it is none."""
    return int(value) if value.isdigit() and len(value) <= _MAX_DIGITS else None
