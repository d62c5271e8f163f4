"""What pods send while the tests run, as conntrack sees it, and what NetworkPolicies say of it.

The local cluster's network enforces none of them, so that what they would have kept out was sent all the same.
"""

import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

from live import Kubectl, kubectl_program
from networkpolicy import Flow, Pod, Verdict, allowed

# Where a cloud gives out credentials: a pod whose store has no Secret asks there, and one that has a Secret must not.
CREDENTIALS = "169.254.169.254"
_BRIDGE = ("10.244.0.1",)  # a node's address on its pods' network: where the kubelet's probes come from
_WATCHED = ("pods", "networkpolicies", "namespaces")
_FIELD = re.compile(r"(src|dst|dport|sport)=(\S+)")
_PROTOCOLS = {"tcp": "TCP", "udp": "UDP"}
_KNOWN_BY = 5.0  # seconds until what was created at the same time as a pod is known
_KILLED_BY = 40.0  # seconds after which the containers are gone, too, of a pod that was deleted by force


@dataclass(frozen=True)
class Seen:
    """A connection's first packet: after the translation of a Service's address, and when."""

    flow: Flow
    at: float


@dataclass
class Version:
    """An object as it was from one moment on; None: it was gone."""

    manifest: dict[str, Any] | None
    since: float


class Recorder:
    """Watches connections, pods and policies until it is stopped."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._api_server = _api_server(kubectl.config)
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self.seen: list[Seen] = []
        self.objects: dict[str, dict[str, list[Version]]] = {kind: {} for kind in _WATCHED}  # by UID
        self._pods_of: dict[str, set[str]] = {}  # UIDs, by address

    def start(self) -> "Recorder":
        for kind in _WATCHED:
            words = ("get", kind, "-A", "-o", "json", "--watch", "--output-watch-events")
            # An API server ends each watch after half an hour to an hour: two of them leave no gap.
            for _ in range(2):
                self._read([kubectl_program(), "--kubeconfig", self._kubectl.config, *words], self._objects_of, kind)
        self._read(_conntrack(), self._connections, "")
        return self

    def stop(self) -> None:
        self._stopped.set()
        for process in list(self._processes):
            process.terminate()
            process.wait()
        for thread in self._threads:
            thread.join()

    def _read(self, command: list[str], reader: Any, kind: str) -> None:
        thread = threading.Thread(target=self._keep_reading, args=(command, reader, kind), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _keep_reading(self, command: list[str], reader: Any, kind: str) -> None:
        while not self._stopped.wait(0.1):
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                self._processes.append(process)
                if self._stopped.is_set():
                    process.terminate()
                reader(process.stdout, kind)

    def _objects_of(self, lines: IO[str], kind: str) -> None:
        for line in lines:
            event = json.loads(line)
            manifest = event["object"]
            gone = event["type"] == "DELETED"
            versions = self.objects[kind].setdefault(manifest["metadata"]["uid"], [])
            versions.append(Version(None if gone else manifest, time.time()))
            for address in _addresses(manifest):
                self._pods_of.setdefault(address, set()).add(manifest["metadata"]["uid"])

    def _connections(self, lines: IO[str], _: str) -> None:
        for line in lines:
            flow = parsed(line)
            if flow is not None:
                self.seen.append(Seen(flow, time.time()))

    # What was there at a moment.

    def pods_at(self, moment: float, flow: Flow) -> list[dict[str, Any]]:
        """Both ends of a flow that are pods, had been made by then and could still send, as they were when they last
        had an address."""
        found = []
        for uid in {*self._pods_of.get(flow.source, ()), *self._pods_of.get(flow.destination, ())}:
            versions = self.objects["pods"][uid]
            # A pod that has ended may lose its address before it is gone.
            manifests = (v.manifest for v in reversed(versions) if v.manifest is not None)
            last = next((m for m in manifests if _addresses(m)), None)
            ended = versions[-1].since if versions[-1].manifest is None else float("inf")
            if last is not None and versions[0].since - _KNOWN_BY <= moment <= ended + _KILLED_BY:
                found.append(last)
        return found

    def at(self, kind: str, moment: float) -> Iterator[dict[str, Any]]:
        """The objects of that kind as they were by then."""
        for versions in list(self.objects[kind].values()):
            by_then = [v for v in versions if v.since <= moment + _KNOWN_BY]
            if by_then and (manifest := by_then[-1].manifest or versions[0].manifest):
                yield manifest

    def against_policies(self) -> Counter[tuple[str, str, int, str, str]]:
        """How often what was sent that no policy allows: sender, receiver, port, protocol, reasons.

        Of the requests for credentials, those that a policy should have kept out, and did not.
        """
        found: Counter[tuple[str, str, int, str, str]] = Counter()
        for seen in self.seen:
            asks = seen.flow.destination == CREDENTIALS
            # What else runs on this machine may ask there, too.
            if asks and not _has_a_secret(self._sender(seen)):
                continue
            verdict = self._verdict(seen)
            if bool(verdict) == asks:
                reasons = "; ".join(verdict.reasons) or "allowed, though it has a Secret"
                found[*self.ends(seen), seen.flow.port, seen.flow.protocol, reasons] += 1
        return found

    def _verdict(self, seen: Seen) -> Verdict:
        """What the policies of that moment say of the flow."""
        flow = seen.flow
        # Several local clusters have their API servers on one machine, not all of them at the port that policies name.
        if (flow.destination, flow.port) == self._api_server:
            flow = replace(flow, port=6443)
        pods = newest_by_address(self.pods_at(seen.at, flow))
        concerned = {pod["metadata"]["namespace"] for pod in pods}
        namespaces = {n["metadata"]["name"]: n["metadata"].get("labels", {}) for n in self.at("namespaces", seen.at)}
        policies = [p for p in self.at("networkpolicies", seen.at) if p["metadata"]["namespace"] in concerned]
        return allowed(flow, [Pod.of(pod, _BRIDGE) for pod in pods], namespaces, policies)

    def _sender(self, seen: Seen) -> dict[str, Any] | None:
        """The pod that opened the connection, where it was one."""
        pods = newest_by_address(self.pods_at(seen.at, seen.flow))
        return next((pod for pod in pods if seen.flow.source in _addresses(pod)), None)

    def ends(self, seen: Seen) -> tuple[str, str]:
        """Who talked to whom: `namespace/name` of pods, addresses of others."""
        names = {
            ip: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            for pod in newest_by_address(self.pods_at(seen.at, seen.flow))
            for ip in _addresses(pod)
        }
        source, destination = seen.flow.source, seen.flow.destination
        return names.get(source, source), names.get(destination, destination)


def _api_server(config: str) -> tuple[str, int]:
    """Where pods reach it."""
    found = Kubectl(config).get("endpointslice", "kubernetes")
    assert found is not None, "no pod can reach this API server"
    return found["endpoints"][0]["addresses"][0], found["ports"][0]["port"]


def _has_a_secret(pod: dict[str, Any] | None) -> bool:
    return '"secretKeyRef"' in json.dumps(pod)


def newest_by_address(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One pod for each address: it may be given again while the former pod is still listed."""
    newest: dict[str, dict[str, Any]] = {}
    for pod in sorted(pods, key=lambda p: str(p["metadata"]["creationTimestamp"])):
        for ip in _addresses(pod):
            newest[ip] = pod
    return list({pod["metadata"]["uid"]: pod for pod in newest.values()}.values())


def _addresses(pod: dict[str, Any]) -> list[str]:
    if pod["spec"].get("hostNetwork"):
        return []
    return [entry["ip"] for entry in pod.get("status", {}).get("podIPs", ())]


def _conntrack() -> list[str]:
    return ["conntrack", "-E", "-e", "NEW", "-o", "extended", "--buffer-size", "8388608"]


def parsed(line: str) -> Flow | None:
    """The flow of one line of `conntrack -E`, None where it is not TCP or UDP."""
    protocol = next((p for p in _PROTOCOLS if f" {p} " in line), None)
    fields = _FIELD.findall(line)
    if protocol is None or len(fields) < 8:
        return None
    (_, source), *_ = fields
    reply = dict(fields[4:8])  # who answers, and from which port
    return Flow(source, reply["src"], int(reply["sport"]), _PROTOCOLS[protocol])
