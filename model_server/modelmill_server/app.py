"""The ASGI application: routes, limits, and the way of an inference request.

It is meant to run under `protocol`, which counts a request into `Counters.in_flight` when its headers are
here; the application counts it out when it is answered.
"""

import asyncio
import http
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from modelmill_contracts import __version__
from modelmill_contracts.counters import COMPUTE_HEADER, VERSION_HEADER
from modelmill_server import inference
from modelmill_server.counters import Counters
from modelmill_server.errors import DisconnectedError, RefusedError, invalid
from modelmill_server.inference import Outcome
from modelmill_server.protocol import ShortCut

if TYPE_CHECKING:  # numpy and onnxruntime come after the ports are open
    from modelmill_server.batching import Batches
    from modelmill_server.model import Servable

Scope = dict[str, Any]
Header = tuple[bytes, bytes]

_COMPUTE = COMPUTE_HEADER.encode()
_CLOSE: Header = (b"connection", b"close")
# Headers that say how long a caller waits: its own, and the one that Envoy and what is built on it send.
_DEADLINES = {b"x-request-timeout": 1.0, b"x-envoy-expected-rq-timeout-ms": 0.001}
_LONGEST = 1e9
_EXTENSIONS: tuple[str, ...] = ()  # of the Open Inference Protocol
_PLATFORMS = {"onnx": "onnxruntime_onnx", "skops": "sklearn_skops"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller can ask of the server."""

    body: int = 1 << 20  # bytes
    in_flight: int = 256  # requests; beyond, inference is refused with 429
    body_seconds: float = 30.0  # until a body must be here
    swallow: int = 64 << 20  # bytes of a too large body that are read, so that its sender sees the answer
    threads: int = 2  # for models that are too slow for the event loop
    deadline: float | None = None  # seconds that a request may wait for the model; callers can ask for less


class App:
    """Serves one model version once `servable` is set, and answers 503 before that and while it drains."""

    def __init__(self, name: str, version: str, limits: Limits, counters: Counters, arm: str = "") -> None:
        self.name = name
        self.version = version
        self.arm = arm
        self.counters = counters
        self.servable: Servable | None = None
        self._limits = limits
        self._batches: Batches | None = None
        self._head: list[Header] = [
            (b"content-type", b"application/json"),
            (VERSION_HEADER.encode(), version.encode()),
        ]
        model = f"/v2/models/{name}"
        self._models = (model, f"{model}/versions/{version}")
        self._infer_paths = frozenset(f"{path}/infer" for path in self._models)
        self.short_cut = ShortCut(self._answer_now, limits.body)
        self._response = b""
        self._gets = {
            "/v2": self._server_metadata,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            **dict.fromkeys(self._models, self._metadata),
            **{f"{path}/ready": self._ready for path in self._models},
        }

    def serve(self, servable: "Servable") -> None:
        """Become ready."""
        self.servable = servable
        self.counters.ready = True
        if servable.inline:
            self.short_cut.paths = frozenset(path.encode() for path in self._infer_paths)
        else:
            from modelmill_server.batching import Batches  # noqa: PLC0415 - numpy comes after the ports are open

            self._batches = Batches(servable.runtime, servable.together, self._limits.threads)

    def drain(self) -> None:
        """Say not ready, and ask each caller for a new connection, which will find another pod."""
        self.counters.ready = False
        self.short_cut.paths = frozenset()
        self._head = [*self._head, _CLOSE]

    def set_date(self, date: str) -> None:
        """Set the Date header of answers on the short cut; ASGI's are uvicorn's."""
        head = [(b"date", date.encode()), *self._head]
        lines = b"".join(b"%b: %b\r\n" % header for header in head)
        self._response = (
            b"HTTP/1.1 %b\r\n" + lines.replace(b"%", b"%%") + _COMPUTE + b": %.1f\r\ncontent-length: %d\r\n\r\n%b"
        )

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        try:
            if scope["path"] in self._infer_paths and scope["method"] == "POST":
                await self._infer(scope, receive, send)
            else:
                await self._other(scope, send)
        finally:
            self.counters.in_flight -= 1

    def _answer_now(self, body: bytes) -> bytes:
        """The whole response to an inference request, computed here: the short cut of `protocol`."""
        if self.servable is None:  # the short cut opens when the model is there
            raise AssertionError("the short cut was taken before the model was loaded")
        started = perf_counter()
        outcome = inference.predict(self.servable, body)
        self._count(outcome, perf_counter() - started)
        line = b"200 OK" if outcome.status == 200 else _status_line(outcome.status)
        return self._response % (line, outcome.seconds * 1e6, len(outcome.answer), outcome.answer)

    async def _infer(self, scope: Scope, receive: Any, send: Any) -> None:
        started = 0.0
        try:
            servable = self._admit()
            deadline = None if self._batches is None else self._deadline(scope)
            body = await self._body(scope, receive)
            started = perf_counter()
            if self._batches is None:
                outcome = inference.predict(servable, body)
            else:
                outcome = await inference.predict_in_turn(servable, self._batches, body, deadline)
        except RefusedError as refusal:
            outcome = inference.refused(refusal)
        except DisconnectedError:
            self.counters.refused("Disconnected")
            return
        self._count(outcome, perf_counter() - started if started else None)
        more = ((_COMPUTE, b"%.1f" % (outcome.seconds * 1e6)),)
        await self._send(send, outcome.status, outcome.answer, more)

    def _count(self, outcome: Outcome, seconds: float | None) -> None:
        counters = self.counters
        if seconds is not None and outcome.arrays is not None and outcome.feeds is not None:
            counters.predicted(outcome.rows, outcome.seconds, seconds)
            if counters.bins is not None:
                counters.bins.add(outcome.rows, outcome.feeds, outcome.arrays)
            return
        counters.answered(outcome.status)
        counters.refused(outcome.reason)
        if seconds is not None:
            counters.request.add(seconds)

    def _admit(self) -> "Servable":
        if self.servable is None:
            raise RefusedError(503, "NotReady", "the model is not loaded yet; try again in a second")
        if self.counters.in_flight > self._limits.in_flight:
            raise RefusedError(
                429,
                "QueueFull",
                f"{self._limits.in_flight} requests are in flight already; try again after Retry-After",
            )
        return self.servable

    def _deadline(self, scope: Scope) -> float | None:
        """When a request must have been given to the model, on the event loop's clock."""
        seconds = self._limits.deadline
        for name, value in scope["headers"]:
            if (unit := _DEADLINES.get(name)) is not None:
                asked = _seconds(value) * unit
                seconds = asked if seconds is None else min(seconds, asked)
        return None if seconds is None else asyncio.get_running_loop().time() + seconds

    async def _body(self, scope: Scope, receive: Any) -> bytes:
        """The request's body; RefusedError where it is too large, if possible before it is read."""
        limit = self._limits.body
        for name, value in scope["headers"]:
            if name == b"content-length":
                if int(value) > limit:
                    raise self._too_large()
                break
        message = await receive()
        if message["type"] != "http.request":
            raise DisconnectedError
        body: bytes = message["body"]
        if message["more_body"]:
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    return await self._rest(body, receive)
            except TimeoutError as error:
                raise RefusedError(
                    408,
                    "BodyTimeout",
                    f"the body was not complete after {self._limits.body_seconds:g} s; send it again",
                ) from error
        if len(body) > limit:
            raise self._too_large()
        return body

    async def _rest(self, first: bytes, receive: Any) -> bytes:
        parts, size, more = [first], len(first), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise DisconnectedError
            size += len(message["body"])
            if size <= self._limits.body:
                parts.append(message["body"])
            elif size > self._limits.swallow:
                break
            more = message["more_body"]
        if size > self._limits.body:
            raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> RefusedError:
        return RefusedError(
            413, "BodyTooLarge", f"the body is over {self._limits.body} bytes; send fewer rows per request"
        )

    async def _other(self, scope: Scope, send: Any) -> None:
        more: tuple[Header, ...] = ()
        try:
            status, answer = 200, _json(self._route(scope["method"], scope["path"]))
        except RefusedError as refusal:
            status, answer = refusal.status, inference.refused(refusal).answer
            self.counters.refused(refusal.reason)
            if status == 405:
                more = ((b"allow", b"POST" if scope["path"] in self._infer_paths else b"GET, HEAD"),)
        await self._send(send, status, answer, more)

    async def _send(self, send: Any, status: int, answer: bytes, more: tuple[Header, ...]) -> None:
        headers = [*self._head, (b"content-length", b"%d" % len(answer)), *more]
        if status in (429, 503):
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _route(self, method: str, path: str) -> dict[str, Any]:
        if (handler := self._gets.get(path)) is not None:
            if method in ("GET", "HEAD"):
                return handler()
            raise RefusedError(405, "MethodNotAllowed", "only GET is allowed here")
        if path in self._infer_paths:
            raise RefusedError(405, "MethodNotAllowed", "only POST is allowed here")
        if path.startswith("/v2/models/"):
            _, _, _, model, *rest = path.split("/")
            if model != self.name:
                raise RefusedError(404, "ModelUnknown", f"this server has one model, '{self.name}'; use its name")
            if rest[:1] == ["versions"] and len(rest) > 1 and rest[1] != self.version:
                raise RefusedError(
                    404,
                    "VersionUnknown",
                    f"version '{self.version}' of model '{self.name}' is served; use it or none",
                )
        raise RefusedError(404, "PathUnknown", f"nothing is here; predictions are at {self._models[0]}/infer")

    def _server_metadata(self) -> dict[str, Any]:
        return {"name": "modelmill", "version": __version__, "extensions": _EXTENSIONS}

    def _live(self) -> dict[str, Any]:
        return {"live": True}

    def _ready(self) -> dict[str, Any]:
        if self.servable is None:
            raise RefusedError(503, "NotReady", "the model is not loaded yet; try again in a second")
        if not self.counters.ready:
            raise RefusedError(503, "Draining", "the server is about to stop; send new requests to another one")
        if (board := self.counters.board) is not None and not board.ready:
            raise RefusedError(503, "NotReady", "a worker is still loading the model; try again in a second")
        return {"name": self.name, "ready": True}

    def _metadata(self) -> dict[str, Any]:
        if self.servable is None:
            raise RefusedError(503, "NotReady", "the model is not loaded yet; try again in a second")
        manifest = self.servable.manifest
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": _PLATFORMS[manifest.runtime],
            "inputs": [msgspec.to_builtins(tensor) for tensor in manifest.inputs],
            "outputs": [msgspec.to_builtins(tensor) for tensor in manifest.outputs],
            "parameters": {
                "digest": self.servable.digest,
                "features": [feature.name for feature in manifest.features],
                "classes": list(manifest.classes),
            },
        }


def _seconds(value: bytes) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < _LONGEST:
        raise invalid("DeadlineInvalid", "a timeout header must be a number, 0 or more; mend or omit it")
    return number


def _status_line(status: int) -> bytes:
    return b"%d %b" % (status, http.HTTPStatus(status).phrase.encode())


_json = msgspec.json.Encoder().encode
