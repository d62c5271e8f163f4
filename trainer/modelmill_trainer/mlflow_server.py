"""What is asked of an MLflow server (2 and 3): its REST API, by plain HTTP, one answer for each question.

Nothing is asked twice: whether something was done that got no answer is for whoever asks to find out.  Redirects are
not followed, as credentials would go along.
"""

import base64
import http.client
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from modelmill_contracts import environment
from modelmill_contracts.addresses import Address, is_denied_to_pods
from modelmill_trainer import judged
from modelmill_trainer.failure import TaskError

TIMEOUT = 60  # seconds without a byte: what is given up may be done all the same, and is to be found the next time
_API = "/api/2.0/mlflow/"
_ANSWER = 4 << 20  # bytes
_BUSY = (408, 429)
_FIELD = "spec.tracking.mlflow"


class RefusedError(Exception):
    """MLflow does not do this, by the error code that it gave: asked again, it would say the same."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Mlflow:
    """A server at `uri`, with the credentials that `variables` have; `secret` is where they should come from."""

    def __init__(
        self,
        uri: str,
        variables: Mapping[str, str],
        secret: str = "",
        *,
        denied: Callable[[Address], bool] = is_denied_to_pods,
        context: ssl.SSLContext | None = None,
    ) -> None:
        try:
            parts = urlsplit(uri)
            port = parts.port
        except ValueError as error:
            raise TaskError("MlflowUnknown", f"{_FIELD}.uri {uri} is no URL: mend its host and port") from error
        self._uri, self._host, self._tls = uri, parts.hostname or "", parts.scheme == "https"
        self._port = port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/") + _API
        self._denied, self._context = denied, context
        self._headers = {
            "Host": parts.netloc,
            "User-Agent": "modelmill",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        self._headers |= _authorization(variables, secret)

    def get(self, path: str, **query: str) -> Any:
        """The answer to a question; TaskError, RefusedError."""
        return self._ask("GET", f"{path}?{urlencode(query)}", None)

    def post(self, path: str, **body: Any) -> Any:
        """The same, with JSON."""
        return self._ask("POST", path, msgspec.json.encode(body))

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        connection = self._connect()
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        try:
            connection.request(method, self._base + path, body, headers)
            answer = connection.getresponse()
            content = answer.read(_ANSWER)
            if answer.length:  # bytes that Content-Length promised and that did not come
                raise http.client.IncompleteRead(content)
            return self._read(answer.status, content)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _read(self, status: int, content: bytes) -> Any:
        try:
            said = msgspec.json.decode(content)
        except msgspec.DecodeError:
            said = None
        if status == 200 and isinstance(said, dict):
            return said
        if status in (401, 403):
            raise TaskError(
                "MlflowRefused",
                f"MLflow at {self._uri} refuses it ({status}); check the Secret that {_FIELD}.secretRef names, that its"
                " user may create experiments and edit those of this namespace, and that the server takes requests for"
                f" {self._headers['Host']} (its --allowed-hosts)",
            )
        if status >= 500 or status in _BUSY:
            raise TaskError("MlflowFailed", f"MLflow at {self._uri} answered {status}; look at its log", retryable=True)
        code = said.get("error_code") if isinstance(said, dict) else None
        if 400 <= status < 500 and isinstance(said, dict) and isinstance(code, str):
            raise RefusedError(code, str(said.get("message"))[:1000])
        raise TaskError(
            "MlflowUnknown",
            f"{_FIELD}.uri {self._uri} answers ({status}), but not as MLflow does; name the URL of an MLflow server,"
            " not one that leads there",
        )

    def _connect(self) -> http.client.HTTPConnection:
        try:
            return judged.connect(
                self._host, self._port, self._denied, timeout=TIMEOUT, tls=self._tls, context=self._context
            )
        except judged.UnresolvableError as error:
            raise TaskError(
                "MlflowUnresolvable",
                f"{_FIELD}.uri: the name {self._host!r} does not resolve; check its spelling, and the cluster's DNS",
                retryable=True,
            ) from error
        except judged.DeniedError as error:
            raise TaskError(
                "MlflowAddressDenied",
                f"{_FIELD}.uri: {self._host!r} is a link-local or metadata address, where no MLflow may be; use the"
                " address of a real server",
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise TaskError(
                "MlflowCertificateInvalid",
                f"{_FIELD}.uri: the certificate of {self._host!r} is not trusted ({error.verify_message})",
            ) from error
        except OSError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> TaskError:
        return TaskError(
            "MlflowUnreachable",
            f"MLflow at {self._uri} gives no answer ({type(error).__name__}); check that it runs and that a"
            " NetworkPolicy allows the way to it",
            retryable=True,
        )


def _authorization(variables: Mapping[str, str], secret: str) -> dict[str, str]:
    token = variables.get(environment.MLFLOW_TOKEN)
    user, password = (variables.get(name) for name in (environment.MLFLOW_USERNAME, environment.MLFLOW_PASSWORD))
    if token:
        value = f"Bearer {token.strip()}"
    elif user and password is not None:
        value = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    elif secret:
        raise TaskError(
            "MlflowCredentialsMissing",
            f"{_FIELD}.secretRef: there is no Secret {secret} with the keys username and password, or token; create it",
        )
    else:
        return {}
    if "\n" in value or "\r" in value:
        raise TaskError("MlflowCredentialsMissing", f"{_FIELD}.secretRef: the token of Secret {secret} has two lines")
    return {"Authorization": value}
