"""What is reached from outside of the cluster: a port of a pod or service, and a namespace's store."""

import base64
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from live import Kubectl, kubectl_program
from modelmill_contracts import environment


@contextmanager
def store_outside(kubectl: Kubectl) -> Iterator[tuple[str, dict[str, str]]]:
    """The endpoint of the namespace's store on this machine, and the variables with its keys."""
    secret = (kubectl.get("secret", "store") or {})["data"]
    keys = {
        variable: base64.b64decode(secret[name]).decode()
        for variable, name in (
            (environment.STORE_ACCESS_KEY, "accessKeyId"),
            (environment.STORE_SECRET_KEY, "secretAccessKey"),
        )
    }
    with forwarded(kubectl, "deployment/store", 7070) as port:
        yield f"http://127.0.0.1:{port}", keys


@contextmanager
def forwarded(kubectl: Kubectl, what: str, port: int) -> Iterator[int]:
    """A local port that leads to a pod or service."""
    words = ("--kubeconfig", kubectl.config, "--namespace", kubectl.namespace, "port-forward", what, f":{port}")
    with subprocess.Popen([kubectl_program(), *words], stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        said = forward.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        try:
            assert found, said
            yield int(found[1])
        finally:
            forward.terminate()
