"""The cluster, read through the user's own kubeconfig and with the user's own rights."""

import argparse
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from modelmill.api.schema import GROUP, VERSION, Resource

Manifest = Mapping[str, Any]
_PAGE = 500
_TIMEOUT = 30  # seconds


class CommandError(Exception):
    """What the user is told instead of an answer."""


class ForbiddenError(CommandError):
    """The user may not read this kind."""


def options(default: str | None = argparse.SUPPRESS) -> argparse.ArgumentParser:
    """Which cluster and namespace; they may stand before a verb and after it, so a verb's leave what was said."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("-n", "--namespace", default=default, help="default: that of the kubeconfig's context")
    made.add_argument("--context", default=default, help="a context of the kubeconfig; default: its current one")
    made.add_argument("--kubeconfig", default=default, help="default: $KUBECONFIG, or ~/.kube/config")
    return made


class Cluster:
    """One namespace of one cluster."""

    def __init__(self, kubeconfig: str | None = None, context: str | None = None, namespace: str | None = None) -> None:
        """Without arguments what kubectl would use; CommandError where there is no such cluster."""
        configuration = client.Configuration()
        configuration.retries = 0  # who waits at a terminal is told at once
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        try:
            contexts, active = config.list_kube_config_contexts(kubeconfig)
            config.load_kube_config(kubeconfig, context, client_configuration=configuration, persist_config=False)
        except (config.ConfigException, OSError) as error:
            raise CommandError(
                f"there is no cluster to ask ({error}); set KUBECONFIG, or name a file with --kubeconfig"
            ) from error
        chosen = next((c for c in contexts if c["name"] == context), active)
        self.namespace: str = namespace or chosen["context"].get("namespace") or "default"
        self._host = configuration.host
        self._api = client.CustomObjectsApi(client.ApiClient(configuration))

    def objects(self, kind: type[Resource]) -> list[Manifest]:
        """All objects of a kind of ours; ForbiddenError where the user may not list it, else CommandError."""
        try:
            return list(self._pages(kind))
        except ApiException as error:
            raise _explained(error, kind, self.namespace) from error
        except urllib3.exceptions.HTTPError as error:
            raise CommandError(f"the API server {self._host} does not answer: {error}") from error

    def annotate(self, kind: type[Resource], name: str, annotation: str, text: str) -> None:
        """Set an annotation of an object of ours; CommandError where that may not be."""
        body = {"metadata": {"annotations": {annotation: text}}}
        try:
            self._api.patch_namespaced_custom_object(
                *(GROUP, VERSION, self.namespace, kind.plural, name),
                body,
                _content_type="application/merge-patch+json",
                _request_timeout=_TIMEOUT,
            )
        except ApiException as error:
            if error.status == 403:
                raise ForbiddenError(f"you may not patch {kind.plural} in namespace {self.namespace}") from error
            raise _explained(error, kind, self.namespace) from error
        except urllib3.exceptions.HTTPError as error:
            raise CommandError(f"the API server {self._host} does not answer: {error}") from error

    def create(self, kind: type[Resource], manifest: dict[str, Any]) -> str:
        """Create an object of ours; its name.  CommandError where that may not be."""
        try:
            made: Any = self._api.create_namespaced_custom_object(
                *(GROUP, VERSION, self.namespace, kind.plural),
                manifest,
                field_manager="kubectl-mill",
                _request_timeout=_TIMEOUT,
            )
        except ApiException as error:
            if error.status == 403:
                raise ForbiddenError(f"you may not create {kind.plural} in namespace {self.namespace}") from error
            if error.status == 422:
                raise CommandError(f"the API server does not take it: {_message(error)}") from error
            raise _explained(error, kind, self.namespace) from error
        except urllib3.exceptions.HTTPError as error:
            raise CommandError(f"the API server {self._host} does not answer: {error}") from error
        return str(made["metadata"]["name"])

    def _pages(self, kind: type[Resource]) -> Iterator[Manifest]:
        following: str | None = None
        while True:
            page: Any = self._api.list_namespaced_custom_object(
                *(GROUP, VERSION, self.namespace, kind.plural),
                limit=_PAGE,
                _continue=following,
                _request_timeout=_TIMEOUT,
            )
            yield from page["items"]
            following = page["metadata"].get("continue") or None
            if following is None:
                return


def _explained(error: ApiException, kind: type[Resource], namespace: str) -> CommandError:
    said = _message(error)
    if error.status == 403:
        return ForbiddenError(f"you may not list {kind.plural} in namespace {namespace}")
    if error.status == 401:
        return CommandError(f"the API server does not take your credentials ({said}); log in again")
    if error.status == 404:
        return CommandError(
            f"the cluster knows no {kind.plural}.{GROUP}; is Modelmill installed there (kubectl apply -k crds), and is"
            " this the right context (--context)?"
        )
    return CommandError(f"{kind.plural} of namespace {namespace} cannot be read: {said}")


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"
