"""A ModelDeployment under constant load, whose candidates do what they must not: for tests and for the campaign."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import node_processes
from live import API_VERSION, ROOT, Kubectl, eventually

NAME = "loaded"
IMAGE = "modelmill/model-server:dev"
OPERATOR_PODS = "app.kubernetes.io/name=modelmill-operator"
_SELECTOR = f"modelmill.dev/modeldeployment={NAME}"
# A window a second, and ten minutes at 10 % unless the evidence ends it.
LONG = [{"weight": 10, "hold": "10m"}]
SHORT = [{"weight": 10, "hold": "2s"}, {"weight": 50, "hold": "2s"}]
_ANALYSIS = {"interval": "1s", "minRequests": 50, "deadline": "30m"}
WAYS = ("crash", "hang", "error", "late", "shape")


class Result(NamedTuple):
    """What the load saw; see tests/steady_load.py."""

    requests: int
    lost: int
    first: list[str]
    refused: int
    versions: dict[str, int]
    seconds: dict[int, tuple[int, int, int, int]]

    def p99(self, since: float, until: float) -> float:
        """The median of the seconds' 99 % quantiles, in us, of the whole seconds between two moments."""
        found = sorted(row[3] for second, row in self.seconds.items() if since <= second < until - 1)
        return found[len(found) // 2] if found else float("nan")


class Ended(NamedTuple):
    """A rollout that was rolled back."""

    reason: str
    at: float  # when it began to fail
    windows: int  # that were weighed from the first on in which it failed
    requests: int  # of the candidate, in them
    seconds: float  # until its weight was written down as zero


class Stage:
    """One ModelDeployment, a spec at a time."""

    def __init__(self, system: Kubectl, team: Kubectl, tolerance: str = "0.01") -> None:
        """`tolerance`: by how much more often candidates may fail, and on a busy machine be late."""
        self._tolerance = {"errorRate": {"maxIncrease": tolerance}}
        self.system = system
        self.team = team
        self._revisions = 0
        self._server: dict[str, Any] = {}  # of what serves

    def serve(self) -> None:
        """The first deployment: two pods of version 1 of the example's model."""
        allowed = json.dumps({"spec": {"allow": {"images": ["modelmill/*"]}}})
        self.team.run("patch", "workspace", "default", "--type=merge", "-p", allowed)
        self._apply(self._server, SHORT)
        self.team.wait_for("mdep", NAME, "Ready", seconds=180)

    def _apply(self, server: dict[str, Any], steps: list[dict[str, Any]], **analysis: Any) -> None:
        rollout = {"strategy": "Canary", "steps": steps, "analysis": {**_ANALYSIS, **self._tolerance, **analysis}}
        spec = {
            "model": {"name": "triage", "version": 1}, "replicas": 2, "rollout": rollout, "revisionHistoryLimit": 1,
            "server": server,
        }  # fmt: skip
        metadata = {"name": NAME}
        self.team.apply({"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": metadata, "spec": spec})

    @property
    def status(self) -> dict[str, Any]:
        return dict((self.team.get("mdep", NAME) or {})["status"])

    def weight(self) -> int:
        return int((self.status.get("candidate") or {}).get("weight") or 0)

    def pods(self, revision: str) -> list[dict[str, Any]]:
        found = self.team.list("pods", f"{_SELECTOR},modelmill.dev/revision={revision}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def told(self) -> str:
        return self.team.describe("mdep", NAME)

    # Candidates.

    def good(self, steps: list[dict[str, Any]]) -> None:
        """A candidate that is as what serves."""
        self._revisions += 1
        self._good = {"resources": {"requests": {"cpu": f"{100 + self._revisions}m"}}}
        self._apply(self._good, steps)

    def bad(self, way: str, *, at_once: bool = False, steps: list[dict[str, Any]] = LONG) -> None:
        """A candidate that is good until it is told, or `at_once`, to go this way."""
        self._revisions += 1
        command = [*_program(), NAME, way, *(["now"] if at_once else [])]
        container = {"image": IMAGE, "port": 9000, "command": command}
        self._apply({"container": container, "resources": {"requests": {"cpu": f"{100 + self._revisions}m"}}}, steps)

    def back(self) -> None:
        """What serves is declared again, and nothing is left of the candidate."""
        self._apply(self._server, SHORT)
        self.nothing_is_left()
        self.team.wait_for("mdep", NAME, "Ready", seconds=60)

    def nothing_is_left(self) -> None:
        eventually(
            lambda: not (self.team.get("configmap", f"{NAME}-routes") or self.team.get("service", f"{NAME}-candidate")),
            "nothing is left of the rollout", 120, self.told,
        )  # fmt: skip

    def begun(self, windows: int = 2) -> None:
        """The candidate has its share, and so many windows were weighed."""

        def look() -> bool:
            candidate = self.status.get("candidate") or {}
            return int(candidate.get("windows") or 0) >= windows and int(candidate.get("weight") or 0) > 0

        eventually(look, "the rollout goes on", 120, self.told)

    def promoted(self) -> None:
        before = self.status["stable"]["revision"]
        eventually(lambda: self.status["stable"]["revision"] != before, "it is promoted", 180, self.told)
        self._server = self._good
        self.team.wait_for("mdep", NAME, "Ready", seconds=60)
        self.nothing_is_left()

    def misbehaves(self) -> Ended:
        """Every pod of the candidate is told to; how it ended."""
        candidate = self.status["candidate"]
        pods = self.pods(candidate["revision"])
        assert len(pods) == 2
        processes = [node_processes.of_pod(pod["metadata"]["uid"], NAME) for pod in pods]
        begun, at, good = time.monotonic(), time.time(), candidate
        for pid in processes:
            node_processes.tell(pid)

        def back() -> bool:
            nonlocal good
            now = self.status
            still = now.get("candidate") or {}
            if still.get("failures") == candidate["failures"]:
                good = still  # the last look before a window had failures in it
            return bool(now.get("rolledBack"))

        eventually(back, "it is rolled back", 120, self.told)
        took, last = time.monotonic() - begun, self.status["lastRollout"]
        assert last["revision"] == candidate["revision"]
        return Ended(
            last["reason"], at, last["windows"] - good["windows"], last["requests"] - good["requests"], took
        )  # fmt: skip

    def ask(self, verb: str) -> None:
        """What a person asks for of the candidate."""
        text = f"modelmill.dev/action={verb}@{self.status['candidate']['revision']}"
        self.team.run("annotate", "--overwrite", "mdep", NAME, text)

    # What happens to others.

    def operator_is_killed(self, which: int = 0) -> None:
        pods = sorted(self.system.list("pods", OPERATOR_PODS), key=lambda pod: str(pod["metadata"]["name"]))
        name = pods[which % len(pods)]["metadata"]["name"]
        self.system.run("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")

    def stable_pod_is_deleted(self) -> None:
        pod = self.pods(self.status["stable"]["revision"])[0]
        self.team.run("delete", "pod", pod["metadata"]["name"], "--wait=false")
        self._two_again({pod["metadata"]["uid"]})

    def stable_server_is_killed(self) -> float:
        """By SIGKILL, without a word; when that was."""
        pod = self.pods(self.status["stable"]["revision"])[0]
        node_processes.kill(node_processes.of_pod(pod["metadata"]["uid"], "modelmill_server"))
        at = time.time()
        self._two_again(set())
        return at

    def _two_again(self, without: set[str]) -> None:
        def look() -> bool:
            pods = [p for p in self.pods(self.status["stable"]["revision"]) if p["metadata"]["uid"] not in without]
            ready = [c for p in pods for c in p["status"].get("conditions", ()) if c["type"] == "Ready"]
            return len(pods) == 2 and all(c["status"] == "True" for c in ready)

        time.sleep(1)
        eventually(look, "there are two ready pods again", 60, self.told)

    # The load.

    @contextmanager
    def load(self, rate: int, connections: int, least: int = 0) -> Iterator[Callable[[], Result]]:
        """Load meanwhile, and for so many requests at least; afterwards, what it saw."""
        self.team.run("delete", "pod/load", "configmap/load", "--ignore-not-found", "--grace-period=0", "--force")
        self.team.run("create", "configmap", "load", f"--from-file=load.py={ROOT / 'tests/steady_load.py'}")
        self.team.apply(_load_pod(rate, connections))
        self.team.run("wait", "--for=condition=Ready", "pod/load", "--timeout=60s")
        found = list[Result]()
        yield lambda: found[0]

        def enough() -> bool:
            return int(self.team.output("exec", "load", "--", "cat", "/tmp/count")) >= least

        eventually(enough, f"{least} requests", 30 + 5 * least / rate)
        self.team.run("exec", "load", "--", "touch", "/tmp/stop")
        eventually(
            lambda: (self.team.get("pod", "load") or {}).get("status", {}).get("phase") in ("Succeeded", "Failed"),
            "the load ends", 60,
        )  # fmt: skip
        said = json.loads(self.team.output("logs", "load").splitlines()[-1])
        said["seconds"] = {int(second): tuple(row) for second, row in said["seconds"].items()}
        found.append(Result(**said))


def _program() -> list[str]:
    """The command that runs tests/candidate_server.py: its text in pieces, as a word of a command has a bound."""
    text = (ROOT / "tests/candidate_server.py").read_text().partition('"""')[2].partition('"""')[2].strip()
    pieces = [text[start : start + 1000] for start in range(0, len(text), 1000)]
    end = 1 + len(pieces)
    return ["python3", "-c", f"import sys; t = ''.join(sys.argv[1:{end}]); del sys.argv[1:{end}]; exec(t)", *pieces]


def _load_pod(rate: int, connections: int) -> dict[str, Any]:
    container = {
        "name": "load",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/mnt/code/load.py", NAME, NAME, "30", str(rate), str(connections)],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "code", "mountPath": "/mnt/code"}, {"name": "tmp", "mountPath": "/tmp"}],
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": "load"}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "load"}, "spec": spec}
