"""Claims: a pod that waits for a volume, in words that name the claim and its StorageClass.

The scheduler says only that a claim is not bound, and asks for nothing by name.  What is known of the claim is read
from the claim itself: whether the StorageClass exists is nobody's business who may not read StorageClasses.
"""

from dataclasses import replace

from modelmill.core.jobs import Run
from modelmill.core.plan import Observed
from modelmill.core.pods import Trouble
from modelmill.core.resources import Manifest, dig

_SCHEDULER = "persistentvolumeclaim"  # in what it says of a pod that waits for one, in small letters


def explained(observed: Observed, claim: str | None, run: Run) -> Run:
    """The run, with what holds it up put down to the claim whose volume its pod needs, where that is why."""
    why = run.trouble
    if claim is None or why is None:
        return run
    about_it = why.reason == "Unschedulable" and _SCHEDULER in why.message.lower()
    # Where a volume is made for the first pod, the scheduler waits for it and says nothing.
    if not about_it and why.reason != "TimedOut":
        return run
    found = observed.get("PersistentVolumeClaim", claim)
    if found is None:
        return replace(run, trouble=_absent(claim)) if about_it and "not found" in why.message else run
    if dig(found, "status", "phase") != "Pending":
        return run
    return replace(run, trouble=Trouble("ClaimPending", _pending(claim, found)))


def _absent(claim: str) -> Trouble:
    said = f"there is no PersistentVolumeClaim {claim} in this namespace; create it, or name another claim"
    return Trouble("ClaimNotFound", said)


def _pending(claim: str, found: Manifest) -> str:
    named = dig(found, "spec", "storageClassName")
    if named:
        said = f"StorageClass {named} gives it no volume; see that this StorageClass exists and its provisioner runs"
    elif named is None:
        said = (
            "it names no StorageClass, and the cluster has no default one; make one the default, or a claim with"
            " spec.storageClassName"
        )
    else:  # "" asks for a volume that is there already
        said = 'its storageClassName is "", and no PersistentVolume fits it; create one, or a claim with a StorageClass'
    return f"PersistentVolumeClaim {claim} is Pending: {said} (kubectl describe pvc {claim} says more)"
