"""The page of an Experiment, in a real browser: it is drawn, it fits a phone, and it asks for nothing."""

from pathlib import Path

import browser
import pytest
from msgspec.structs import replace
from trainer_tasks import run

from modelmill_contracts import digest
from modelmill_contracts.report import SearchPageResult
from modelmill_contracts.space import Dimension
from modelmill_contracts.store import blob_key
from modelmill_contracts.task import PlacedTrial, SearchPageTask, StoreLocation
from modelmill_trainer import search_page

SPACE = (
    Dimension("forest__depth", whole=True, low=1, high=40),
    Dimension("forest__rate", low=0.001, high=1, log=True),
    Dimension("forest__kind", choices=('"<b>gini</b>"', '"entropy"')),
    Dimension("forest__only", low=0, high=1, when=("forest__kind", '"entropy"')),
)
LOOK = """
    headings: [...all("h2")].map(h => h.innerText), rows: all("tr").length, best: one("tr.best").innerText,
    points: boxes("circle").filter(box => box.width > 0 && box.height > 0).length, lines: all("path").length,
    bars: [...all(".value > span")].map(bar => bar.innerText), bold: all("td b").length,
"""


def trials(count: int) -> tuple[PlacedTrial, ...]:
    """The depth decides, and nothing else does; each seventh failed, each fifth was stopped."""
    found = []
    for number in range(1, count + 1):
        state = "Failed" if number % 7 == 0 else "Stopped" if number % 5 == 0 else "Succeeded"
        kind = SPACE[2].choices[number % 2]
        values = (str(number % 40 + 1), "0.5", kind, "0.25" if number % 2 else None)
        value = None if state == "Failed" else 0.9 + (number % 40) / 1000
        found.append(PlacedTrial(number, state, values, value, 0.01, 1000 * number))
    return tuple(found)


def asked(store: StoreLocation, count: int = 60) -> SearchPageTask:
    why = "forests-1 has the same value, and the model of forests-39 is smaller"
    return SearchPageTask(store, "forests", "roc_auc", True, "TPE", SPACE, trials(count), 39, why)


@pytest.mark.parametrize("width", [360, 1280])
def test_what_a_browser_shows(chromium: str, tmp_path: Path, store: StoreLocation, width: int) -> None:
    seen = browser.seen(chromium, tmp_path, search_page.page(asked(store)), width, LOOK)
    assert seen["headings"] == ["History", "Importance", "Trials"]
    assert (seen["rows"], seen["lines"]) == (61, 1)
    assert seen["points"] == 60 - 8  # what failed has no value
    assert seen["bars"][0] == "forest__depth"
    assert "<b>gini</b>" in seen["text"]  # as text
    assert seen["bold"] == 0
    assert seen["best"].split()[:2] == ["39", "Succeeded"]
    assert "the model of forests-39 is smaller" in seen["text"]
    assert (seen["scripts"], seen["loaded"]) == (0, 0)
    assert seen["wide"] <= 0
    assert seen["inside"]


def test_importance_finds_what_decides() -> None:
    shares = search_page.importance(SPACE, [t for t in trials(60) if t.state == "Succeeded"])
    assert shares["forest__depth"] > 0.95
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["forest__rate"] == 0


@pytest.mark.parametrize("diverged", [1e200, -1e308])
def test_a_trial_that_diverged_hides_nothing_and_breaks_nothing(diverged: float) -> None:
    succeeded = [t for t in trials(60) if t.state == "Succeeded"]
    shares = search_page.importance(SPACE, [replace(succeeded[0], value=diverged), *succeeded[1:]])
    assert shares["forest__depth"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


def test_the_page_lies_in_the_store_under_its_digest_and_is_the_same_each_time(
    store: StoreLocation, tmp_path: Path
) -> None:
    made = {run(asked(store)).result for _ in range(2)}
    (result,) = made
    assert isinstance(result, SearchPageResult)
    written = (tmp_path / "store" / blob_key(result.page)).read_bytes()
    assert digest.of_bytes(written) == result.page


def test_few_trials_make_a_page_too(store: StoreLocation) -> None:
    page = search_page.page(replace(asked(store, 1), best=None))
    assert "It takes 10 trials with a result to tell; there are 1." in page
    nothing = replace(asked(store, 0), best=None, why="")
    assert "Trials" in search_page.page(nothing)
