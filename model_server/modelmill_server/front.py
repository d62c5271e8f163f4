"""Front mode: this server before another one, which has the model and speaks V2 or V1 over HTTP.

Callers find here what they find at a server with a model: its limits, refusals, counters, headers and its drain.  The
other server computes.  A prediction's bytes go to it, and come back, as they are; what comes back is read as far as it
has to be to know that it is an answer.

    the other server                                  a caller gets   counted as
    does not answer (see `upstream`)                  502, late: 504  Upstream...
    answers what is no answer of the protocol         502             UpstreamInvalid
    answers 5xx, or that it does not know the model   502             UpstreamFailed
    answers 503, 429, 504                             the same        UpstreamNotReady, UpstreamBusy, UpstreamLate
    refuses the request                               the same        UpstreamRefused

Ready is when the other server says so: it is asked once a second.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import uvloop

from modelmill_server import answers, framing, inference, log, ports
from modelmill_server.answers import UNREADABLE
from modelmill_server.app import App, patience
from modelmill_server.counters import Board, Counters
from modelmill_server.errors import RefusedError, capture_off
from modelmill_server.http1 import Header, Request
from modelmill_server.inference import Outcome
from modelmill_server.life import Life
from modelmill_server.upstream import Response, Upstream, UpstreamError, head

if TYPE_CHECKING:
    from modelmill_server.judging import Form
    from modelmill_server.split import Asked

Protocol = Literal["V2", "V1"]

_POLL_SECONDS, _POLL_SECONDS_UNREADY = 1.0, 0.1
_READY_SECONDS = 1.0  # in which the other server has to say that it is ready
_MISSES = 3  # so often it may be too busy to say it
_METADATA_SECONDS = 5.0
_MAX_ERROR = 4096  # bytes of a refusal that are handed on
_MAX_PROBLEMS = 3  # of those that FastAPI lists
# Of the extensions of V2, those that are in a request's and an answer's body, which is handed on as it is.
_EXTENSIONS = ("binary_tensor_data", "classification", "sequence", "schedule_policy", "parameters")
# Headers that are about one connection, or that are written anew.
_OWN_HEADERS = frozenset(
    (
        *(b"host", b"content-length", b"transfer-encoding", b"expect", b"accept-encoding"),
        *(b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"http2-settings"),
        *(b"proxy-connection", b"proxy-authorization", b"x-request-timeout", b"x-envoy-expected-rq-timeout-ms"),
    )
)
# What the other server finds wrong with a request.  With any other 4xx it is wrong itself: it does not serve the model.
_REFUSALS = (400, 413, 415, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ports.Service):
    """`limits` have a deadline."""

    upstream_host: str
    upstream_port: int
    protocol: Protocol
    max_answer: int  # bytes


def main(settings: Settings) -> int:
    """Serve until a signal says stop; the exit code."""
    try:
        settings, sockets, metrics = ports.bind(settings)
    except OSError as error:
        return ports.fail_to_listen(error)
    board = Board()
    front = Front(settings, board.workers[0])
    return uvloop.run(_Life(front, settings, sockets, metrics, board).run())


class _Life(Life):
    def __init__(self, front: "Front", settings: Settings, *more: Any) -> None:
        super().__init__(front, settings, *more)
        self._front = front

    async def _get_ready(self) -> bool:
        self._watch = asyncio.create_task(self._front.watch())
        return await self._until_stop(asyncio.create_task(self._front.was_ready.wait())) is not None

    def _welcome(self) -> None:
        app = self._front
        log.info("ready", model=app.name, version=app.version, upstream=app.host, seconds=self.age)


class _Ready(msgspec.Struct, gc=False):
    ready: bool | str = True


class _Problem(msgspec.Struct, gc=False):
    """What pydantic finds wrong, without the part of the input that it adds."""

    loc: list[str | int]
    msg: str


class _Error(msgspec.Struct, gc=False):
    error: str = ""
    detail: str | list[_Problem] = ""  # as FastAPI calls it


_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Front(App):
    """Answers for a model that another server has."""

    def __init__(self, settings: Settings, counters: Counters) -> None:
        super().__init__(settings.name, settings.version, settings.limits, counters, settings.arm)
        host = settings.upstream_host
        self.host = f"[{host}]:{settings.upstream_port}" if ":" in host else f"{host}:{settings.upstream_port}"
        self.was_ready = asyncio.Event()
        self._digest = settings.digest or ""
        self._protocol = settings.protocol
        self._upstream = Upstream(host, settings.upstream_port, settings.max_answer)
        self._draining = False
        self._why = "it was not asked yet"  # it is not ready; "": it is
        if settings.protocol == "V2":
            self._predictions = {path: codec for path, codec in self._predictions.items() if codec == "codec"}
            self._target, self._ready_target = f"{self._models[0]}/infer", f"{self._models[0]}/ready"
            about: dict[str, Any] = {"/v2": self._server_metadata, **dict.fromkeys(self._models, self._metadata)}
        else:
            self._predictions = {path: codec for path, codec in self._predictions.items() if codec == "v1_codec"}
            self._target, self._ready_target = f"{self._v1_model}:predict", self._v1_model
            about = {"/v1/models": lambda: {"models": [self.name]}, self._v1_model: self.require_ready}
        self._gets = {
            "/v2/health/live": self._live,
            "/v2/health/ready": self.require_ready,
            **{f"{path}/ready": self.require_ready for path in self._models},
            **about,
        }

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def runtime(self) -> str:
        return f"upstream-{self._protocol.lower()}"

    # Whether it is ready.

    async def watch(self) -> None:
        """Ask the other server again and again whether it is ready."""
        misses = 0
        while True:
            why, missed = await self._ask_ready()
            misses = misses + 1 if missed else 0
            if not missed or misses >= _MISSES or not self.counters.ready:
                self._become(why)
            await asyncio.sleep(_POLL_SECONDS_UNREADY if why else _POLL_SECONDS)

    async def _ask_ready(self) -> tuple[str, bool]:
        """Why it is not ready ("": it is), and whether it was only too slow to say."""
        request = head("GET", self._ready_target, self.host, (), 0)
        try:
            response = await self._upstream.ask(request, asyncio.get_running_loop().time() + _READY_SECONDS)
        except UpstreamError as error:
            return str(error), error.reason == "UpstreamLate"
        if response.status != 200:
            return f"it answers {self._ready_target} with {response.status}", False
        try:
            said = msgspec.json.decode(response.body, type=_Ready).ready
        except UNREADABLE:
            said = True  # its status is its word
        return ("it says that it is not" if str(said).lower() == "false" else ""), False

    def _become(self, why: str) -> None:
        before, self._why = self._why, why
        if self._draining:
            return
        self.counters.ready = not why
        if not self.was_ready.is_set():
            if not why:
                self.was_ready.set()
            elif why != before:
                log.info("waiting for the upstream", upstream=self.host, why=why)
        elif bool(why) is not bool(before):
            (log.warning if why else log.info)(
                f"the upstream is {'not ready any more' if why else 'ready again'}", upstream=self.host, why=why
            )

    def drain(self) -> None:
        self._draining = True
        super().drain()

    def require_ready(self) -> dict[str, Any]:
        if self._draining:
            raise RefusedError(503, "Draining", "the server is about to stop; send new requests to another one")
        if self._why:
            raise self._not_ready()
        return {"name": self.name, "ready": True}

    def _not_ready(self) -> RefusedError:
        return RefusedError(503, "NotReady", f"the model's server is not ready: {self._why}; try again in a second")

    def index(self, *, only_ready: bool) -> list[dict[str, str]]:
        ready = not self._why and not self._draining
        if only_ready and not ready:
            return []
        state, reason = ("UNLOADING", "draining") if self._draining else ("UNAVAILABLE", self._why)
        if ready:
            state, reason = "READY", ""
        return [{"name": self.name, "version": self.version, "state": state, "reason": reason}]

    # What the model is.

    async def _server_metadata(self) -> dict[str, Any]:
        found = await self._about("/v2")
        try:
            extensions = msgspec.json.decode(found.get("extensions", b"[]"), type=list[str])
        except UNREADABLE:
            extensions = []
        return {**found, "extensions": [name for name in extensions if name in _EXTENSIONS]}

    async def _metadata(self) -> dict[str, Any]:
        return {**await self._about(self._models[0]), "name": self.name, "versions": [self.version]}

    async def _about(self, target: str) -> dict[str, msgspec.Raw]:
        """A JSON object that the other server answers a GET with."""
        request = head("GET", target, self.host, (), 0)
        try:
            response = await self._upstream.ask(request, asyncio.get_running_loop().time() + _METADATA_SECONDS)
        except UpstreamError as error:
            raise _unanswered(error) from error
        if response.status != 200:
            raise _refusal(response.status)
        try:
            return _decode_object(response.body)
        except UNREADABLE as error:
            raise _invalid("it is no JSON object") from error

    def _what_is_here(self) -> str:
        return f"the model's server speaks {self._protocol}, and predictions are at {self._target}"

    # Predictions.

    def _admit(self, request: Request) -> None:
        if not self.was_ready.is_set():
            raise self._not_ready()
        if self.counters.in_flight > self.limits.in_flight:
            raise self.too_many(self.limits.in_flight)
        request.json_size = framing.json_size(request.headers)
        request.deadline = self.deadline(patience(request.headers))

    def _admit_labels(self, request: Request) -> None:  # noqa: ARG002
        raise capture_off()

    async def _predict(self, request: Request) -> Outcome:
        body, deadline = bytes(request.body), request.deadline
        if deadline is None:
            raise AssertionError("a front has a deadline for each request")
        if request.json_size is not None and request.json_size > len(body):
            raise framing.size_mismatch(len(body))
        began = perf_counter()
        try:
            asked = self._request(request.headers, body, deadline - asyncio.get_running_loop().time())
            outcome = self._read(await self._upstream.ask(asked, deadline))
        except UpstreamError as error:
            outcome = inference.refused(_unanswered(error))
        except RefusedError as refusal:
            outcome = inference.refused(refusal)
        seconds = perf_counter() - began
        if outcome.status == 200:
            self.counters.predicted(outcome.rows, outcome.seconds, seconds)
        else:
            self._count(outcome, seconds)
        return outcome

    def _request(self, headers: Iterable[tuple[bytes, bytes]], body: bytes, seconds: float) -> bytes:
        """The request as the other server gets it, which may take `seconds` for it."""
        sent = [*_handed_on(headers), (b"x-request-timeout", b"%.3f" % max(0.001, seconds))]
        return head("POST", self._target, self.host, sent, len(body)) + body

    def _asked(self, form: "Form", request: Request) -> "Asked":
        asked = super()._asked(form, request)
        asked.headers, asked.hands_on = _handed_on(request.headers), True
        return asked

    def _read(self, response: Response) -> Outcome:
        """What a caller gets of an answer; RefusedError where it is none."""
        status, body = response.status, response.body
        if response.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _invalid("it is compressed, which nobody asked for")
        if status in _REFUSALS:
            error = (
                _error_in(body) or f"the model's server refused the request with status {status} and did not say why"
            )
            answer = msgspec.json.encode({"error": error})
            return Outcome(status, answer, "UpstreamRefused", response.seconds, error=error)
        if status != 200:
            raise _refusal(status)
        size = None
        if (said := response.headers.get(framing.JSON_SIZE_NAME)) is not None:
            size = framing.known_size(said)
            if size is None or size > len(body):
                raise _invalid(f"its header {framing.JSON_SIZE_HEADER} is wrong")
        try:
            rows = answers.rows_of_v2(body, size) if self._protocol == "V2" else answers.rows_of_v1(body)
        except UNREADABLE as error:
            raise _invalid(f"it is no prediction of {self._protocol}") from error
        # What it claims to be rows has at least as many bytes.
        return Outcome(200, body, "", response.seconds, rows if 0 <= rows <= len(body) else 0, "", size)


def _handed_on(headers: Iterable[Header]) -> list[Header]:
    """The headers that the other server gets, too."""
    named = {value.strip().lower() for name, values in headers if name == b"connection" for value in values.split(b",")}
    return [header for header in headers if header[0] not in _OWN_HEADERS and header[0] not in named]


def _error_in(body: bytes) -> str:
    """The text of an error, "" where there is none that is as short as a text for people."""
    if len(body) > _MAX_ERROR:
        return ""
    try:
        said = msgspec.json.decode(body, type=_Error)
    except UNREADABLE:
        return ""
    if said.error or isinstance(said.detail, str):
        return said.error or str(said.detail)
    problems = said.detail[:_MAX_PROBLEMS]
    return "; ".join(f"{'.'.join(map(str, problem.loc))}: {problem.msg}" for problem in problems)


def _unanswered(error: UpstreamError) -> RefusedError:
    status = 504 if error.reason == "UpstreamLate" else 502
    return RefusedError(status, error.reason, f"the model's server gave no answer: {error}")


def _invalid(what: str) -> RefusedError:
    return RefusedError(502, "UpstreamInvalid", f"the model's server answered with something else: {what}")


def _refusal(status: int) -> RefusedError:
    """What the caller is told of a status that says nothing of the request."""
    if status == 429:
        return RefusedError(429, "UpstreamBusy", "the model's server is busy; try again in a second")
    if status == 503:
        return RefusedError(503, "UpstreamNotReady", "the model's server is not ready; try again in a second")
    if status == 504:
        return _unanswered(UpstreamError("UpstreamLate", "it gave up at the request's deadline"))
    what = f"the model's server failed with status {status}"
    if status in (404, 405):
        what += ": it does not serve the model by that name, or speaks another protocol"
    return RefusedError(502, "UpstreamFailed", f"{what}; see its log")
