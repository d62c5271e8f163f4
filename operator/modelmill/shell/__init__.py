"""The shell: watches, remembers, queues, and carries out the core's plans.  All I/O of the operator is here.

watch (own kinds through kopf, children by a lean list-watch) -> cache -> work queue -> reconciler
    -> core -> plan -> executor -> API server
"""

import sys

if "kubernetes.client" not in sys.modules:
    # kopf imports the official client, where it is installed, to know its classes when it sees them.  It never sees one
    # here, and that import would be a quarter of the operator's start.
    sys.modules["kubernetes.client"] = None  # type: ignore[assignment]
    import kopf  # noqa: F401

    del sys.modules["kubernetes.client"]
