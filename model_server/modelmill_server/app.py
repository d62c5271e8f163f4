"""The ASGI application: routes, limits, and the way of an inference request.

It is meant to run under `protocol`, which counts a request into `Counters.in_flight` when its headers are
here; the application counts it out when it is answered.
"""

import asyncio
import http
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from modelmill_contracts import __version__
from modelmill_contracts.counters import COMPUTE_HEADER, VERSION_HEADER
from modelmill_server import inference
from modelmill_server.counters import Counters
from modelmill_server.errors import DisconnectedError, RefusedError, model_unknown, version_unknown
from modelmill_server.inference import Codec, Outcome
from modelmill_server.protocol import ShortCut

if TYPE_CHECKING:  # numpy and onnxruntime come after the ports are open
    from modelmill_server.model import Servable

Scope = dict[str, Any]
Header = tuple[bytes, bytes]

_COMPUTE = COMPUTE_HEADER.encode()
_CLOSE: Header = (b"connection", b"close")
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


class App:
    """Serves one model version once `servable` is set, and answers 503 before that and while it drains."""

    def __init__(self, name: str, version: str, limits: Limits, counters: Counters) -> None:
        self.name = name
        self.version = version
        self.counters = counters
        self.servable: Servable | None = None
        self._limits = limits
        self._pool: ThreadPoolExecutor | None = None
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
            "/v2": self.server_metadata,
            "/v2/health/live": self._live,
            "/v2/health/ready": self.require_ready,
            **dict.fromkeys(self._models, self.metadata),
            **{f"{path}/ready": self.require_ready for path in self._models},
        }

    def serve(self, servable: "Servable") -> None:
        """Become ready."""
        self.servable = servable
        self.counters.ready = True
        if servable.inline:
            self.short_cut.paths = frozenset(path.encode() for path in self._infer_paths)
        else:
            self._pool = ThreadPoolExecutor(self._limits.threads, thread_name_prefix="model")

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
        outcome = inference.predict(self.servable, self.servable.codec, body)
        self.count(outcome, perf_counter() - started)
        line = b"200 OK" if outcome.status == 200 else _status_line(outcome.status)
        return self._response % (line, outcome.seconds * 1e6, len(outcome.answer), outcome.answer)

    async def predict_in_turn(self, codec: Codec, body: bytes, deadline: float | None = None) -> Outcome:
        """The outcome of a request to a model that is too slow for the event loop.

        RefusedError where the model was not free before `deadline`, a time of the event loop's clock.
        """
        loop = asyncio.get_running_loop()
        servable = self.servable
        if servable is None:
            raise AssertionError("a request was admitted before the model was loaded")

        def work() -> Outcome:
            if deadline is not None and deadline <= loop.time():
                late = "the model was busy until the request's deadline; try again later"
                return inference.refused(RefusedError(504, "DeadlinePassed", late))
            return inference.predict(servable, codec, body)

        return await loop.run_in_executor(self._pool, work)

    async def _infer(self, scope: Scope, receive: Any, send: Any) -> None:
        started = 0.0
        try:
            servable = self.admit()
            body = await self._body(scope, receive)
            started = perf_counter()
            if servable.inline:
                outcome = inference.predict(servable, servable.codec, body)
            else:
                outcome = await self.predict_in_turn(servable.codec, body)
        except RefusedError as refusal:
            outcome = inference.refused(refusal)
        except DisconnectedError:
            self.counters.refused("Disconnected")
            return
        self.count(outcome, perf_counter() - started if started else None)
        more = ((_COMPUTE, b"%.1f" % (outcome.seconds * 1e6)),)
        await self._send(send, outcome.status, outcome.answer, more)

    def count(self, outcome: Outcome, seconds: float | None) -> None:
        """Count one inference request; `seconds` from its body's end to its answer, None where it had no body."""
        counters = self.counters
        counters.answered(outcome.status)
        if outcome.reason:
            counters.refused(outcome.reason)
        else:
            counters.compute.add(outcome.seconds)
            counters.predictions += outcome.rows
        if seconds is not None:
            counters.request.add(seconds)

    def admit(self) -> "Servable":
        """The model, for a request that was counted into `in_flight`; RefusedError where it has to wait."""
        if self.servable is None:
            raise RefusedError(503, "NotReady", "the model is not loaded yet; try again in a second")
        if self.counters.in_flight > self._limits.in_flight:
            raise RefusedError(
                429,
                "QueueFull",
                f"{self._limits.in_flight} requests are in flight already; try again after Retry-After",
            )
        return self.servable

    async def _body(self, scope: Scope, receive: Any) -> bytes:
        """The request's body; RefusedError where it is too large, if possible before it is read."""
        limit = self._limits.body
        for name, value in scope["headers"]:
            if name == b"content-length":
                if int(value) > limit:
                    raise self.too_large()
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
            raise self.too_large()
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
            raise self.too_large()
        return b"".join(parts)

    def too_large(self) -> RefusedError:
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
                raise model_unknown(self.name)
            if rest[:1] == ["versions"] and len(rest) > 1 and rest[1] != self.version:
                raise version_unknown(self.name, self.version)
        raise RefusedError(404, "PathUnknown", f"nothing is here; predictions are at {self._models[0]}/infer")

    def server_metadata(self) -> dict[str, Any]:
        return {"name": "modelmill", "version": __version__, "extensions": _EXTENSIONS}

    def _live(self) -> dict[str, Any]:
        return {"live": True}

    def require_ready(self) -> dict[str, Any]:
        """What the ready routes answer; RefusedError where new requests are not welcome."""
        if self.servable is None:
            raise RefusedError(503, "NotReady", "the model is not loaded yet; try again in a second")
        if not self.counters.ready:
            raise RefusedError(503, "Draining", "the server is about to stop; send new requests to another one")
        return {"name": self.name, "ready": True}

    def metadata(self) -> dict[str, Any]:
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


def _status_line(status: int) -> bytes:
    return b"%d %b" % (status, http.HTTPStatus(status).phrase.encode())


_json = msgspec.json.Encoder().encode
