"""Answers of a candidate that are known as a whole: read as the parser reads them; all else is left to it."""

import asyncio

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill_server.app import App
from modelmill_server.counters import Counters
from modelmill_server.inference import Outcome
from modelmill_server.judging import Form, glance, judge
from modelmill_server.limits import Limits
from modelmill_server.upstream import Response, Upstream

BODY = b'{"model_name":"model","outputs":[{"name":"predict","datatype":"INT64","shape":[1],"data":[1]}]}'
FORM = Form("/v2/models/model/infer", lambda body, _: len(body), lambda *_: {})


def shipped(body: bytes = BODY, version: str = "7") -> bytes:
    """What the server answers on its short cut."""
    app = App("model", version, Limits(), Counters())
    app.set_date("Sun, 29 Nov 2026 18:33:01 GMT")
    return app.encoded(Outcome(200, body, "", 12.34e-6))


class Parsed:
    """The same by the parser, whatever it is."""

    def __init__(self, answer: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.whole = 0
        self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(answer)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1


def test_what_our_server_answers_is_known_and_judged_as_the_parser_would() -> None:
    answer = shipped()
    found = glance(answer)
    assert found is not None
    parsed = Parsed(answer)
    assert found[1] == parsed.body == BODY
    verdicts = [judge(FORM, Response(200, headers, BODY, 1.0)) for headers in (found[0], parsed.headers)]
    assert verdicts[0] == verdicts[1]
    assert isinstance(verdicts[0], Outcome)
    assert (verdicts[0].seconds, verdicts[0].version) == (12.3e-6, b"7")


@pytest.mark.parametrize(
    "answer",
    [
        shipped()[:-1],
        shipped() + b"x",
        shipped() + shipped(),
        shipped().replace(b"200 OK", b"500 Internal Server Error"),
        shipped().replace(b"content-length", b"transfer-encoding: chunked\r\ncontent-length"),
        shipped().replace(b"content-length", b"connection: close\r\ncontent-length"),
        shipped().replace(b"content-length", b"content-encoding: gzip\r\ncontent-length"),
        shipped().replace(b"date: ", b" date: "),
        shipped(version="7\r\nx: y"),
        b"",
    ],
)
def test_everything_else_is_left_to_the_parser(answer: bytes) -> None:
    assert glance(answer) is None


@given(st.binary(max_size=50), st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=500, deadline=None)
def test_whatever_is_known_the_parser_reads_alike(inserted: bytes, start: int, end: int) -> None:
    answer = shipped()
    changed = answer[:start] + inserted + answer[max(start, end) :]
    found = glance(changed)
    if found is not None:
        parsed = Parsed(changed)
        assert (found[1], 1) == (parsed.body, parsed.whole)
        assert found[0].items() <= parsed.headers.items()


def test_a_connection_is_used_again_after_either() -> None:
    answers = [shipped(b"{}"), shipped(b"[]").replace(b"date", b"Date"), shipped(b"12"), shipped(b"34")]
    pieces = [[answers[0]], [answers[1]], [answers[2][:70], answers[2][70:]], [answers[3]]]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in pieces:
            await reader.readexactly(1)
            for piece in answer:
                writer.write(piece)
                await asyncio.sleep(0.01)
        writer.close()

    async def run() -> list[bytes]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            client = Upstream("127.0.0.1", server.sockets[0].getsockname()[1], 1000, glance=glance)
            deadline = asyncio.get_running_loop().time() + 10
            bodies = [(await client.ask(b"?", deadline)).body for _ in answers]
            client.close()
            return bodies

    assert asyncio.run(run()) == [b"{}", b"[]", b"12", b"34"]
