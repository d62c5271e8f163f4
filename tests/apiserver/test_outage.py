"""The API server or etcd is killed for 10 seconds; longer ones are in tests/chaos."""

import os
from collections.abc import Callable

import pytest
from conftest import Operator
from outage import survive

from live import Kubectl


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd"])
def test_an_operator_goes_on_after_ten_seconds_without(
    config: str,
    kubectl: Kubectl,
    operator: Callable[..., Operator],
    component: str,
    tell: Callable[[str], None],
) -> None:
    measured = survive(config, kubectl, operator(None, pod=f"pod-{os.getpid()}").active(), component, 10)
    tell(measured)
