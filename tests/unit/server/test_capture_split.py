"""While a candidate is rolled out, who computes a prediction captures it, once, under the id that the caller has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artifacts import Made
from calls import infer, request, tensor
from captures import Writer, folder_store, stored
from serving import Server, binary, matrix
from splitting import CANDIDATE, STABLE, Stable, candidate, stable, to, until

from modelmill_contracts.captured import ROWS
from modelmill_contracts.task import StoreLocation

PREDICT = "/v1/models/model:predict"


class Rollout:
    """A stable and a candidate, both of which capture everything into one store."""

    def __init__(self, made: Made, server: Stable, other: Server, store: StoreLocation) -> None:
        self.made, self.server, self.other, self.store = made, server, other, store

    def ask_all(self) -> set[str]:
        """One request of each form, of three rows each; the ids that the answers have."""
        rows = self.made.rows[:3].astype(np.float32)
        named, data = binary(rows)
        body = {"instances": rows.tolist()}
        headers = {"modelmill-prediction-id": "named"}
        answers = [
            self.server.infer(matrix(rows)).json["id"],
            self.server.infer(matrix(rows), id="mine").json["id"],
            self.server.infer_binary({"inputs": [named]}, data).json["id"],
            infer(self.server, request(tensor("input", "FP32", [3, 30], rows.ravel().tolist()))).id,
            self.server.ask("POST", PREDICT, body).headers["modelmill-prediction-id"],
            self.server.ask("POST", PREDICT, body, headers).headers["modelmill-prediction-id"],
        ]
        assert len(set(answers)) == 6
        return set(answers)

    def captured(self) -> dict[str, list[tuple[str, int]]]:
        """By version that computed it, id and row of each record."""
        found: dict[str, list[tuple[str, int]]] = {}
        for _, header, records in stored(self.store, ROWS):
            found.setdefault(header.version, []).extend((row.id, row.row) for row in records)
        return found


@pytest.fixture
def rollout(cancer: Made, tmp_path: Path) -> Iterator[Rollout]:
    store = folder_store(tmp_path / "store")
    writers = [Writer(tmp_path / f"{name}", store, {}, 0.1) for name in "ab"]
    for writer in writers:
        writer.wait_for("taking what is captured")
    options = [("--capture=1", f"--capture-socket={tmp_path / name}") for name in "ab"]
    try:
        with (
            candidate(cancer, *options[1]) as other,
            stable(cancer, tmp_path / "routes", *options[0]) as server,
        ):
            yield Rollout(cancer, server, other, store)
    finally:
        for writer in writers:
            writer.end()


def whole(ids: set[str]) -> list[tuple[str, int]]:
    return sorted((id_, row) for id_ in ids for row in range(3))


def test_the_candidate_captures_what_it_answers(rollout: Rollout) -> None:
    rollout.server.follow(to(rollout.other.port, 100))
    ids = rollout.ask_all()
    if rollout.server.counted().fallbacks:
        pytest.skip("the machine was too slow for the candidate's deadline")
    until(lambda: len(rollout.captured().get(CANDIDATE, [])) == 18, "everything is written")
    assert {key: sorted(found) for key, found in rollout.captured().items()} == {CANDIDATE: whole(ids)}


def test_copies_are_not_captured(rollout: Rollout) -> None:
    rollout.server.follow(to(rollout.other.port, 0, shadow=100))
    ids = rollout.ask_all()

    def shadow() -> Any:
        found = rollout.server.counted().shadow
        assert found is not None
        return found

    until(lambda: shadow().stable.requests + shadow().dropped == 6, "all copies are through")
    assert shadow().candidate.requests > 0
    until(lambda: len(rollout.captured().get(STABLE, [])) == 18, "everything is written")
    mark = rollout.other.infer(matrix(rollout.made.rows[:1])).json["id"]
    until(lambda: rollout.captured().get(CANDIDATE) == [(mark, 0)], "what came after the copies is written")
    assert sorted(rollout.captured()[STABLE]) == whole(ids)
