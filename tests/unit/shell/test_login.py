"""Login: a pod's token is read anew, and a start does not wait for what a plain kubeconfig does not need."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kopf
import pytest

from modelmill.shell import login


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "token").write_text("first\n")
    return tmp_path


async def test_a_service_account_is_the_pods_own(account: Path) -> None:
    info = await login.service_account(account).present()
    assert info.server == "https://10.96.0.1:443"
    assert info.as_http_headers() == {"Authorization": "Bearer first"}
    assert info.ca_path == account / "ca.crt"
    assert not info.insecure


async def test_an_address_of_ipv6_has_its_brackets(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert login.service_account(account).info.server == "https://[fd00::1]:443"


async def test_a_token_that_was_replaced_is_used_within_a_minute(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(login, "monotonic", lambda: now)
    credentials = login.service_account(account)
    (account / "token").write_text("second")
    now += 59
    assert (await credentials.present()).token == "first"
    now += 2
    assert (await credentials.present()).token == "second"


def test_a_pod_without_the_api_servers_address_is_told_so(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(kopf.LoginError, match="KUBERNETES_SERVICE_HOST"):
        login.service_account(account)


INSIDE = base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()
CERTIFICATE = {"client-certificate-data": INSIDE, "client-key-data": INSIDE}


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: str) -> str:
    path = folder / "kubeconfig"
    content = {
        "clusters": [{"name": "c", "cluster": {"server": "https://1.2.3.4:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "it",
    }
    path.write_text(json.dumps(content))
    return str(path)


async def test_a_kubeconfig_with_certificates_inside_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(tmp_path, CERTIFICATE, **{"certificate-authority-data": INSIDE})
    monkeypatch.setenv("KUBECONFIG", path)
    info = (await login.load()).info
    assert info.server == "https://1.2.3.4:6443"
    assert (info.ca_data, info.certificate_data, info.private_key_data) == (INSIDE, INSIDE, INSIDE)
    assert info.as_http_headers() == {}


async def test_a_kubeconfig_with_a_token_inside_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(tmp_path, {"token": "mine"}, **{"certificate-authority-data": INSIDE})
    monkeypatch.setenv("KUBECONFIG", path)
    info = login.plain()
    assert info is not None
    assert info.info.as_http_headers() == {"Authorization": "Bearer mine"}


@pytest.mark.parametrize(
    "user",
    [
        {"tokenFile": "token"},
        {**CERTIFICATE, "tokenFile": "token"},
        {"token": "mine", "auth-provider": {"config": {"access-token": "old"}}},
    ],
)
async def test_a_kubeconfig_whose_token_is_renewed_is_read_by_the_official_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any]
) -> None:
    (tmp_path / "token").write_text("mine")
    user = user | ({"tokenFile": str(tmp_path / "token")} if "tokenFile" in user else {})
    path = kubeconfig(tmp_path, user, **{"certificate-authority-data": INSIDE})
    monkeypatch.setenv("KUBECONFIG", path)
    assert login.plain() is None
    info = await (await login.official(path)).present()
    assert info.server == "https://1.2.3.4:6443"
    assert info.as_http_headers() == {"Authorization": "Bearer mine"}


def test_the_operator_starts_without_the_official_client() -> None:
    started = "import sys, modelmill.__main__; print([m for m in sys.modules if m.partition('.')[0] == 'kubernetes'])"
    assert subprocess.check_output([sys.executable, "-c", started], text=True) == "[]\n"
