"""A real S3 server, as tests see it (the fixture `s3` of conftest.py runs it)."""

from pathlib import Path
from typing import NamedTuple

from modelmill_contracts import environment
from modelmill_contracts.task import StoreLocation


class S3Server(NamedTuple):
    """versitygw over a folder: a bucket is a folder in it."""

    endpoint: str
    access_key: str
    secret_key: str
    folder: Path

    def bucket(self, name: str) -> StoreLocation:
        (self.folder / name).mkdir(exist_ok=True)
        return StoreLocation(f"s3://{name}", self.endpoint)

    def keys(self, secret_key: str | None = None) -> dict[str, str]:
        return {
            environment.STORE_ACCESS_KEY: self.access_key,
            environment.STORE_SECRET_KEY: secret_key or self.secret_key,
        }
