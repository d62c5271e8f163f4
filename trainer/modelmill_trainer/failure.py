"""The one exception by which a task fails on purpose."""

from modelmill_contracts.report import Problem


class TaskError(Exception):
    """The task cannot be done.  The message names what was found and what to do, never a value of the data."""

    def __init__(
        self, reason: str, message: str, *, retryable: bool = False, problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.problems = problems


def malformed(
    reason: str, message: str, column: str | None = None, count: int = 0, rows: tuple[int, ...] = ()
) -> TaskError:
    """The failure of a file that cannot be read: one problem, whose rule is the reason."""
    problem = Problem(rule=reason, message=message, column=column, count=count, rows=rows)
    where = f" (first rows: {', '.join(map(str, rows))})" if rows else ""
    return TaskError(reason, message + where, problems=(problem,))


def too_large(what: str, limit: int) -> TaskError:
    """The failure of a source that is over the limit."""
    return TaskError("SourceTooLarge", f"{what} has more than {limit} bytes, which is the limit")
