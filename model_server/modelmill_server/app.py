"""The ASGI application: routes, limits, and the way of an inference request.

It is meant to run under `protocol`, which counts a request into `Counters.in_flight` when its headers are
here; the application counts it out when it is answered.
"""

import asyncio
import http
from collections.abc import Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from modelmill_contracts import __version__
from modelmill_contracts.counters import COMPUTE_HEADER, VERSION_HEADER
from modelmill_server import framing, inference, log
from modelmill_server.counters import Counters
from modelmill_server.errors import DisconnectedError, RefusedError, invalid, model_unknown, version_unknown
from modelmill_server.inference import Codec, Outcome
from modelmill_server.protocol import ShortCut

if TYPE_CHECKING:  # numpy and onnxruntime come after the ports are open
    from modelmill_server.batching import Batches
    from modelmill_server.model import Servable

Scope = dict[str, Any]
Header = tuple[bytes, bytes]

_COMPUTE = COMPUTE_HEADER.encode()
_JSON = b"application/json"
_CLOSE: Header = (b"connection", b"close")
_EXTENSIONS = ("binary_tensor_data",)  # of the Open Inference Protocol
_INDEX = "/v2/repository/index"
_OPENAPI = "/v2/docs/openapi.json"
# Headers that say how long a caller waits: its own, and the one that Envoy and what is built on it send.
_DEADLINES = {b"x-request-timeout": 1.0, b"x-envoy-expected-rq-timeout-ms": 0.001}
_LONGEST = 1e9
_PLATFORMS = {"onnx": "onnxruntime_onnx", "skops": "sklearn_skops"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller can ask of the server."""

    body: int = 1 << 20  # bytes
    in_flight: int = 256  # requests to one worker; beyond, inference is refused with 429
    body_seconds: float = 30.0  # until a body must be here
    swallow: int = 64 << 20  # bytes of a too large body that are read, so that its sender sees the answer
    threads: int = 2  # for models that are too slow for the event loop
    deadline: float | None = None  # seconds that a request may wait for the model; callers can ask for less


class _Asked(msgspec.Struct):
    ready: bool = False


class App:
    """Serves one model version once `servable` is set, and answers 503 before that and while it drains."""

    def __init__(self, name: str, version: str, limits: Limits, counters: Counters, arm: str = "") -> None:
        self.name = name
        self.version = version
        self.arm = arm
        self.counters = counters
        self.servable: Servable | None = None
        self.limits = limits
        self._batches: Batches | None = None
        self._head: list[Header] = [
            (b"content-type", _JSON),
            (VERSION_HEADER.encode(), version.encode()),
        ]
        model = f"/v2/models/{name}"
        self._models = (model, f"{model}/versions/{version}")
        self._v1_model = f"/v1/models/{name}"
        infer = [f"{path}/infer" for path in self._models]
        self._predictions = {**dict.fromkeys(infer, False), f"{self._v1_model}:predict": True}  # path: whether it is V1
        self.short_cut = ShortCut(self._answer_now, limits.body)
        self._response = self._binary_response = b""
        self._openapi = msgspec.Raw()
        self._says_not_binned = False
        self._gets = {
            "/v2": self.server_metadata,
            "/v2/health/live": self._live,
            "/v2/health/ready": self.require_ready,
            **dict.fromkeys(self._models, self.metadata),
            **{f"{path}/ready": self.require_ready for path in self._models},
            "/v1/models": lambda: {"models": [name]},
            self._v1_model: self.require_ready,
            _OPENAPI: self._document,
        }

    @property
    def digest(self) -> str:
        """The artifact's, "" where it is not known."""
        return "" if self.servable is None else self.servable.digest

    @property
    def runtime(self) -> str:
        """What computes predictions, "" where that is not known yet."""
        return "" if self.servable is None else self.servable.manifest.runtime

    def serve(self, servable: "Servable") -> None:
        """Become ready."""
        self.servable = servable
        if self.counters.bins is not None and servable.row is not None:
            self.counters.bins.copy_from(servable.row)
        self.counters.ready = True
        if servable.inline:
            self.short_cut.paths = frozenset(path.encode() for path, v1 in self._predictions.items() if not v1)
        else:
            from modelmill_server.batching import Batches  # noqa: PLC0415 - numpy comes after the ports are open

            self._batches = Batches(servable.runtime, servable.together, self.limits.threads)

    def drain(self) -> None:
        """Say not ready, and ask each caller for a new connection, which will find another pod."""
        self.counters.ready = False
        self.short_cut.paths = frozenset()
        self._head = [*self._head, _CLOSE]

    def set_date(self, date: str) -> None:
        """Set the Date header of answers on the short cut; ASGI's are uvicorn's."""
        head = [(b"date", date.encode()), *self._head]
        lines = b"".join(b"%b: %b\r\n" % header for header in head)
        start, end = b"HTTP/1.1 %b\r\n" + lines.replace(b"%", b"%%") + _COMPUTE, b"\r\n\r\n%b"
        self._response = start + b": %.1f\r\ncontent-length: %d" + end
        size = b"\r\n" + framing.JSON_SIZE_NAME + b": %d"
        self._binary_response = self._response.replace(_JSON, framing.BINARY).replace(end, size + end)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        try:
            if scope["method"] == "POST" and scope["path"] in self._predictions:
                await self._infer(scope, receive, send)
            else:
                await self._other(scope, receive, send)
        finally:
            self.counters.in_flight -= 1

    def _answer_now(self, body: bytes, json_size: int | None) -> bytes:
        """The whole response to an inference request, computed here: the short cut of `protocol`."""
        if self.servable is None:  # the short cut opens when the model is there
            raise AssertionError("the short cut was taken before the model was loaded")
        outcome = self._predict_now(self.servable, self.servable.codec, body, json_size)
        line = b"200 OK" if outcome.status == 200 else _status_line(outcome.status)
        answer = outcome.answer
        if outcome.json_size is None:
            return self._response % (line, outcome.seconds * 1e6, len(answer), answer)
        return self._binary_response % (line, outcome.seconds * 1e6, len(answer), outcome.json_size, answer)

    async def _infer(self, scope: Scope, receive: Any, send: Any) -> None:
        try:
            outcome = await self._outcome(scope, receive)
        except RefusedError as refusal:
            outcome = self.refuse(refusal)
        except DisconnectedError:
            self.counters.refused("Disconnected")
            return
        more = [(_COMPUTE, b"%.1f" % (outcome.seconds * 1e6))]
        if outcome.json_size is not None:
            more.append((framing.JSON_SIZE_NAME, b"%d" % outcome.json_size))
        await self._send(send, outcome.status, outcome.answer, more)

    async def _outcome(self, scope: Scope, receive: Any) -> Outcome:
        """What becomes of an inference request; RefusedError or DisconnectedError where it is not even decoded."""
        servable = self.admit()
        json_size = framing.json_size(scope["headers"])
        deadline = None if self._batches is None else self.deadline(patience(scope))
        body = await self._body(scope, receive)
        codec = servable.v1_codec if self._predictions[scope["path"]] else servable.codec
        found = self.predict(codec, body, json_size, deadline)
        return found if isinstance(found, Outcome) else await found

    def deadline(self, seconds: float | None) -> float | None:
        """When a request must have been given to the model, on the event loop's clock.

        `seconds` are what its caller waits from now on; None where it does not say.
        """
        most = self.limits.deadline
        if seconds is None or (most is not None and most < seconds):
            seconds = most
        return None if seconds is None else asyncio.get_running_loop().time() + seconds

    def predict(
        self, codec: Codec, body: bytes, json_size: int | None = None, deadline: float | None = None
    ) -> Outcome | Coroutine[Any, Any, Outcome]:
        """Answer and count one request that was admitted, whatever protocol it came by.

        A fast model answers here and now, whatever the deadline.  A slow one answers when it is free; the request may
        wait for that, until `deadline` at most, and go together with others.
        """
        if self.servable is None:
            raise AssertionError("a request was admitted before the model was loaded")
        if self._batches is None:
            return self._predict_now(self.servable, codec, body, json_size)
        return self._predict_in_turn(self._batches, codec, body, json_size, deadline)

    def _predict_now(self, servable: "Servable", codec: Codec, body: bytes, json_size: int | None) -> Outcome:
        started = perf_counter()
        outcome = inference.predict(servable, codec, body, json_size)
        self._count(outcome, perf_counter() - started)
        return outcome

    async def _predict_in_turn(
        self, batches: "Batches", codec: Codec, body: bytes, json_size: int | None, deadline: float | None
    ) -> Outcome:
        started = perf_counter()
        outcome = await inference.predict_in_turn(batches, codec, body, json_size, deadline)
        self._count(outcome, perf_counter() - started)
        return outcome

    def refuse(self, refusal: RefusedError) -> Outcome:
        """Count an inference request that is refused before it is decoded."""
        outcome = inference.refused(refusal)
        self._count(outcome, None)
        return outcome

    def _count(self, outcome: Outcome, seconds: float | None) -> None:
        """Count one inference request; `seconds` from its body's end to its answer, None where it had no body."""
        counters = self.counters
        if seconds is not None and outcome.arrays is not None and outcome.feeds is not None:
            counters.predicted(outcome.rows, outcome.seconds, seconds)
            if counters.bins is not None:
                try:
                    counters.bins.add(outcome.rows, outcome.feeds, outcome.arrays)
                except Exception as error:
                    self._not_binned(error)
            return
        counters.answered(outcome.status)
        counters.refused(outcome.reason)
        if seconds is not None:
            counters.request.add(seconds)

    def _not_binned(self, error: Exception) -> None:
        """The prediction is there, and its caller gets it.  The bins then hold fewer rows than were predicted."""
        if not self._says_not_binned:
            self._says_not_binned = True
            log.failure("rows cannot be counted in the profile's bins; this is said once", error)

    def admit(self) -> "Servable":
        """The model, for a request that was counted into `in_flight`; RefusedError where it has to come again."""
        servable = self._loaded()
        if self.counters.in_flight > self.limits.in_flight:
            raise self.too_many()
        return servable

    async def _body(self, scope: Scope, receive: Any) -> bytes:
        """The request's body; RefusedError where it is too large, if possible before it is read."""
        limit = self.limits.body
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
                async with asyncio.timeout(self.limits.body_seconds):
                    return await self._rest(body, receive)
            except TimeoutError as error:
                raise self.too_slow() from error
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
            if size <= self.limits.body:
                parts.append(message["body"])
            elif size > self.limits.swallow:
                break
            more = message["more_body"]
        if size > self.limits.body:
            raise self.too_large()
        return b"".join(parts)

    def too_many(self) -> RefusedError:
        most = self.limits.in_flight
        return RefusedError(429, "QueueFull", f"{most} requests are in flight already; try again in a second")

    def too_slow(self) -> RefusedError:
        seconds = self.limits.body_seconds
        return RefusedError(408, "BodyTimeout", f"the body was not complete after {seconds:g} s; send it again")

    def too_large(self) -> RefusedError:
        return RefusedError(
            413, "BodyTooLarge", f"the body is over {self.limits.body} bytes; send fewer rows per request"
        )

    async def _other(self, scope: Scope, receive: Any, send: Any) -> None:
        more: list[Header] = []
        path, method = scope["path"], scope["method"]
        try:
            if path == _INDEX and method == "POST":
                answer = self._index(await self._body(scope, receive))
            else:
                found = self._route(method, path)
                answer = _json(await found if isinstance(found, Coroutine) else found)
            status = 200
        except RefusedError as refusal:
            status, answer = refusal.status, inference.refused(refusal).answer
            self.counters.refused(refusal.reason)
            if status == 405:
                more = [(b"allow", b"POST" if self._takes_posts(path) else b"GET, HEAD")]
        except DisconnectedError:
            self.counters.refused("Disconnected")
            return
        await self._send(send, status, answer, more)

    async def _send(self, send: Any, status: int, answer: bytes, more: list[Header]) -> None:
        headers = [*self._head, (b"content-length", b"%d" % len(answer)), *more]
        if more and more[-1][0] == framing.JSON_SIZE_NAME:
            headers[0] = (b"content-type", framing.BINARY)
        if status in (429, 503):
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _route(self, method: str, path: str) -> Any:
        """What is answered as JSON, or a coroutine that gives it."""
        if (handler := self._gets.get(path.rstrip("/"))) is not None:
            if method in ("GET", "HEAD"):
                return handler()
            raise RefusedError(405, "MethodNotAllowed", "only GET is allowed here")
        if self._takes_posts(path):
            raise RefusedError(405, "MethodNotAllowed", "only POST is allowed here")
        _, protocol, kind, model, *rest = f"{path}///".split("/")
        if protocol in ("v1", "v2") and kind == "models" and model:
            if protocol == "v1":
                model = model.partition(":")[0]
            if model != self.name:
                raise model_unknown(self.name)
            if rest[0] == "versions" and rest[1] and rest[1] != self.version and protocol == "v2":
                raise version_unknown(self.name, self.version)
        raise RefusedError(404, "PathUnknown", f"nothing is here; {self._what_is_here()}")

    def _takes_posts(self, path: str) -> bool:
        return path in self._predictions or path == _INDEX

    def _what_is_here(self) -> str:
        return f"predictions are at {self._models[0]}/infer, and {_OPENAPI} lists what else there is"

    def _index(self, body: bytes) -> bytes:
        try:
            asked = msgspec.json.decode(body, type=_Asked) if body else _Asked()
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise invalid("RequestInvalid", 'the body must be empty, or a JSON object like {"ready": true}') from error
        return _json(self.index(only_ready=asked.ready))

    def index(self, *, only_ready: bool) -> list[dict[str, str]]:
        """The repository's index: its one model, if it is in the state that is asked for."""
        if self.is_ready():
            state, reason = "READY", ""
        elif only_ready:
            return []
        elif self.servable is None or self.counters.ready:
            state, reason = "LOADING", "loading"
        else:
            state, reason = "UNLOADING", "draining"
        return [{"name": self.name, "version": self.version, "state": state, "reason": reason}]

    def server_metadata(self) -> dict[str, Any]:
        return {"name": "modelmill", "version": __version__, "extensions": _EXTENSIONS}

    def _live(self) -> dict[str, Any]:
        return {"live": True}

    def require_ready(self) -> dict[str, Any]:
        """What the ready routes answer; RefusedError where new requests are not welcome."""
        self._loaded()
        if not self.counters.ready:
            raise RefusedError(503, "Draining", "the server is about to stop; send new requests to another one")
        if (board := self.counters.board) is not None and not board.ready:
            raise RefusedError(503, "NotReady", "a worker is still loading the model; try again in a second")
        return {"name": self.name, "ready": True}

    def is_ready(self) -> bool:
        try:
            self.require_ready()
        except RefusedError:
            return False
        return True

    def _document(self) -> msgspec.Raw:
        """The OpenAPI document, made when somebody wants it for the first time."""
        servable = self._loaded()
        if not bytes(self._openapi):
            from modelmill_server import openapi  # noqa: PLC0415 - few want it

            document = openapi.document(self.name, self.version, servable.manifest, servable.signature)
            self._openapi = msgspec.Raw(_json(document))
        return self._openapi

    def _loaded(self) -> "Servable":
        if self.servable is None:
            raise RefusedError(503, "NotReady", "the model is not loaded yet; try again in a second")
        return self.servable

    def metadata(self) -> dict[str, Any]:
        servable = self._loaded()
        manifest = servable.manifest
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": _PLATFORMS[manifest.runtime],
            "inputs": [msgspec.to_builtins(tensor) for tensor in manifest.inputs],
            "outputs": [msgspec.to_builtins(tensor) for tensor in manifest.outputs],
            "parameters": {
                "digest": servable.digest,
                "features": [feature.name for feature in manifest.features],
                "classes": list(manifest.classes),
            },
        }


def patience(scope: Scope) -> float | None:
    """How many seconds the caller waits; None where no header says it."""
    asked = [_seconds(value) * _DEADLINES[name] for name, value in scope["headers"] if name in _DEADLINES]
    return min(asked, default=None)


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
