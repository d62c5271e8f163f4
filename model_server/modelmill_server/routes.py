"""The routes file, looked at again and again: kubelet swaps it in its folder by a rename, so it is always whole.

A file that is not there means that nothing is rolled out.  One that cannot be read, or that is newer than this program,
changes nothing: the last good routes stay.
"""

from pathlib import Path

from modelmill_contracts import routes
from modelmill_contracts.routes import Routes
from modelmill_server import log

LOOK_SECONDS = 0.5


class RoutesFile:
    """The file in `folder`; `routes` are the last good ones."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / routes.FILE
        self._seen: tuple[int, ...] | None = None  # what tells this file from the next one
        self._complaint = ""
        self.routes: Routes | None = None

    def look(self) -> bool:
        """Read the file if it is another one than before; whether the routes changed."""
        before = self.routes
        try:
            found = self._path.stat()
            seen = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return False
            with self._path.open("rb") as file:
                text = file.read(routes.LIMIT + 1)
            if len(text) > routes.LIMIT:
                raise ValueError(f"it is over {routes.LIMIT} bytes")
            self._seen = seen
            self.routes = routes.decode(text)
        except (FileNotFoundError, NotADirectoryError):
            self._seen = self.routes = None
        except OSError as error:
            self._complain(error.strerror or "it cannot be read")
            return False
        except ValueError as error:
            self._seen = seen
            self._complain(str(error))
            return False
        self._complaint = ""
        return self.routes != before

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            self._complaint = why
            log.error("the routes cannot be read; the last good ones stay", file=str(self._path), why=why)
