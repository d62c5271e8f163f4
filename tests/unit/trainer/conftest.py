"""A file:// store for each test."""

from pathlib import Path

import pytest

from modelmill_contracts.task import StoreLocation


@pytest.fixture
def store(tmp_path: Path) -> StoreLocation:
    return StoreLocation(f"file://{tmp_path}/store")
