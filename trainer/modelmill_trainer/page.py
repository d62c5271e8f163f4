"""The page of a version: its profile for people, as one HTML file that needs nothing else.

Of text columns it shows the frequent values that the profile names, and no other.
"""

import html
from collections.abc import Mapping

from modelmill_contracts import html_frame
from modelmill_trainer import column_cards
from modelmill_trainer.column_cards import MOVED
from modelmill_trainer.data_profile import DataProfile

_CARDS = 500  # of more columns, those that moved most are shown


def page(profile: DataProfile, previous: DataProfile | None, effects: Mapping[str, float], version: str) -> str:
    """The page of the version; `effects` of its columns against the `previous` one."""
    shown = column_cards.most_moved(profile, effects, _CARDS)
    body = (
        f"{_facts(profile, previous, effects)}{_notes(profile, previous, len(shown))}"
        f"{column_cards.cards(shown, profile, previous, effects)}"
    )
    return html_frame.document(f"Data profile {version[:19]}", "Data profile", version, body)


def _facts(profile: DataProfile, previous: DataProfile | None, effects: Mapping[str, float]) -> str:
    cells = profile.rows * len(profile.columns)
    facts = [
        (f"{profile.rows:,}", "rows" + (f" ({profile.rows - previous.rows:+,})" if previous else "")),
        (f"{len(profile.columns):,}", "columns"),
        (html_frame.share(sum(column.missing for column in profile.columns), cells), "of all values missing"),
    ]
    if previous:
        moved = sum(effect >= MOVED for effect in effects.values())
        facts.append((f"{moved:,}", "columns moved" if moved != 1 else "column moved"))
    return html_frame.facts(facts)


def _notes(profile: DataProfile, previous: DataProfile | None, cards: int) -> str:
    notes = []
    if previous:
        notes.append(
            "Blue: this version. Orange: the previous one. A change is an effect (PSI without what sampling explains);"
            f" from {MOVED} on it is marked."
        )
        old, new = ({column.name for column in side.columns} for side in (previous, profile))
        if new - old:
            notes.append(f"New columns: {_names(new - old)}.")
        if old - new:
            notes.append(f"Columns that are gone: {_names(old - new)}.")
    if profile.sample < profile.rows:
        notes.append(
            f"Distributions and medians are of a uniform sample of {profile.sample:,} rows; all else is of all rows."
        )
    if cards < len(profile.columns):
        notes.append(f"{cards:,} of {len(profile.columns):,} columns are shown, those that moved most first.")
    return "".join(f"<p>{note}</p>" for note in notes)


def _names(names: set[str]) -> str:
    first = ", ".join(html.escape(name) for name in sorted(names)[:10])
    return first + (f" and {len(names) - 10} more" if len(names) > 10 else "")
