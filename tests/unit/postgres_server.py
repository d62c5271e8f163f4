"""A real PostgreSQL, as tests see it (the fixture `postgres` of conftest.py runs it)."""

import subprocess
from pathlib import Path
from typing import NamedTuple

OWNER, READER, PASSWORD = "owner", "reader", "s3cr3t-of-the-reader"


class PostgresServer(NamedTuple):
    """It listens on a socket in `folder` only."""

    folder: Path
    psql: str

    def url(self, user: str = READER, password: str = PASSWORD, database: str = "postgres") -> str:
        return f"postgresql://{user}:{password}@/{database}?host={self.folder}"

    def run(self, sql: str) -> None:
        """Run statements as the owner."""
        command = [self.psql, "--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", self.url(OWNER), "-c", sql]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
