"""The application: routes, limits, and the way of an inference request.

`protocol` calls it for HTTP, `grpc` for gRPC.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from modelmill_contracts import __version__
from modelmill_contracts.counters import COMPUTE_HEADER, ID_HEADER, VERSION_HEADER
from modelmill_contracts.routes import ARM_HEADER, COPY_HEADER, GRPC_PATH, Routes
from modelmill_server import framing, handing, inference, log
from modelmill_server.counters import Counters
from modelmill_server.errors import RefusedError, capture_off, invalid, model_unknown, version_unknown
from modelmill_server.http1 import Answer, Header, Request, Response, ShortCut, never, status_line, value_of
from modelmill_server.inference import Codec, Outcome
from modelmill_server.limits import Limits

if TYPE_CHECKING:  # numpy and onnxruntime come after the ports are open
    from modelmill_server.batching import Batches
    from modelmill_server.capturing import Capture
    from modelmill_server.judging import Form
    from modelmill_server.model import Servable
    from modelmill_server.split import Asked, Split
    from modelmill_server.v2 import Call

_COMPUTE = COMPUTE_HEADER.encode()
_ID, _COPY = ID_HEADER.encode(), COPY_HEADER.encode()
_JSON = b"application/json"
_EXTENSIONS = ("binary_tensor_data",)  # of the Open Inference Protocol
_INDEX = "/v2/repository/index"
_OPENAPI = "/v2/docs/openapi.json"
# Headers that say how long a caller waits: its own, and the one that Envoy and what is built on it send.
_DEADLINES = {b"x-request-timeout": 1.0, b"x-envoy-expected-rq-timeout-ms": 0.001}
_LONGEST = 1e9
_AT_ONCE = 0.01  # seconds: who waits longer is answered in time on the short cut
_PLATFORMS = {"onnx": "onnxruntime_onnx", "skops": "sklearn_skops"}


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
        self.split: Split | None = None  # while a candidate is rolled out
        self.capture: Capture | None = None  # where it is on
        self.limits = limits
        self._batches: Batches | None = None
        self._head: list[Header] = [(VERSION_HEADER.encode(), version.encode())]
        model = f"/v2/models/{name}"
        self._models = (model, f"{model}/versions/{version}")
        self._v1_model = f"/v1/models/{name}"
        infer = [f"{path}/infer" for path in self._models]
        # By path, which codec of the servable's.
        self._predictions = {**dict.fromkeys(infer, "codec"), f"{self._v1_model}:predict": "v1_codec"}
        self._predictions[GRPC_PATH] = "grpc_codec"
        self._labels = frozenset(f"{path}/labels" for path in self._models)
        # Requests with labels wait for the store, and take no room of predictions: they have some of their own.
        self._labelling, self._most_labelling = 0, max(1, limits.in_flight // 4)
        checks: dict[bytes, Callable[[bytes], bool]] = {b"content-encoding": never}
        checks[framing.JSON_SIZE_NAME] = lambda value: framing.known_size(value) is not None
        checks |= {name: functools.partial(self._leaves_time, unit) for name, unit in _DEADLINES.items()}
        checks[ARM_HEADER.encode()] = lambda _: self.split is None
        checks[_COPY] = lambda _: self.capture is None  # which would keep it
        self.short_cut = ShortCut(self._answer_now, limits.body, checks)
        self._response = self._binary_response = b""
        self._others: dict[bytes, tuple[bytes, bytes]] = {}  # the same for answers of other versions
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

    def serve(self, servable: "Servable", capture: "Capture | None" = None) -> None:
        """Become ready."""
        self.capture = capture
        self.servable = servable if capture is None else capture.servable
        if self.counters.bins is not None and servable.row is not None:
            self.counters.bins.copy_from(servable.row)
        self.counters.ready = True
        from modelmill_server.batching import Batches  # noqa: PLC0415 - numpy comes after the ports are open

        self._batches = Batches(servable.runtime, servable.together, self.limits.threads)
        if servable.inline_rows:
            self.short_cut.limit = min(self.limits.body, servable.inline_bytes)
        self._open_short_cut()

    def drain(self) -> None:
        """Say not ready; each caller is asked for a new connection, which will find another pod."""
        self.counters.ready = False
        self._open_short_cut()

    def _open_short_cut(self) -> None:
        """Let through what may take the short cut now: who asks for this very version gets no other one's answer."""
        short_cut, split = self.short_cut, self.split
        is_fast = self.servable is not None and self.servable.inline_rows > 0 and self.counters.ready
        paths = [f"{path}/infer" for path in (self._models if split is None else self._models[:1])]
        short_cut.paths = frozenset(path.encode() for path in paths) if is_fast else frozenset()
        short_cut.split = None if split is None else split.answer

    def route(self, routes: Routes | None) -> None:
        """Let a candidate answer as `routes` say; None: none is rolled out."""
        split = self.split
        if routes is not None:
            from modelmill_server.split import Split, is_of_candidate  # noqa: PLC0415 - few need it, and later

            if is_of_candidate(routes, self.name):
                routes = None
        if split is not None and routes is not None and split.is_of(routes):
            split.set(routes)
            return
        if split is not None:
            split.end()
        if routes is None:
            self.split = None
            self.counters.arms.end()
        else:
            self.split = Split(self, routes)
        self._open_short_cut()

    def set_date(self, date: str) -> None:
        """Set the Date header of answers on the short cut."""
        head = [(b"date", date.encode()), (b"content-type", _JSON), *self._head]
        lines = b"".join(b"%b: %b\r\n" % header for header in head)
        start, end = b"HTTP/1.1 %b\r\n" + lines.replace(b"%", b"%%") + _COMPUTE, b"\r\n\r\n%b"
        self._response = start + b": %.1f\r\ncontent-length: %d" + end
        size = b"\r\n" + framing.JSON_SIZE_NAME + b": %d"
        self._binary_response = self._response.replace(_JSON, framing.BINARY).replace(end, size + end)
        self._others = {}

    # What `protocol` calls.

    def open(self, request: Request) -> Answer | None:
        self.counters.in_flight += 1
        if request.method == "POST":
            if request.path in self._predictions:
                self._admit(request)
                return None
            if request.path in self._labels:
                self._labelling += 1
                self._admit_labels(request)
                return None
            if request.path == _INDEX:
                return None
        found = self._route(request.method, request.path)
        return self._answer_later(found) if isinstance(found, Coroutine) else self._answer(200, _json(found))

    def call(self, request: Request) -> Answer:
        if request.path == _INDEX:
            return self._answer(200, self._index(bytes(request.body)))
        if request.path in self._labels:
            return self._answer_later(self._take_labels(request))
        found = self._predict(request) if self.split is None else self._predict_split(self.split, request)
        return self._answer_outcome(found) if isinstance(found, Outcome) else self._answer_outcome_later(found)

    def refused(self, refusal: RefusedError, request: Request | None = None) -> Response:
        if request is not None and request.method == "POST" and request.path in self._predictions:
            return self._answer_outcome(self.refuse(refusal))
        self.counters.refused(refusal.reason)
        more: list[Header] = []
        if request is not None and refusal.status == 405:
            more.append((b"allow", b"POST" if self._takes_posts(request.path) else b"GET, HEAD"))
        return self._answer(refusal.status, inference.refused(refusal).answer, more)

    def close(self, request: Request, *, gone: bool) -> None:
        self.counters.in_flight -= 1
        if request.method == "POST" and request.path in self._labels:
            self._labelling -= 1
        if gone:
            self.counters.refused("Disconnected")

    # Predictions.

    def _answer_now(self, body: bytes, json_size: int | None) -> bytes:
        """The whole response to an inference request, computed here: the short cut of `protocol`."""
        return self.encoded(self.predict_now(body, json_size))

    def predict_now(self, body: bytes, json_size: int | None) -> Outcome:
        """Answer and count one request of V2 here, of a model that is fast."""
        if self.servable is None:  # the short cut opens when the model is there
            raise AssertionError("the short cut was taken before the model was loaded")
        return self._predict_now(self.servable, self.servable.codec, body, json_size)

    def encoded(self, outcome: Outcome) -> bytes:
        """The whole response, for a connection that stays open."""
        line = status_line(outcome.status)
        answer = outcome.answer
        response, binary = self._response, self._binary_response
        if outcome.version:
            response, binary = self._others.get(outcome.version) or self._of_version(outcome.version)
        if outcome.json_size is None:
            return response % (line, outcome.seconds * 1e6, len(answer), answer)
        return binary % (line, outcome.seconds * 1e6, len(answer), outcome.json_size, answer)

    def _of_version(self, version: bytes) -> tuple[bytes, bytes]:
        own = b"%b: %b\r\n" % self._head[0]
        other = b"%b: %b\r\n" % (self._head[0][0], version.replace(b"%", b"%%"))
        found = (self._response.replace(own, other, 1), self._binary_response.replace(own, other, 1))
        self._others[version] = found
        return found

    def _admit(self, request: Request) -> None:
        """Note what the head of an inference request says; RefusedError where its body is not wanted."""
        self.admit()
        request.json_size = framing.json_size(request.headers)
        request.deadline = self.deadline(patience(request.headers))

    def _admit_labels(self, request: Request) -> None:
        """The same for labels."""
        self._loaded()
        if self._labelling > self._most_labelling:
            raise self.too_many(self._most_labelling, "requests with labels")
        if self.capture is None:
            raise capture_off()
        patience(request.headers)  # which must be one

    def _predict(self, request: Request) -> Outcome | Coroutine[Any, Any, Outcome]:
        """What becomes of an inference request that is whole."""
        servable, capture = self._loaded(), self.capture
        name = self._predictions[request.path]
        if capture is None:
            codec: Codec = getattr(servable, name)
        elif value_of(request.headers, _COPY) is not None:
            codec = getattr(capture.plain, name)
        elif name == "v1_codec":
            codec = capture.v1_codec(value_of(request.headers, _ID))
        else:
            codec = getattr(servable, name)
        return self.predict(codec, bytes(request.body), request.json_size, request.deadline)

    async def _take_labels(self, request: Request) -> Any:
        if self.capture is None:
            raise AssertionError("labels were admitted, and are not taken")
        asked = patience(request.headers)
        left = handing.PATIENCE if asked is None else min(asked, handing.PATIENCE)
        return await self.capture.take_labels(bytes(request.body), left)

    def _predict_split(self, split: "Split", request: Request) -> Outcome | Coroutine[Any, Any, Outcome]:
        """The same while a candidate is rolled out.  Who asks for this very version, gets it."""
        here = functools.partial(self._predict, request)
        form = split.forms.get(request.path)
        return here() if form is None else split.predict(self._asked(form, request), here)

    def _asked(self, form: "Form", request: Request) -> "Asked":
        from modelmill_server.split import Asked  # noqa: PLC0415 - see `route`

        return Asked(form, bytes(request.body), request.json_size, request.headers, request.deadline)

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

        What takes a fast model no time is computed here and now.  Everything else waits until the model is free, until
        `deadline` at most, and may go together with others.
        """
        servable = self.servable
        if servable is None or self._batches is None:
            raise AssertionError("a request was admitted before the model was loaded")
        started = perf_counter()
        call = inference.decode(codec, body, json_size)
        if isinstance(call, Outcome):
            outcome = call
        elif call.rows > servable.inline_rows:
            return self._predict_in_turn(self._batches, codec, call, deadline, started)
        elif deadline is not None and deadline <= asyncio.get_running_loop().time():
            outcome = inference.refused(_late())
        else:
            outcome = inference.compute(servable.runtime, codec, call)
        self._count(outcome, perf_counter() - started)
        return outcome

    def _predict_now(self, servable: "Servable", codec: Codec, body: bytes, json_size: int | None) -> Outcome:
        started = perf_counter()
        outcome = inference.predict(servable, codec, body, json_size)
        seconds = perf_counter() - started
        bins = self.counters.bins
        # What most requests are is counted here, as `_count` would: its call is a tenth of what counting costs.
        if bins is not None and outcome.arrays is bins.answers:
            try:
                bins.add_row(outcome.seconds, seconds)
            except Exception as error:
                self._not_binned(error)
        else:
            self._count(outcome, seconds)
        return outcome

    async def _predict_in_turn(
        self, batches: "Batches", codec: Codec, call: "Call", deadline: float | None, started: float
    ) -> Outcome:
        outcome = await inference.compute_in_turn(batches, codec, call, deadline)
        self._count(outcome, perf_counter() - started)
        return outcome

    def refuse(self, refusal: RefusedError) -> Outcome:
        """Count an inference request that is refused before it is decoded."""
        outcome = inference.refused(refusal)
        self._count(outcome, None)
        return outcome

    def _count(self, outcome: Outcome, seconds: float | None) -> None:
        """Count one inference request; `seconds` from its body's end to its answer, None where it had no body."""
        counters, arrays = self.counters, outcome.arrays
        bins = counters.bins
        if seconds is not None and arrays is not None and outcome.feeds is not None:
            try:
                if bins is not None and arrays is bins.answers:
                    bins.add_row(outcome.seconds, seconds)
                    return
                counters.predicted(outcome.rows, outcome.seconds, seconds)
                if bins is not None:
                    bins.add(outcome.rows, outcome.feeds, arrays)
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
        servable, most = self._loaded(), self.limits.in_flight
        if self.counters.in_flight - self._labelling > most:
            raise self.too_many(most)
        return servable

    def too_many(self, most: int, what: str = "requests") -> RefusedError:
        return RefusedError(429, "QueueFull", f"{most} {what} are in flight already; try again in a second")

    def too_slow(self) -> RefusedError:
        return self.limits.too_slow()

    def too_large(self) -> RefusedError:
        return self.limits.too_large()

    def _leaves_time(self, unit: float, value: bytes) -> bool:
        """Whether a header's value is a time in which anything on the short cut is answered."""
        least = _AT_ONCE if self.split is None else 2 * self.split.patience.seconds  # for the candidate, and then here
        try:
            return _seconds(value) * unit > least
        except RefusedError:
            return False

    # Answers.

    def _answer_outcome(self, outcome: Outcome) -> Response:
        more = [(_COMPUTE, b"%.1f" % (outcome.seconds * 1e6))]
        head = [(self._head[0][0], outcome.version)] if outcome.version else self._head
        if outcome.id:
            more.append((_ID, outcome.id))
        if outcome.json_size is not None:
            more.append((framing.JSON_SIZE_NAME, b"%d" % outcome.json_size))
        kind = _JSON if outcome.json_size is None else framing.BINARY
        return self._answer(outcome.status, outcome.answer, more, kind, head)

    async def _answer_outcome_later(self, found: Coroutine[Any, Any, Outcome]) -> Response:
        return self._answer_outcome(await found)

    async def _answer_later(self, found: Coroutine[Any, Any, Any]) -> Response:
        return self._answer(200, _json(await found))

    def _answer(
        self,
        status: int,
        body: bytes,
        more: Iterable[Header] = (),
        kind: bytes = _JSON,
        head: Iterable[Header] | None = None,
    ) -> Response:
        headers = [(b"content-type", kind), *(self._head if head is None else head), *more]
        if status in (429, 503):
            headers.append((b"retry-after", b"1"))
        return Response(status, body, headers)

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
        return path in self._predictions or path in self._labels or path == _INDEX

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

            document = openapi.document(
                self.name, self.version, servable.manifest, servable.signature, labels=self.capture is not None
            )
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


def patience(headers: Iterable[Header]) -> float | None:
    """How many seconds the caller waits; None where no header says it."""
    asked = [_seconds(value) * _DEADLINES[name] for name, value in headers if name in _DEADLINES]
    return min(asked, default=None)


def _seconds(value: bytes) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < _LONGEST:
        raise invalid("DeadlineInvalid", "a timeout header must be a number, 0 or more; mend or omit it")
    return number


def _late() -> RefusedError:
    return RefusedError(504, "DeadlinePassed", "the request's deadline passed before its body was here; try again")


_json = msgspec.json.Encoder().encode
