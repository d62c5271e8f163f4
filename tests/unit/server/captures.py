"""A pod with capture, as far as it matters: a server, the process that writes beside it, and the store."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from artifacts import Made
from serving import Answer, Process, Server
from splitting import until

from modelmill_contracts import captured, environment
from modelmill_contracts.captured import LABELS, ROWS, Label, Row, RowsHeader
from modelmill_contracts.store import Store
from modelmill_contracts.task import StoreLocation

OF = "0b5a3f9e-1111-4222-8333-944445555666"
LABELS_PATH = "/v2/models/model/labels"


class Writer(Process):
    """`modelmill-server capture`."""

    def __init__(self, socket: Path, location: StoreLocation, keys: dict[str, str], age: float) -> None:
        variables = {environment.STORE_LOCATION: msgspec.json.encode(location).decode(), **keys}
        super().__init__("capture", OF, "--socket", str(socket), "--age", str(age), variables=variables)


class Pod:
    """`server` and `writer` may be killed and started again."""

    def __init__(
        self,
        made: Made,
        location: StoreLocation,
        *options: str,
        keys: dict[str, str] | None = None,
        age: float = 0.2,
        share: str = "1",
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="modelmill-")
        self.socket = Path(self._folder.name) / "socket"
        self._writing = (self.socket, location, keys or {}, age)
        self._made = made
        self._options = (f"--capture={share}", f"--capture-socket={self.socket}", "--drain-seconds=0", *options)
        self.start_writer()
        self.start_server()

    def start_writer(self) -> None:
        self.writer = Writer(*self._writing)
        self.writer.wait_for("taking what is captured")

    def start_server(self) -> None:
        self.server = Server(self._made.folder, "--digest", self._made.digest, *self._options)
        self.server.wait_for("ready")
        self.wait_until_connected()

    def wait_until_connected(self) -> None:
        until(lambda: self.metric("modelmill_capture_connected") == 1, "the server has found what writes")

    def metric(self, name: str, **labels: str) -> float:
        """A number of the server's metrics; 0 where there is none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [
            value
            for line, value in self.server.metrics().items()
            if line.partition("{")[0] == name and all(one in line for one in wanted)
        ]
        return sum(found)

    def label(self, *labels: dict[str, Any]) -> Answer:
        return self.server.ask("POST", LABELS_PATH, {"labels": list(labels)})

    def end(self) -> None:
        for process in (self.server, self.writer):
            with suppress(AttributeError):
                process.end()
        self._folder.cleanup()


@contextmanager
def pod(made: Made, location: StoreLocation, *options: str, **more: Any) -> Iterator[Pod]:
    found = Pod(made, location, *options, **more)
    try:
        yield found
    finally:
        found.end()


def folder_store(folder: Path) -> StoreLocation:
    folder.mkdir(exist_ok=True)
    return StoreLocation(f"file://{folder}")


def stored(location: StoreLocation, kind: str, keys: dict[str, str] | None = None) -> list[tuple[str, Any, list[Any]]]:
    """Key, header and records of each segment, in their order."""
    store = Store(location, os.environ if keys is None else keys)
    found = [key for key in store.keys(captured.folder(OF, kind)) if captured.parse_key(key) is not None]
    return [(key, *captured.unpack(store.get(key, captured.MAX_BYTES))) for key in found]


def rows(location: StoreLocation, keys: dict[str, str] | None = None) -> list[Row]:
    return [row for _, _, records in stored(location, ROWS, keys) for row in records]


def header(location: StoreLocation) -> RowsHeader:
    found: RowsHeader = stored(location, ROWS)[0][1]
    return found


def labels(location: StoreLocation, keys: dict[str, str] | None = None) -> dict[tuple[str, int], Label]:
    """The first label of each (id, row)."""
    found: dict[tuple[str, int], tuple[int, str, Label]] = {}
    for key, _, records in stored(location, LABELS, keys):
        for label in records:
            name, candidate = (label.id, label.row), (label.at, key, label)
            if name not in found or candidate[:2] < found[name][:2]:
                found[name] = candidate
    return {name: label for name, (_, _, label) in found.items()}
