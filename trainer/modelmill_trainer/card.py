"""The card: one page for people on what a model is, how it was made, and what it is not."""

from modelmill_contracts.artifact import Manifest
from modelmill_contracts.task import Estimator, Step

_LISTED = 50  # features


def card(manifest: Manifest, estimator: Estimator, rows: tuple[int, int], versus: str) -> str:
    """Markdown; `rows` are those of training and test, `versus` what is predicted."""
    data = manifest.recipe["data"]
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
        "## Training",
        f"- data: version `{data['version']}`, {rows[0]} rows for training",
        f"- split: test {data['split']['test']}{', stratified' if data['split']['stratify'] else ''}",
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
