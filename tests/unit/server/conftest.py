"""The artifacts and the servers that many tests share: what lives for all of them is read only."""

from collections.abc import Iterator
from pathlib import Path

import artifacts
import pytest
from artifacts import Made
from serving import Server, serving
from splitting import Stable, candidate, stable


@pytest.fixture(scope="session")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return artifacts.cancer(tmp_path_factory.mktemp("cancer") / "model")


@pytest.fixture(scope="session")
def cancer_with_gaps(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return artifacts.cancer(tmp_path_factory.mktemp("gaps") / "model", missing=True)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return artifacts.mixed(tmp_path_factory.mktemp("mixed") / "model")


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return artifacts.regression(tmp_path_factory.mktemp("regression") / "model")


@pytest.fixture(scope="session")
def boosted(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return artifacts.boosted(tmp_path_factory.mktemp("boosted") / "model")


@pytest.fixture(scope="session")
def every_datatype(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return artifacts.every_datatype(tmp_path_factory.mktemp("every") / "model")


@pytest.fixture(scope="session")
def cancer_server(cancer: Made) -> Iterator[Server]:
    with serving(cancer) as server:
        yield server


@pytest.fixture(scope="session")
def mixed_server(mixed: Made) -> Iterator[Server]:
    with serving(mixed) as server:
        yield server


@pytest.fixture(scope="session")
def every_datatype_server(every_datatype: Made) -> Iterator[Server]:
    with serving(every_datatype) as server:
        yield server


@pytest.fixture(scope="module")
def other(cancer: Made) -> Iterator[Server]:
    """The candidate of a rollout: version 8."""
    with candidate(cancer) as server:
        yield server


@pytest.fixture
def server(cancer: Made, tmp_path: Path) -> Iterator[Stable]:
    """The stable of a rollout, with no routes yet; other tests have a `server` of their own."""
    with stable(cancer, tmp_path / "routes") as server:
        yield server
