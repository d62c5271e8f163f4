"""What production saw: rows with predictions, and the labels that came back, as segments in the store.

    captured/UID/rows/TIME-WRITER-NUMBER.jsonl.gz
    captured/UID/labels/TIME-WRITER-NUMBER.jsonl.gz

UID is the ModelDeployment's, TIME when the attempt to write the segment began (UTC, to the millisecond), WRITER a
process, NUMBER its own count of segments: keys in their order are segments in time.  A segment is written once and
never changed; an attempt whose answer was lost is made again under another key, so that one record may stand in two
segments.  A segment is packed JSON lines, its header first.

What is kept of a prediction is decided by its id, so that every replica knows it of a label that comes back later.
Of several records of one row, and of several labels of it, the first counts: see `Row` and `Label` for the order.

A Dataset of them has the kept features, the label, and `NOT_FEATURES`, from which nothing is to be learned by default.
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

FOLDER = "captured/"
ROWS, LABELS = "rows", "labels"
MAX_ID = 128  # characters
MAX_BYTES = 16 << 20  # of a segment, packed
MAX_UNPACKED = 128 << 20
ATTEMPT_SECONDS = 30  # an attempt to write ends by then: what began before a moment is there, or never, that much later
# Until a window of labels is complete: an attempt, and clocks that differ.
SETTLED_SECONDS = ATTEMPT_SECONDS + 30
# Columns of a Dataset of what was captured, by which rows are found and judged.
CAPTURED_ID = "captured_id"  # of the row: ID:NUMBER
CAPTURED_AT = "captured_at"  # when it was answered
CAPTURED_VERSION = "captured_version"  # which answered it
CAPTURED_PREDICTION = "captured_prediction"
CAPTURED_SCORE = "captured_score"  # of two classes the probability of the second, of more that of the likeliest
NOT_FEATURES = (CAPTURED_ID, CAPTURED_AT, CAPTURED_VERSION, CAPTURED_PREDICTION, CAPTURED_SCORE)
_FORMAT = 1
SALT = 0x6D696C6C
_ROUND = 1 << 32
_KEY = re.compile(
    r"captured/(?P<of>[^/]+)/(?P<kind>rows|labels)/(?P<at>\d{8}T\d{6}\.\d{3}Z)-(?P<writer>[0-9a-f]{1,16})-\d{6,}\.jsonl\.gz"
)
_TIME = "%Y%m%dT%H%M%S"

encode = msgspec.json.Encoder().encode

Scalar = float | int | str | bool | None
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]


class SegmentError(Exception):
    """A segment that is not one: damaged, or of a later release."""


class RowsHeader(msgspec.Struct, frozen=True, omit_defaults=True, tag=ROWS, tag_field="segment"):
    """Of whose predictions a segment is: of one artifact."""

    artifact: str  # digest
    version: str  # as it was served
    features: tuple[str, ...]  # names of those that are kept, in the order of `Row.values`
    classes: tuple[Scalar, ...] = ()  # in the order of `Row.scores`; none: it has no scores
    format: int = _FORMAT


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One row of a request and what was answered.  Of equal (id, row) the one with the least (at, key) counts."""

    id: Id  # of the prediction: the request's, or one that the server made
    row: int  # of the request, from 0
    at: int  # milliseconds since 1970, when it was answered
    values: tuple[Scalar, ...]  # null: missing
    prediction: Scalar
    scores: tuple[float, ...] = ()  # probabilities by class, all finite, or none


class LabelsHeader(msgspec.Struct, frozen=True, omit_defaults=True, tag=LABELS, tag_field="segment"):
    format: int = _FORMAT


class Label(msgspec.Struct, frozen=True, array_like=True):
    """What turned out to be true.  Of equal (id, row) the one with the least (at, key) counts; when it came is `at`."""

    id: Id
    row: int
    at: int  # milliseconds since 1970, when it was received
    label: float | int | str | bool


_Record = TypeVar("_Record", Row, Label)


class Key(NamedTuple):
    """What a segment's key says."""

    of: str  # UID
    kind: str  # ROWS | LABELS
    at: datetime
    writer: str


def folder(of: str, kind: str) -> str:
    """Where the segments of a kind lie, of the ModelDeployment with that UID."""
    return f"{FOLDER}{of}/{kind}/"


def key(of: str, kind: str, at: datetime, writer: str, number: int) -> str:
    """The key of a segment whose writing begins at `at`."""
    return f"{start_key(of, kind, at)}-{writer}-{number:06d}.jsonl.gz"


def start_key(of: str, kind: str, at: datetime) -> str:
    """What the keys of all segments from `at` on are not less than."""
    at = at.astimezone(UTC)
    return f"{folder(of, kind)}{at.strftime(_TIME)}.{at.microsecond // 1000:03d}Z"


def parse_key(text: str) -> Key | None:
    """None: it is no segment's key."""
    found = _KEY.fullmatch(text)
    if found is None:
        return None
    try:
        at = datetime.strptime(found["at"], f"{_TIME}.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Key(found["of"], found["kind"], at, found["writer"])


def is_sampled(id_: str, share: float) -> bool:
    """Whether predictions with this id are kept, where that share is: the same for every process."""
    return zlib.crc32(id_.encode("utf-8", "surrogatepass"), SALT) < limit(share)


def limit(share: float) -> int:
    """What crc32, begun with SALT, is below for the ids that are kept: for who has no time for `is_sampled`."""
    return math.ceil(share * _ROUND)


def lines(records: Iterable[Row] | Iterable[Label]) -> bytes:
    """Records as they stand in a segment, each of them with the end of its line."""
    return b"".join([encode(record) + b"\n" for record in records])


def pack(header: RowsHeader | LabelsHeader, records: Sequence[Row] | Sequence[Label]) -> bytes:
    """The content of a segment."""
    return pack_lines(header, lines(records))


def pack_lines(header: RowsHeader | LabelsHeader, text: bytes) -> bytes:
    """The content of a segment whose records were made `lines` elsewhere."""
    return gzip.compress(encode(header) + b"\n" + text, 1, mtime=0)


def unpack(content: bytes) -> tuple[RowsHeader, list[Row]] | tuple[LabelsHeader, list[Label]]:
    """Header and records of a segment; SegmentError where it is none."""
    found = opened(content)
    if isinstance(found, OpenedRows):
        return found.header, list(found.records)
    return found.header, list(found.records)


class OpenedRows(NamedTuple):
    """A segment of rows, which is decoded as it is read, once: SegmentError where it is damaged further on."""

    header: RowsHeader
    records: Iterator[Row]


class OpenedLabels(NamedTuple):
    """A segment of labels, as `OpenedRows`."""

    header: LabelsHeader
    records: Iterator[Label]


def opened(content: bytes) -> OpenedRows | OpenedLabels:
    """A segment record by record, for who cannot hold all of them; SegmentError where it is none."""
    lines = _lines(_unpacked(content))
    with _explained():
        header = msgspec.json.decode(next(lines), type=RowsHeader | LabelsHeader)
    if header.format != _FORMAT:
        raise SegmentError(f"it is of format {header.format}, and this release reads {_FORMAT}")
    if isinstance(header, RowsHeader):
        if len(set(header.features)) < len(header.features):
            raise SegmentError("two of its columns have one name")
        return OpenedRows(header, _checked(header, _decoded(lines, Row)))
    return OpenedLabels(header, _decoded(lines, Label))


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(content, MAX_UNPACKED)
    except zlib.error as error:
        raise SegmentError(f"it cannot be unpacked: {error}") from error
    if unpacker.unconsumed_tail:
        raise SegmentError(f"it has more than {MAX_UNPACKED} bytes")
    if not unpacker.eof or not text.endswith(b"\n"):
        raise SegmentError("its end is missing")
    return text


def _lines(text: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(text):
        end = text.index(b"\n", start)
        yield text[start:end]
        start = end + 1


def _decoded(lines: Iterable[bytes], kind: type[_Record]) -> Iterator[_Record]:
    decoder = msgspec.json.Decoder(kind)
    with _explained():
        for line in lines:
            yield decoder.decode(line)


def _checked(header: RowsHeader, rows: Iterable[Row]) -> Iterator[Row]:
    features, scores = len(header.features), (0, len(header.classes))
    for row in rows:
        if len(row.values) != features or len(row.scores) not in scores:
            raise SegmentError("a row has other columns than its header")
        yield row


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise SegmentError(f"it is damaged: {error}") from error
