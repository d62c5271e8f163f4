"""Stands between an operator and the API server, and answers nonsense for one kind."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
from aiohttp import web
from incarnation import connection

from modelmill.shell import login

ANSWERS: dict[str, Callable[[], web.Response]] = {
    "a page": lambda: web.Response(text="<html>Please log in</html>", content_type="text/html"),
    "an error": lambda: web.Response(status=500, text="out of order"),
    "a list of nothing": lambda: web.json_response({"metadata": {"resourceVersion": "1"}, "items": [{}]}),
    "half an answer": lambda: web.Response(text='{"items": [{"metad', content_type="application/json"),
}


class Between:
    """A proxy for one test; its kubeconfig needs no credentials."""

    def __init__(self) -> None:
        self.nonsense: str | None = None  # one of ANSWERS
        self.asked = 0  # how often nonsense was the answer

    async def start(self, config: str, folder: Path) -> str:
        """Start answering; the kubeconfig that leads here."""
        configuration = await connection(config)
        self._host = configuration.host
        connector = aiohttp.TCPConnector(ssl=login.tls(configuration), limit=0)
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
                    "users": [{"name": "anybody", "user": {}}],
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
        kept = {name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers}
        body, timeout = await request.read(), aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, self._host + request.path_qs, data=body or None, headers=kept, timeout=timeout
        ) as upstream:
            answer = web.StreamResponse(status=upstream.status, headers={"Content-Type": upstream.content_type})
            with contextlib.suppress(ConnectionError):  # whoever asked has gone
                await answer.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await answer.write(chunk)
                await answer.write_eof()
            return answer
