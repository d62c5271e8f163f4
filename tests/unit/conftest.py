"""Fixtures that several folders share: a real S3 server on loopback, a real PostgreSQL on a socket."""

import pinned  # noqa: F401 - before numpy is imported

# isort: split

from collections.abc import Iterator

import pytest
import s3_server
from s3_server import S3Server

import postgres_server
from postgres_server import PostgresServer
from programs import installed


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server without buckets."""
    with s3_server.running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a real browser."""
    return installed("chromium")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL on a socket."""
    with postgres_server.running() as server:
        yield server
