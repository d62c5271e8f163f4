"""Segments of what was captured (`captured`): found by their times, read one after the other."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

from modelmill_contracts import captured
from modelmill_contracts.captured import OpenedLabels, OpenedRows, SegmentError
from modelmill_contracts.store import Store, StoreError

SETTLED = timedelta(seconds=captured.SETTLED_SECONDS)
_AT_ONCE = 8  # segments that are read ahead, and held in memory

Content = Future[bytes | None]  # of a segment; None where it is not there


def keys(store: Store, of: str, kind: str, start: datetime, end: datetime) -> list[str]:
    """The segments in which records of [start, end) are, in the order of time: a record is never newer than its key."""
    first, last = (captured.start_key(of, kind, at) for at in (start, end + SETTLED))
    found = store.keys(captured.folder(of, kind), first, last)
    return [key for key in found if captured.parse_key(key) is not None]


def fetched(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, Content]]:
    """The content of each, in that order; some are asked for at a time, as there may be many small ones."""
    ahead: deque[tuple[str, Content]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for key in keys:
                ahead.append((key, pool.submit(_get, store, key)))
                if len(ahead) == _AT_ONCE:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()
        finally:
            pool.shutdown(cancel_futures=True)


def rows(content: Content) -> OpenedRows | None:
    """The rows of a segment; None where it got too old and is gone, SegmentError where it is damaged."""
    found = _opened(content)
    if isinstance(found, OpenedLabels):
        raise SegmentError("it has labels where rows should be")
    return found


def labels(content: Content) -> OpenedLabels | None:
    """The labels of a segment, as `rows`."""
    found = _opened(content)
    if isinstance(found, OpenedRows):
        raise SegmentError("it has rows where labels should be")
    return found


def milliseconds(at: datetime) -> int:
    """A moment as records have it."""
    return round(at.timestamp() * 1000)


def _opened(content: Content) -> OpenedRows | OpenedLabels | None:
    found = content.result()
    return None if found is None else captured.opened(found)


def _get(store: Store, key: str) -> bytes | None:
    try:
        return store.get(key, captured.MAX_BYTES)
    except StoreError as error:
        if error.reason == "ObjectNotFound":
            return None
        if error.reason == "ObjectTooLarge":
            raise SegmentError(f"it is packed in more than {captured.MAX_BYTES} bytes") from error
        raise
