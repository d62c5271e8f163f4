"""What is kept of what a ModelDeployment predicts, and of the labels that come back."""

from typing import Annotated

from pydantic import Field

from modelmill.api.schema import SET, ColumnName, Schema

Share = Annotated[str, Field(max_length=16, pattern=r"^(1|0\.[0-9]*[1-9][0-9]*)$")]
Retention = Annotated[str, Field(max_length=6, pattern=r"^[1-9][0-9]{0,4}h$")]


class Capture(Schema):
    """A sample of predictions is written to the store, in segments, and labels that come back for them. Predictions do
    not wait for it: what cannot be written in time is dropped and counted."""

    sample: Share = "0.01"
    """Which share of predictions is kept, by their ids: above 0, at most 1. Labels of the others are acknowledged and
    not written."""
    columns: Annotated[tuple[ColumnName, ...] | None, Field(max_length=256, json_schema_extra=SET)] = None
    """Names of the features that are kept of them: leave out what must not be stored. Absent: all."""
    retention: Retention = "720h"
    """How long rows and labels are kept, in hours. A Job deletes what is older, each day or, where quality is measured,
    with each window."""
