"""The card: one page for people on what a model is, how it was made, and what it is not."""

from typing import Any

from modelmill_contracts.artifact import Manifest
from modelmill_contracts.evaluation import Evaluation
from modelmill_contracts.task import Estimator, Step

_LISTED = 50  # features
_CELL = 60  # characters


def card(manifest: Manifest, estimator: Estimator, rows: tuple[int, int], evaluated: Evaluation) -> str:
    """Markdown; `rows` are those of training and test."""
    data = manifest.recipe["data"]
    versus = data["target"]
    kind = f"one of {len(manifest.classes)} classes" if manifest.classes else "a number"
    lines = [
        f"# A model of `{versus}`",
        "",
        f"Predicts `{versus}` ({kind}) from {len(manifest.features)} features.",
        "",
        "## Quality",
        f"Measured on {rows[1]} rows that the training did not see.",
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in manifest.metrics.items()),
        "",
        *_folds(evaluated),
        *_slices(evaluated),
        "## Training",
        f"- data: version `{data['version']}`, {rows[0]} rows for training",
        f"- split: test {data['split']['test']}{_way(data['split'])}",
        f"- seed: {manifest.recipe['seed']}",
        *(f"- columns {group.name}: {_chain(group.steps)} on {', '.join(group.select)}" for group in estimator.columns),
        f"- estimator: {_chain(estimator.steps)}",
        f"- with {', '.join(f'{name} {version}' for name, version in manifest.libraries.items())}",
        "",
        *_model(manifest),
        "## Limits",
        "- The quality holds for data like the training's; `profile.json` has its distribution.",
        "- Numbers are rounded to 32 bits, in training as in serving.",
        "",
    ]
    return "\n".join(lines)


def _way(split: dict[str, Any]) -> str:
    if "group" in split:
        return f", whole groups of `{split['group']}`"
    if "time" in split:
        return f", the newest by `{split['time']}`"
    return ", stratified" if split["stratify"] else ""


def _folds(evaluated: Evaluation) -> list[str]:
    if not evaluated.folds:
        return []
    names = list(evaluated.metrics)
    return [
        f"### In {len(evaluated.folds)} folds of the training rows",
        f"| fold | rows | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
        *(
            f"| {number} | {fold.test_rows} | {' | '.join(fold.metrics[name] for name in names)} |"
            for number, fold in enumerate(evaluated.folds, 1)
        ),
        "",
    ]


def _slices(evaluated: Evaluation) -> list[str]:
    if not evaluated.slices:
        return []
    names = list(evaluated.metrics)
    return [
        "### In slices of the test rows",
        f"| column | value | rows | {' | '.join(names)} |",
        f"|---|---|---|{'---|' * len(names)}",
        *(
            f"| {_cell(entry.column)} | {_cell(entry.value)} | {entry.rows} |"
            f" {' | '.join(entry.metrics.get(name, 'undefined') for name in names)} |"
            for entry in evaluated.slices
        ),
        "",
    ]


def _cell(text: str | None) -> str:
    """A text of the data in a table: on one line, and short."""
    if text is None:
        return "(missing)"
    shown = " ".join(text.replace("|", " ").split())
    return shown if len(shown) <= _CELL else f"{shown[:_CELL]}..."


def own_card(manifest: Manifest, rows: tuple[int, int]) -> str:
    """Markdown for a model that a container of the user's trained; `rows` are those of training and test."""
    recipe = manifest.recipe
    data, container = recipe["data"], recipe["container"]
    lines = [
        f"# A model of `{data['target']}`",
        "",
        f"Predicts `{data['target']}` from {len(manifest.features)} features.",
        "",
        "## Quality",
        f"As the container measured it; it was given {rows[1]} rows to test on.",
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in manifest.metrics.items()),
        "",
        "## Training",
        f"- data: version `{data['version']}`, {rows[0]} rows for training",
        f"- split: test {data['split']['test']}{_way(data['split'])}",
        f"- seed: {recipe['seed']}",
        f"- container: `{container['image']}`",
        "",
        *_model(manifest),
    ]
    return "\n".join(lines)


def packed_card(manifest: Manifest) -> str:
    """Markdown for a model that somebody brought: nothing is known of its training."""
    source = manifest.recipe["source"]
    lines = [
        "# A packed model",
        "",
        f"Packed from a file ({source['kind']}) with digest `{source['digest']}`.",
        "How it was trained, and how good it is, whoever made it knows.",
        "",
        *_model(manifest),
    ]
    return "\n".join(lines)


def _model(manifest: Manifest) -> list[str]:
    """What is known of any model: its features and how it is served."""
    lines = [
        "## Features",
        "| feature | type | may be missing |",
        "|---|---|---|",
        *(f"| {f.name} | {f.type} | {'yes' if f.missing else 'no'} |" for f in manifest.features[:_LISTED]),
    ]
    if len(manifest.features) > _LISTED:
        lines.append(f"| ... {len(manifest.features) - _LISTED} more in manifest.json | | |")
    lines += ["", "## Serving", f"- runtime: {manifest.runtime}"]
    if manifest.conversion is not None:
        found = manifest.conversion
        lines.append(
            f"- the ONNX model agrees with scikit-learn on {found.rows} rows: {found.label_differences} labels differ,"
            f" the largest difference is {found.max_difference:g} (allowed {found.tolerance:g})"
        )
    return [*lines, *(f"- {note}" for note in manifest.notes), ""]


def _chain(steps: tuple[Step, ...]) -> str:
    return " -> ".join(step.class_.rpartition(".")[2] for step in steps) or "passed through"
