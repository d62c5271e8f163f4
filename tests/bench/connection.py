"""The benchmark's own connection to an API server: as lean as it gets, since it runs on the CPUs that are measured."""

import base64
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]


class Connection:
    """One kept-alive HTTPS connection with the token of a local cluster's kubeconfig."""

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig
        config = yaml.safe_load(Path(kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        self._authorization = f"Bearer {user['token']}"
        self._connection = http.client.HTTPSConnection(urllib.parse.urlsplit(cluster["server"]).netloc, context=context)

    def ask(self, method: str, path: str, body: Json | None = None, content_type: str = "application/json") -> Json:
        """One request; its answer, or RuntimeError where the API server refuses."""
        answer = self._send(method, path, body, content_type)
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()}")
        found: Json = json.loads(text)
        return found

    def patch(self, path: str, body: Json) -> Json:
        return self.ask("PATCH", path, body, "application/merge-patch+json")

    def watch(self, path: str) -> Iterator[Json]:
        """The objects that change from now on."""
        since = self.ask("GET", f"{path}?limit=1")["metadata"]["resourceVersion"]
        answer = self._send("GET", f"{path}?watch=true&resourceVersion={since}", None, "application/json")
        for line in answer:
            yield json.loads(line)["object"]

    def create(self, collection: str, manifests: Sequence[Json], connections: int = 4) -> None:
        """Create objects, over several connections at the same time."""

        def one(part: Sequence[Json]) -> None:
            own = Connection(self._kubeconfig)
            for manifest in part:
                own.ask("POST", collection, manifest)

        with ThreadPoolExecutor(connections) as pool:
            for done in [pool.submit(one, manifests[i::connections]) for i in range(connections)]:
                done.result()

    def _send(self, method: str, path: str, body: Json | None, content_type: str) -> http.client.HTTPResponse:
        headers = {"Content-Type": content_type, "User-Agent": "bench", "Authorization": self._authorization}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        return self._connection.getresponse()
