"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler: their identities, flags and start.

All of them listen on loopback only. The admission plugins are the defaults, so that quotas, limit ranges, Pod
Security and ValidatingAdmissionPolicy answer as on any other cluster.
"""

from __future__ import annotations

import json
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from local_cluster.certs import Authority, administrators_token, service_account_key, write_kubeconfig
from local_cluster.commands import find
from local_cluster.console import ClusterError, warn
from local_cluster.paths import MANIFESTS, ClusterPaths
from local_cluster.processes import ProcessRecord, end
from local_cluster.record import ClusterRecord
from local_cluster.versions import component

LOOPBACK = "127.0.0.1"
# Kubernetes' own names of the API server's Service, for TLS from inside of pods.
API_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def server_url(record: ClusterRecord) -> str:
    return f"https://{LOOPBACK}:{record.ports['apiserver']}"


def issue_identities(paths: ClusterPaths, record: ClusterRecord) -> Authority:
    """The cluster's authority, and each client's kubeconfig.

    What is missing is made; what is there and fits stays, so that a kubeconfig outlives a restart.
    """
    authority = Authority(paths.pki, "ca")
    front_proxy = Authority(paths.pki / "front-proxy", "ca")
    etcd = Authority(paths.pki / "etcd", "ca")
    hosts = (LOOPBACK, "localhost", record.subnets.gateway, record.subnets.api_service)
    authority.issue("apiserver", "kube-apiserver", hosts=(*API_NAMES, *hosts))
    authority.issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
    front_proxy.issue("front-proxy-client", "front-proxy-client")
    etcd.issue("server", "etcd", hosts=(LOOPBACK, "localhost"))
    etcd.issue("client", "kube-apiserver")
    service_account_key(paths.pki)
    paths.config.mkdir(parents=True, exist_ok=True)
    token = administrators_token(paths.pki / "tokens.csv", "modelmill-admin", "system:masters")
    write_kubeconfig(paths.kubeconfig, record.name, server_url(record), authority, token)
    for client in ("kube-controller-manager", "kube-scheduler"):
        identity = authority.issue(client, f"system:{client}")
        write_kubeconfig(paths.config / f"{client}.kubeconfig", record.name, server_url(record), authority, identity)
    return authority


def start_etcd(paths: ClusterPaths, record: ClusterRecord, processes: ProcessRecord) -> None:
    """Start etcd and wait for it. Data that it cannot read is dropped: that is said, and begun anew."""
    for attempt in (1, 2):
        processes.start("etcd", _etcd(paths, record))
        try:
            _await_etcd(paths, record, processes)
            return
        except ClusterError:
            had_data = (paths.etcd / "member").exists()
            if attempt == 2 or not had_data:
                raise
            end([process for name, process in processes.read().items() if name == "etcd"], patience=2)
            shutil.rmtree(paths.etcd)
            warn("etcd cannot read the data of the former run; the cluster begins empty")


def _etcd(paths: ClusterPaths, record: ClusterRecord) -> list[str]:
    pki = paths.pki / "etcd"
    client, peer = record.ports["etcd"], record.ports["etcd-peer"]
    return [
        find("etcd") or "etcd",
        f"--name={record.name}",
        f"--data-dir={paths.etcd}",
        f"--listen-client-urls=https://{LOOPBACK}:{client}",
        f"--advertise-client-urls=https://{LOOPBACK}:{client}",
        f"--listen-peer-urls=https://{LOOPBACK}:{peer}",
        f"--initial-advertise-peer-urls=https://{LOOPBACK}:{peer}",
        f"--initial-cluster={record.name}=https://{LOOPBACK}:{peer}",
        "--client-cert-auth=true",
        f"--trusted-ca-file={pki}/ca.crt",
        f"--cert-file={pki}/server.crt",
        f"--key-file={pki}/server.key",
        "--peer-client-cert-auth=true",
        f"--peer-trusted-ca-file={pki}/ca.crt",
        f"--peer-cert-file={pki}/server.crt",
        f"--peer-key-file={pki}/server.key",
        # A trial cluster may lose its last second in a power failure; in return no write waits for a slow
        # disk.
        "--unsafe-no-fsync",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
        "--quota-backend-bytes=4294967296",
        "--logger=zap",
        "--log-level=warn",
    ]


def _await_etcd(paths: ClusterPaths, record: ClusterRecord, processes: ProcessRecord) -> None:
    pki = paths.pki / "etcd"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "client.crt", pki / "client.key")

    def healthy() -> bool:
        answer = _get(f"https://{LOOPBACK}:{record.ports['etcd']}/health", context)
        return answer is not None and json.loads(answer).get("health") in ("true", True)

    wait_for("etcd", healthy, processes, seconds=30)


def start_apiserver(paths: ClusterPaths, record: ClusterRecord, processes: ProcessRecord) -> None:
    processes.start("kube-apiserver", _apiserver(paths, record))


def _apiserver(paths: ClusterPaths, record: ClusterRecord) -> list[str]:
    pki, kubernetes = paths.pki, component("kubernetes")
    if record.with_node:
        # Endpoints must not be loopback addresses: pods come through a relay on the bridge (node.py).
        endpoint = [f"--advertise-address={record.subnets.gateway}", "--endpoint-reconciler-type=lease"]
    else:
        # No pod will ever ask for it: no endpoint, so that nothing points at an address that nobody serves.
        endpoint = [f"--advertise-address={record.subnets.gateway}", "--endpoint-reconciler-type=none"]
    return [
        str(kubernetes.program("kube-apiserver")),
        f"--bind-address={LOOPBACK}",
        f"--secure-port={record.ports['apiserver']}",
        *endpoint,
        f"--etcd-servers=https://{LOOPBACK}:{record.ports['etcd']}",
        f"--etcd-cafile={pki}/etcd/ca.crt",
        f"--etcd-certfile={pki}/etcd/client.crt",
        f"--etcd-keyfile={pki}/etcd/client.key",
        f"--service-cluster-ip-range={record.subnets.services}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--token-auth-file={pki}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        # The node's name need not resolve on this machine.
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki}/front-proxy/ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy/front-proxy-client.key",
        # Who asked what, with which program: tests and benchmarks count requests in it.
        f"--audit-policy-file={MANIFESTS / 'audit-policy.yaml'}",
        f"--audit-log-path={paths.audit_log}",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=3",
        "--profiling=false",
    ]


def start_controllers(paths: ClusterPaths, record: ClusterRecord, processes: ProcessRecord) -> None:
    pki, kubernetes = paths.pki, component("kubernetes")
    for name, port in (("kube-controller-manager", "controller-manager"), ("kube-scheduler", "scheduler")):
        kubeconfig = paths.config / f"{name}.kubeconfig"
        argv = [
            str(kubernetes.program(name)),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={record.ports[port]}",
            # There is one of each: an election would cost 15 s after each restart.
            "--leader-elect=false",
        ]
        if name == "kube-controller-manager":
            argv += [
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={pki}/service-accounts.key",
                f"--root-ca-file={pki}/ca.crt",
                f"--cluster-signing-cert-file={pki}/ca.crt",
                f"--cluster-signing-key-file={pki}/ca.key",
                f"--cluster-name={record.name}",
            ]
        processes.start(name, argv)


def await_apiserver(paths: ClusterPaths, record: ClusterRecord, processes: ProcessRecord) -> None:
    wait_for("kube-apiserver", lambda: ready(paths, record), processes, seconds=90)


def ready(paths: ClusterPaths, record: ClusterRecord) -> bool:
    """Whether the API server answers /readyz."""
    try:
        context = ssl.create_default_context(cafile=str(paths.pki / "ca.crt"))
    except OSError:
        return False
    return _get(f"{server_url(record)}/readyz", context) is not None


def wait_for(name: str, condition: Callable[[], bool], processes: ProcessRecord, seconds: float) -> None:
    """Until the condition holds; an end of the process is a ClusterError at once, with the end of its log."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not processes.running(name):
            raise processes.died(name)
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{name} is running, but was not ready after {seconds:.0f} s; see its log in the state folder"
            )
        time.sleep(0.05)


def _get(url: str, context: ssl.SSLContext) -> bytes | None:
    # Straight to loopback, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=5) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, OSError):
        return None
