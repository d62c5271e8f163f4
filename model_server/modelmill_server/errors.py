"""What the server says no to: requests (`RefusedError`) and artifacts (`NotServableError`).

A message names the field, what is expected and what to do.  It never repeats what the caller sent: it may
be anybody's data, and it ends in logs.
"""


class RefusedError(Exception):
    """The request is answered with `status` and `{"error": message}`, and counted by `reason` (CamelCase)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class NotServableError(Exception):
    """The server does not start.  `reason` (CamelCase) and the message go into the termination report."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def invalid(reason: str, message: str) -> RefusedError:
    """A 400: the request itself must be changed."""
    return RefusedError(400, reason, message)


def model_unknown(name: str) -> RefusedError:
    return RefusedError(404, "ModelUnknown", f"this server has one model, '{name}'; use its name")


def version_unknown(name: str, version: str) -> RefusedError:
    return RefusedError(404, "VersionUnknown", f"version '{version}' of model '{name}' is served; use it or none")


def labels_not_written(why: str) -> RefusedError:
    """A 503: nobody knows whether they are in the store, and they count once however often they are sent."""
    message = f"the labels are not known to be written: {why}; send them again, each counts once"
    return RefusedError(503, "LabelsNotWritten", message)


def capture_off() -> RefusedError:
    message = "no labels are taken here, as nothing is captured; declare spec.capture in the ModelDeployment"
    return RefusedError(404, "CaptureOff", message)
