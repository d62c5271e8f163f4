"""The API server or etcd is killed for 70 seconds: no lease lives so long, and no pause is shorter."""

import os
from collections.abc import Callable

import pytest
from conftest import Operator
from outage import survive

from live import Kubectl


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd"])
def test_an_operator_goes_on_after_seventy_seconds_without(
    config: str,
    kubectl: Kubectl,
    operator: Callable[..., Operator],
    component: str,
    tell: Callable[[str], None],
) -> None:
    measured = survive(config, kubectl, operator(None, pod=f"pod-{os.getpid()}").active(), component, 70)
    tell(measured)
