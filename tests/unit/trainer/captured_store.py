"""What serving pods write: segments of captured rows and labels, in a store."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from modelmill_contracts import captured
from modelmill_contracts.captured import Label, LabelsHeader, Row, RowsHeader
from modelmill_contracts.store import Store
from modelmill_contracts.task import StoreLocation

OF = "0b7f6a3e-11aa-4c55-9f3e-0d1c5a1b2c3d"
ARTIFACT = "sha256:" + "a" * 64
UNTIL = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
HEADER = RowsHeader(ARTIFACT, "7", ("radius", "smoker"), (0, 1))


def ms(before: timedelta) -> int:
    """So long before UNTIL, as a record has it."""
    return round((UNTIL - before).timestamp() * 1000)


def row(id_: str, before: timedelta = HOUR, number: int = 0, values: tuple[captured.Scalar, ...] = (1.5, "no")) -> Row:
    return Row(id_, number, ms(before), values, 1, (0.25, 0.75))


def label(id_: str, value: float | str = 1, before: timedelta = HOUR / 2, number: int = 0) -> Label:
    return Label(id_, number, ms(before), value)


class Segments:
    """The segments of one ModelDeployment."""

    def __init__(self, location: StoreLocation, of: str = OF) -> None:
        self.store = Store(location)
        self._of = of
        self._count = 0

    def rows(self, *rows: Row, header: RowsHeader = HEADER, late: timedelta = timedelta(), writer: str = "ab") -> str:
        """Write these as one segment, `late` after the newest was answered."""
        return self._write(captured.ROWS, header, rows, late, writer)

    def labels(self, *labels: Label, late: timedelta = timedelta(), writer: str = "ab") -> str:
        return self._write(captured.LABELS, LabelsHeader(), labels, late, writer)

    def damaged(self, kind: str, before: timedelta = HOUR) -> str:
        key = captured.key(self._of, kind, UNTIL - before, "dd", 1)
        self.store.put_once(key, b"no segment")
        return key

    def keys(self) -> list[str]:
        return [key for key in self.store.keys("") if key.startswith(captured.FOLDER)]

    def _write(
        self,
        kind: str,
        header: RowsHeader | LabelsHeader,
        records: Sequence[Row] | Sequence[Label],
        late: timedelta,
        writer: str,
    ) -> str:
        at = datetime.fromtimestamp(max(record.at for record in records) / 1000, UTC) + late
        self._count += 1
        key = captured.key(self._of, kind, at, writer, self._count)
        assert self.store.put_once(key, captured.pack(header, records))
        return key
