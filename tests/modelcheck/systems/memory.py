"""What a system remembers: an object that the operator's watch does not show, because it is not labelled as ours."""

from modelcheck.cluster import Live
from modelcheck.objects import uid
from modelmill.core.resources import Manifest

NAME = "memory"


def of(live: Live) -> frozenset[str]:
    """What was remembered."""
    known = live.get("Pod", NAME)
    return frozenset(known["status"]["message"].split("|")) if known else frozenset()


def with_(live: Live, fact: str) -> Manifest:
    """The memory with one more fact."""
    facts = "|".join(sorted({*of(live), fact}))
    return {"kind": "Pod", "metadata": {"name": NAME, "uid": uid("Pod", NAME)}, "status": {"message": facts}}
