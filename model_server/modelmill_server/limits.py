"""What one caller can ask of a server."""

from dataclasses import dataclass

from modelmill_server.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller can ask of the server."""

    body: int = 1 << 20  # bytes
    in_flight: int = 256  # requests to one worker; beyond, inference is refused with 429
    body_seconds: float = 30.0  # until a head and then a body must be here, and until an answer must be taken
    swallow: int = 64 << 20  # bytes of a too large body that are read, so that its sender sees the answer
    threads: int = 2  # for models that are too slow for the event loop
    deadline: float | None = None  # seconds that a request may wait for the model; callers can ask for less
    connections: int = 10_000  # of one worker over HTTP, at once; less where it may not open so many files

    def too_slow(self) -> RefusedError:
        seconds = self.body_seconds
        return RefusedError(408, "BodyTimeout", f"the body was not complete after {seconds:g} s; send it again")

    def too_large(self) -> RefusedError:
        return RefusedError(413, "BodyTooLarge", f"the body is over {self.body} bytes; send fewer rows per request")
