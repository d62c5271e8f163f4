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
