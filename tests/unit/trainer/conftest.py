"""A file:// store for each test."""

import os
from pathlib import Path

import pytest

from modelmill_contracts.task import StoreLocation
from modelmill_trainer.pins import pin

pin(os.environ)  # as the container does, before numpy is imported


@pytest.fixture
def store(tmp_path: Path) -> StoreLocation:
    return StoreLocation(f"file://{tmp_path}/store")
