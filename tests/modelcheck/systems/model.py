"""A Model with two runs that want a number at the same time, and versions that are written by hand."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, move
from modelcheck.objects import LONG_AGO, NEW, uid
from modelcheck.systems.modelversion import version
from modelcheck.systems.trainingjob import KIND, MODEL, TrainingJobSystem, dataset, training
from modelcheck.systems.workspace import working_workspace
from modelmill.core.plan import Create, Write
from modelmill.core.resources import Manifest, dig


class ModelSystem(TrainingJobSystem):
    name = "Model"
    slots = 12
    names = ("forest", "linear")
    bytes_of = {"forest": "a", "linear": "b"}  # noqa: RUF012 - never changed
    life = ("somebody deletes TrainingJob forest", "somebody makes TrainingJob forest again")

    def start(self) -> list[Manifest]:
        made = [training(name, uid=uid(KIND, name), generation=1, suspend=True) for name in self.names]
        return [working_workspace(), dataset("a"), *made]

    def moves(self, live: Live) -> Iterator[Move]:
        for name in self.names:
            yield from self._artifact(live, name)
            present = live.get(KIND, name)
            if present is None:
                yield move(f"somebody makes {KIND} {name} again", training(name, suspend=True))
            else:
                yield move(f"somebody deletes {KIND} {name}", gone=[(KIND, name)])
        if live.get("ModelVersion", f"{MODEL}-1") is None:
            made = version()
            yield move(
                "somebody writes version 1 by hand",
                {**made, "metadata": {"name": f"{MODEL}-1", "uid": NEW, "generation": NEW}},
            )

    def _artifact(self, live: Live, name: str) -> Iterator[Move]:
        """The run's outcome: its own Job is not what matters here."""
        present = live.get(KIND, name)
        if present is None or "artifact" in present["status"] or not present["status"]:
            return
        digest = f"sha256:{self.bytes_of[name] * 64}"
        done = {"type": "Trained", "status": "True", "reason": "ArtifactPublished", "message": ""}
        others = [c for c in present["status"]["conditions"] if c["type"] != "Trained"]
        generation = present["metadata"]["generation"]
        trained = {**done, "observedGeneration": generation, "lastTransitionTime": LONG_AGO}
        status = {
            **present["status"],
            "recipe": f"sha256:{'e' * 64}",
            "artifact": {"uri": f"s3://models/{name}", "digest": digest},
            "conditions": [*others, trained],
        }
        yield move(f"{name} has an artifact", {"kind": KIND, **present, "status": status})

    def help(self, live: Live) -> Iterator[Move]:
        for name in self.names:
            yield from self._artifact(live, name)


class SameRecipeSystem(ModelSystem):
    """Both runs are by the same recipe, and give the same bytes: they become one version.

    A run that is deleted while its version is being made is not seen by who gives the other one a number, and neither
    is the version: then there are two, as a number that was given is never taken back.
    """

    name = "Model: same recipe"
    bytes_of = {"forest": "a", "linear": "a"}  # noqa: RUF012 - never changed

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if isinstance(write, Create) and write.manifest["kind"] == "ModelVersion":
            name = write.manifest["metadata"]["name"]
            runs = {run["metadata"]["uid"] for run in before.all(KIND)}
            made_by = dig(write.manifest, "spec", "lineage", "trainingJob", "uid")
            others = made_by in runs and {
                v["metadata"]["name"]
                for v in before.all("ModelVersion")
                if v["spec"]["artifact"]["digest"] == write.manifest["spec"]["artifact"]["digest"]
                and dig(v, "spec", "lineage", "trainingJob", "uid") in runs - {made_by}
            }
            if others and others != {name}:
                return "what is a version becomes another one"
        return super().unsafe(write, before, after)
