"""Stands between an operator and the API server: answers nonsense for one kind, or keeps back the news of some."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from incarnation import connection

ANSWERS: dict[str, Callable[[], web.Response]] = {
    "a page": lambda: web.Response(text="<html>Please log in</html>", content_type="text/html"),
    "an error": lambda: web.Response(status=500, text="out of order"),
    "a list of nothing": lambda: web.json_response({"metadata": {"resourceVersion": "1"}, "items": [{}]}),
    "half an answer": lambda: web.Response(text='{"items": [{"metad', content_type="application/json"),
}


_KEPT = ("Accept", "Content-Type", "Authorization", "User-Agent")


class Between:
    """A proxy for one test; its kubeconfig needs no more credentials than a token, where the other one has one."""

    def __init__(self) -> None:
        self.nonsense: str | None = None  # one of ANSWERS
        self.asked = 0  # how often nonsense was the answer
        self.held: frozenset[str] = frozenset()  # plurals of whose objects no watch tells anything

    async def start(self, config: str, folder: Path) -> str:
        """Start answering; the kubeconfig that leads here."""
        info = (await connection(config)).info
        user = {"token": token} if (token := _token(config)) else {}
        self._host = info.server
        connector = aiohttp.TCPConnector(ssl=info.as_ssl_context(), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        server = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        path = folder / "between"
        path.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "between", "cluster": {"server": server}}],
                    "users": [{"name": "anybody", "user": user}],
                    "contexts": [{"name": "it", "context": {"cluster": "between", "user": "anybody"}}],
                    "current-context": "it",
                }
            )
        )
        return str(path)

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.nonsense is not None and "/datasets" in request.path:
            self.asked += 1
            return ANSWERS[self.nonsense]()
        kept = {name: request.headers[name] for name in _KEPT if name in request.headers}
        watched = request.path.rpartition("/")[2] if request.query.get("watch") else ""
        body, timeout = await request.read(), aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, self._host + request.path_qs, data=body or None, headers=kept, timeout=timeout
        ) as upstream:
            answer = web.StreamResponse(status=upstream.status, headers={"Content-Type": upstream.content_type})
            with contextlib.suppress(ConnectionError):  # whoever asked has gone
                await answer.prepare(request)
                async for chunk in upstream.content.iter_any():
                    while watched in self.held:
                        await asyncio.sleep(0.05)
                    await answer.write(chunk)
                await answer.write_eof()
            return answer

    @contextlib.contextmanager
    def holding(self, plural: str) -> Iterator[None]:
        """Nobody hears of objects of this kind by a watch meanwhile, and of all of them afterwards."""
        self.held = frozenset({plural})
        try:
            yield
        finally:
            self.held = frozenset()


def _token(config: str) -> str | None:
    (user,) = yaml.safe_load(Path(config).read_text())["users"]
    token: str | None = user["user"].get("token")
    return token


@contextlib.contextmanager
def standing_between(config: str, folder: Path) -> Iterator[tuple[Between, Path]]:
    """A proxy that runs in a thread of its own, and its kubeconfig."""
    loop, proxy = asyncio.new_event_loop(), Between()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        path = asyncio.run_coroutine_threadsafe(proxy.start(config, folder), loop).result(30)
        yield proxy, Path(path)
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
