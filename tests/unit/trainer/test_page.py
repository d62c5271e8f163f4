"""The page of a version, in a real browser: it is drawn, it fits a phone, and it asks for nothing."""

import random
from pathlib import Path

import browser
import pytest
from trainer_tasks import csv, snapshot

from modelmill_contracts.report import SnapshotResult
from modelmill_contracts.store import blob_key
from modelmill_contracts.task import StoreLocation

HEADER = 'age,income,city,member,day,email,empty,constant,<b>odd</b> & "name"'
SECRET = "person{}@example.org"


def _rows(count: int, seed: int, shift: float = 0) -> list[str]:
    draw = random.Random(seed)
    return [
        f"{int(draw.gauss(40 + shift, 12))},{'' if draw.random() < 0.1 else draw.lognormvariate(10, 0.5)},"
        f"{draw.choice(['Berlin', 'Paris', 'Oslo'])},{draw.random() < 0.3},2026-01-{draw.randint(1, 28):02},"
        f"{SECRET.format(row)},,7,<script>document.title='run'</script>"
        for row in range(count)
    ]


def _page(store: StoreLocation, tmp_path: Path, found: SnapshotResult) -> str:
    del store
    assert found.page
    return (tmp_path / "store" / blob_key(found.page)).read_text()


@pytest.fixture
def page(store: StoreLocation, tmp_path: Path) -> str:
    before = snapshot(store, csv(tmp_path / "before.csv", HEADER, _rows(2000, 1)))
    after = snapshot(
        store,
        csv(tmp_path / "after.csv", HEADER + ",new", [f"{row},1" for row in _rows(2500, 2, 15)]),
        previous=before.profile,
    )
    return _page(store, tmp_path, after)


LOOK = """
    cards: all(".card").length, columns: [...all("h2")].map(h => h.innerText),
    moved: [...all(".moved h2")].map(h => h.innerText), lines: all("path").length,
    drawn: boxes("rect").filter(box => box.width > 0 && box.height > 0).length, bars: all("rect").length,
    radius: getComputedStyle(one(".card")).borderRadius,
"""


@pytest.mark.parametrize("width", [360, 1280])
def test_what_a_browser_shows(chromium: str, tmp_path: Path, page: str, width: int) -> None:
    seen = browser.seen(chromium, tmp_path, page, width, LOOK)
    assert seen["columns"] == [
        *("age", "income", "city", "member", "day", "email", "empty", "constant", '<b>odd</b> & "name"', "new"),
    ]
    assert (seen["cards"], seen["moved"]) == (10, ["age"])
    assert seen["drawn"] == seen["bars"] > 60
    assert seen["lines"] == 4  # the previous version's age, income, day and constant
    assert (seen["wide"], seen["inside"], seen["radius"]) == (0, True, "10px")
    assert (seen["scripts"], seen["loaded"]) == (0, 0)
    assert seen["title"].startswith("Data profile sha256:")
    for words in (
        "2,500\nrows (+500)",
        "New columns: new.",
        "Berlin",
        "No value is frequent",
        "No value: 2,500 missing.",
    ):
        assert words in seen["text"]


def test_it_names_no_value_that_is_not_frequent(page: str) -> None:
    assert "example.org" not in page
    assert "&lt;script&gt;" in page  # one that is, is text
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 30_000


def test_thousands_of_columns_make_a_page_that_opens(store: StoreLocation, tmp_path: Path, chromium: str) -> None:
    source = csv(tmp_path / "wide.csv", ",".join(f"c{place}" for place in range(2000)), [",".join(["0.5"] * 2000)] * 3)
    page = _page(store, tmp_path, snapshot(store, source))
    assert len(page) < 1_000_000
    seen = browser.seen(chromium, tmp_path, page, 1280, LOOK)
    assert seen["cards"] == 500
    assert "500 of 2,000 columns are shown, those that moved most first." in seen["text"]


def test_a_version_without_a_previous_one_or_without_rows(store: StoreLocation, tmp_path: Path) -> None:
    from modelmill_contracts.task import Expectations

    first = _page(store, tmp_path, snapshot(store, csv(tmp_path / "a.csv", HEADER, _rows(10, 1))))
    assert "previous" not in first
    empty = snapshot(store, csv(tmp_path / "b.csv", "x", []), expectations=Expectations(min_rows=0))
    assert "No value: 0 missing." in _page(store, tmp_path, empty)
