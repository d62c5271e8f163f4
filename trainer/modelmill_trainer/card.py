"""The card: one page of Markdown for people on what a model is, how it was made, and what it is not."""

from collections.abc import Iterable, Sequence

from modelmill_contracts.artifact import Manifest
from modelmill_contracts.evaluation import Calibration, Confusion, Evaluation, Importance
from modelmill_trainer import facts as words
from modelmill_trainer.facts import Facts

_LISTED = 50  # features
_IMPORTANT = 20
_CELL = 60  # characters


def card(facts: Facts) -> str:
    """Markdown for a model that was trained here, or by a container of the user's."""
    target = _code(words.target(facts))
    lines = [
        f"# A model of {target}",
        "",
        f"Predicts {target} ({words.kind(facts)}) from {len(facts.manifest.features)} features.",
        "",
        "## Quality",
        words.measured(facts),
        "",
        *_quality(facts),
        *_folds(facts.evaluation),
        *_measured(facts.evaluation, facts.manifest),
        "## Training",
        *(f"- {_line(name)}: {_line(text)}" for name, text in words.training(facts)),
        "",
        *_model(facts.manifest),
        "## Tests",
        words.TESTS,
        "",
        "## Limits",
        *(f"- {text}" for text in words.LIMITS),
        "",
    ]
    return "\n".join(lines)


def packed_card(manifest: Manifest, evaluated: Evaluation | None = None) -> str:
    """Markdown for a model that somebody brought, perhaps with rows to test it on: its training is not known."""
    source = manifest.recipe["source"]
    lines = [
        "# A packed model",
        "",
        f"Packed from a file ({source['kind']}) with digest `{source['digest']}`.",
        f"How it was trained{'' if evaluated else ', and how good it is'}, whoever made it knows.",
        "",
        *(_packed_quality(manifest, evaluated) if evaluated else ()),
        *_model(manifest),
    ]
    return "\n".join(lines)


def _packed_quality(manifest: Manifest, evaluated: Evaluation) -> list[str]:
    return [
        "## Quality",
        f"Measured on {evaluated.rows} rows that, by the word of who packed it, the training did not see.",
        "",
        *_table(["metric", "value"], evaluated.metrics.items()),
        *_measured(evaluated, manifest),
    ]


def _measured(evaluated: Evaluation, manifest: Manifest) -> list[str]:
    """What there is besides the metrics."""
    return [
        *_slices(evaluated),
        *_confusion(evaluated.confusion),
        *_calibration(evaluated.calibration, manifest.classes),
        *_importance(evaluated.importance, len(manifest.features)),
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Cells that are ready, and an empty line."""
    lines = (head, ["---"] * len(head), *rows)
    found = [f"| {' | '.join(map(str, line))} |" for line in lines]
    found[1] = found[1].replace(" ", "")
    return [*found, ""]


def _quality(facts: Facts) -> list[str]:
    found = words.quality(facts)
    if not facts.evaluation.folds:
        return _table(["metric", "value"], [[one.name, one.value] for one in found])
    count = len(facts.evaluation.folds)
    return _table(["metric", "value", f"mean of {count} folds", "standard deviation"], found)


def _folds(evaluated: Evaluation) -> list[str]:
    if not evaluated.folds:
        return []
    names = list(evaluated.metrics)
    rows = [
        [number, fold.test_rows, *(fold.metrics[name] for name in names)]
        for number, fold in enumerate(evaluated.folds, 1)
    ]
    return [f"### In {len(evaluated.folds)} folds of the training rows", *_table(["fold", "rows", *names], rows)]


def _slices(evaluated: Evaluation) -> list[str]:
    if not evaluated.slices:
        return []
    names = list(evaluated.metrics)
    rows = [
        [_cell(one.column), _cell(one.value), one.rows, *(one.metrics.get(name, "undefined") for name in names)]
        for one in evaluated.slices
    ]
    return ["### In slices of the test rows", *_table(["column", "value", "rows", *names], rows)]


def _confusion(found: Confusion | None) -> list[str]:
    if found is None:
        return []
    names = [*map(_cell, found.classes), *(["(all others)"] if found.others else [])]
    rows = [[name, *counts] for name, counts in zip(names, found.counts, strict=True)]
    return ["### What is taken for what", *_table(["truth, and what is predicted", *names], rows)]


def _calibration(found: Calibration | None, classes: Sequence[str]) -> list[str]:
    if found is None:
        return []
    rows = [[one.rows, f"{one.predicted:g}", f"{one.observed:g}"] for one in found.bins]
    return [
        "### Calibration",
        _line(words.of_calibration(found, classes)),
        "",
        *_table(["rows", "predicted", "observed"], rows),
    ]


def _importance(found: Importance | None, features: int) -> list[str]:
    if found is None:
        return []
    rows = [[_cell(one.feature), f"{one.worse:g}", f"{one.stddev:g}"] for one in found.features[:_IMPORTANT]]
    return [
        "### What each feature is good for",
        words.of_importance(found, features),
        "",
        *_table(["feature", "worse by", "standard deviation"], rows),
    ]


def _model(manifest: Manifest) -> list[str]:
    """What is known of any model: its features and how it is served."""
    rows = [[_cell(f.name), f.type, "yes" if f.missing else "no"] for f in manifest.features[:_LISTED]]
    if len(manifest.features) > _LISTED:
        rows.append([f"... {len(manifest.features) - _LISTED} more in manifest.json", "", ""])
    return [
        "## Features",
        *_table(["feature", "type", "may be missing"], rows),
        "## Serving",
        *(f"- {_line(text)}" for text in words.serving(manifest)),
        "",
    ]


def _line(text: str) -> str:
    """A text on one line, which Markdown shows and does not obey."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")


def _cell(text: str | None) -> str:
    """A text of the data in a table: on one line, and short."""
    if text is None:
        return "(missing)"
    shown = " ".join(text.replace("|", " ").split())
    return _line(shown if len(shown) <= _CELL else f"{shown[:_CELL]}...")


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', ' ').split())}`"
