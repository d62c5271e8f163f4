"""A TrainingJob from its data to its ModelVersion, with the Model that numbers it."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import LONG_AGO, NEW, Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.modelversion import store_help, store_moves
from modelcheck.systems.workspace import edited, working_workspace
from modelmill.core import conditions
from modelmill.core.plan import Create, Delete, SetStatus, Write
from modelmill.core.resources import Manifest, dig
from modelmill.core.trainingjob import job_name
from modelmill_contracts import report

KIND = "TrainingJob"
MODEL = "triage"
DATASET = "tumours"


def training(name: str, *, suspend: bool = False, **metadata: object) -> Manifest:
    spec = {
        "modelRef": {"name": MODEL},
        "data": {"datasetRef": {"name": DATASET}, "target": "benign"},
        "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
        "suspend": suspend,
    }
    return {"kind": KIND, "metadata": {"name": name, "uid": NEW, "generation": NEW, **metadata}, "spec": spec}


def dataset(letter: str | None) -> Manifest:
    """The Dataset with this version, or not yet with any."""
    digest = f"sha256:{(letter or '0') * 64}"
    status = "True" if letter else "False"
    ready = {"type": "Ready", "status": status, "reason": "SnapshotTaken", "message": "", "observedGeneration": 1}
    taken = [{"version": digest, "file": digest, "rows": 569, "observedAt": LONG_AGO}] if letter else []
    return {
        "kind": "Dataset",
        "metadata": {"name": DATASET, "uid": uid("Dataset", DATASET), "generation": 1},
        "spec": {"source": {"configMapRef": {"name": "a", "key": "data.csv"}}},
        "status": {
            "observedGeneration": 1,
            "history": taken,
            "conditions": [{**ready, "lastTransitionTime": LONG_AGO}],
        },
    }


def trained(job: Manifest) -> report.Report:
    """What a run gives depends on whose it is."""
    letter = "abcdef"[int(job["metadata"]["uid"][-1])]
    result = report.TrainingResult(
        recipe=f"sha256:{'e' * 64}",
        artifact=f"sha256:{letter * 64}",
        uri=f"s3://models/{letter}",
        runtime="onnx",
        metrics=(report.Metric("roc_auc", "0.995"),),
    )
    return report.Report(True, "TrainingSucceeded", result=result)


class TrainingJobSystem(System):
    name = "TrainingJob"
    slots = 12
    life = ("there is newer data", "somebody deletes TrainingJob forest")
    names = ("forest",)

    def controllers(self) -> list[Slot]:
        return [*((KIND, name) for name in self.names), ("Model", MODEL)]

    def start(self) -> list[Manifest]:
        made = [training(name, uid=uid(KIND, name), generation=1) for name in self.names]
        return [working_workspace(), dataset(None), *made]

    def moves(self, live: Live) -> Iterator[Move]:
        yield from store_moves(live)
        known = live.get("Dataset", DATASET)
        if known == live.version(dataset(None)):
            yield move("the data is there", dataset("a"))
        elif known == live.version(dataset("a")):
            yield move("there is newer data", dataset("b"))
        for name in self.names:
            yield from self._users(live, name)
            yield from jobs.moves(live, job_name(name), trained)
            yield from jobs.collected(live, job_name(name))
        if live.get("Model", MODEL) is not None:
            yield move("somebody deletes the Model", gone=[("Model", MODEL)])
        for made in live.all("ModelVersion"):
            name = made["metadata"]["name"]
            yield move(f"somebody deletes ModelVersion {name}", gone=[("ModelVersion", name)])

    def _users(self, live: Live, name: str) -> Iterator[Move]:
        present = live.get(KIND, name)
        if present is None:
            return
        yield move(f"somebody deletes {KIND} {name}", gone=[(KIND, name)])
        suspended = present["spec"]["suspend"]
        changed = {"kind": KIND, **edited(present, training(name, suspend=not suspended)["spec"])}
        yield move(f"the user sets suspend to {not suspended}", changed)

    def help(self, live: Live) -> Iterator[Move]:
        yield from store_help(live)
        for name in self.names:
            yield from jobs.help_(live, job_name(name), trained)
            present = live.get(KIND, name)
            if present is not None and present["spec"]["suspend"]:
                yield move("the user goes on", {"kind": KIND, **edited(present, training(name)["spec"])})
        if live.get("Dataset", DATASET) == live.version(dataset(None)):
            yield move("the data is there", dataset("a"))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if isinstance(write, Create):
            return _unsafe_create(write, before)
        if isinstance(write, Delete):
            return self._unsafe_delete(write, before)
        if not isinstance(write, SetStatus):
            return None
        for name in self.names:
            present, then = before.get(KIND, name), after.get(KIND, name)
            if present is not None and then is not None:
                for field in ("datasetVersion", "artifact", "modelVersion", "recipe"):
                    if field in present["status"] and then["status"].get(field) != present["status"][field]:
                        return f"status.{field} of {name} changes after it was said"
                for type_ in ("Succeeded", "Failed"):
                    if _said(present, type_) and not _said(then, type_):
                        return f"{name} ended, and then did not"
        return unsafe_numbers(before.get("Model", MODEL), after.get("Model", MODEL))

    def _unsafe_delete(self, write: Delete, before: Live) -> str | None:
        name = next(name for name in self.names if job_name(name) == write.name)
        present, pod = before.get(KIND, name), before.get("Pod", jobs.pod_name(write.name))
        if present is None or present["spec"]["suspend"] or pod is None:
            return None  # who suspends a training gives it up
        if _said(present, "Failed"):
            return None  # it ended for good before this pod was made
        untold = "artifact" not in present["status"] and pod["metadata"]["ownerReferences"][0]["uid"] == write.uid
        return "a training that ended well is thrown away" if untold and jobs.succeeded(pod) else None

    def broken(self, live: Live) -> str | None:
        makers = [dig(v, "spec", "lineage", "trainingJob", "uid") for v in live.all("ModelVersion")]
        made = [m for m in makers if m]
        return "one run became two versions" if len(made) != len(set(made)) else None

    def unreached(self, live: Live) -> str | None:
        for name in self.names:
            present, job = live.get(KIND, name), live.get("Job", job_name(name))
            if present is None:
                if job is not None:
                    return "a Job is left behind"
            elif not (_said(present, "Succeeded") or _said(present, "Failed")):
                return f"{name} does not end: {conditions.find(present, 'Succeeded')}"
            elif _said(present, "Succeeded") and "modelVersion" not in present["status"]:
                return f"{name} succeeded without a version"
        return None


def _said(manifest: Manifest, type_: str) -> bool:
    condition = conditions.find(manifest, type_)
    return condition is not None and condition["status"] == "True"


def _unsafe_create(write: Create, before: Live) -> str | None:
    manifest = write.manifest
    if manifest["kind"] == "ModelVersion":
        maker = manifest["spec"]["lineage"]["trainingJob"]["uid"]
        made = [v for v in before.all("ModelVersion") if dig(v, "spec", "lineage", "trainingJob", "uid") == maker]
        if made and made[0]["metadata"]["name"] != manifest["metadata"]["name"]:
            return "a run that is a version becomes another one"
    if manifest["kind"] == "Job":
        owner = manifest["metadata"]["ownerReferences"][0]
        present = before.get(KIND, owner["name"])
        if present is None or present["metadata"]["uid"] != owner["uid"] or before.get("Job", job_name(owner["name"])):
            return None  # it is not made
        if "artifact" in present["status"]:
            return "what was trained is trained again"
        if _said(present, "Failed"):
            return "what failed for good is trained again"
        if present["spec"]["suspend"]:
            return "what is suspended is trained"
    return None


def unsafe_numbers(before: Manifest | None, after: Manifest | None) -> str | None:
    if before is None or after is None or before["metadata"]["uid"] != after["metadata"]["uid"]:
        return None
    then, now = before["status"], after["status"]
    if now.get("lastVersion", 0) < then.get("lastVersion", 0):
        return "the last version's number goes back"
    known = {r["uid"]: r["version"] for r in then.get("reservations", ())}
    for reservation in now.get("reservations", ()):
        number = reservation["version"]
        if known.get(reservation["uid"]) != number and number <= then.get("lastVersion", 0):
            return f"number {number} is given again"
    numbers = [r["version"] for r in now.get("reservations", ())]
    return "a number is given twice" if len(numbers) != len(set(numbers)) else None
