"""The content-addressed store: where things lie, and how they get there.

Every object is written once under a name that is its content's digest, and never overwritten, unless it is a blob
that was damaged.  What nothing refers to is moved from blobs/ or artifacts/ to trash/ before it is deleted, so it is
looked for in both.  This module is for pods: the operator never holds a store's credentials and never imports it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions
from obstore.store import from_url

from modelmill_contracts import addresses, digest, environment
from modelmill_contracts.task import StoreLocation

SCHEMES = ("s3", "gs", "az", "file")
_REQUEST_TIMEOUT = timedelta(seconds=60)
_CONNECT_TIMEOUT = timedelta(seconds=5)
_RETRY_TIMEOUT = timedelta(seconds=15)
_WHOLE = 64 << 20  # bytes; larger files are written in parts, which are visible only when all are there
_PART = 16 << 20  # S3 takes 10,000 parts
_COPY = 5 << 30  # bytes; S3 copies no more in one request
_PAGE = 1000  # objects of a list; S3 tells no more at once
_PARTS_AT_ONCE = 2  # each is held in memory

BLOBS, ARTIFACTS, TRASH = "blobs/", "artifacts/", "trash/"
OWNERS = "owners/"  # an empty object for each owner that tried the store


class StoreError(Exception):
    """The store did not do what was asked.  `reason` is CamelCase; `retryable`: time may heal it."""

    def __init__(self, reason: str, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


def blob_key(content: str) -> str:
    """The key of a single file by its digest."""
    return f"{BLOBS}sha256-{digest.hex_of(content)}"


def artifact_key(content: str) -> str:
    """The key (a prefix) of an artifact directory by its manifest's digest."""
    return f"{ARTIFACTS}sha256-{digest.hex_of(content)}"


def signature_key(content: str, fingerprint: str) -> str:
    """The key of one signature on the artifact with that digest."""
    return f"signatures/sha256-{digest.hex_of(content)}/{fingerprint}.sig"


def trash_key(key: str) -> str:
    """Where the file at `key`, of a blob or in an artifact's folder, is moved to before it is deleted."""
    return TRASH + key.removeprefix(BLOBS)


def home_key(key: str) -> str:
    """Where the file at `key` in trash/ was before."""
    rest = key.removeprefix(TRASH)
    return rest if rest.startswith(ARTIFACTS) else BLOBS + rest


class StoredObject(NamedTuple):
    key: str
    size: int  # bytes
    modified_at: datetime  # by the store's clock, when it was last written, copied or moved
    tag: str | None  # changes with the content; None where the store has no such thing


class Store:
    """A bucket or folder, with errors that say what to do.

    Credentials are the environment variables of `environment`, from `variables` where given (and then from
    nowhere else); without them the platform's own identity (a service account bound to a cloud role) is used.
    `field` is where a manifest declares it.  With `attempt` a request is tried once, and given up after that: who asks
    has its own way to try again.
    """

    def __init__(
        self,
        location: StoreLocation,
        variables: Mapping[str, str] | None = None,
        field: str = "spec.store",
        attempt: timedelta | None = None,
    ) -> None:
        variables = os.environ if variables is None else variables
        self.location = location
        self._field = field
        scheme = urlsplit(location.uri).scheme
        if scheme not in SCHEMES:
            raise StoreError(
                "StoreSchemeUnknown",
                f"the store's uri {location.uri!r} has scheme {scheme!r}; use one of {', '.join(SCHEMES)}",
                retryable=False,
            )
        if location.endpoint:
            _check_endpoint(location.endpoint, f"{field}.endpoint")
        options: dict[str, Any] = {}
        if scheme == "s3":
            options["region"] = location.region or "us-east-1"
            if location.endpoint:
                options["endpoint"] = location.endpoint
                options["virtual_hosted_style_request"] = False
        if scheme == "az":
            if location.endpoint:
                options["endpoint"] = location.endpoint
            options["account_name"] = _account(location, variables, field)
        for name, option in _CREDENTIALS.get(scheme, {}).items():
            if name in variables:
                options[option] = variables[name]
        if scheme != "file":
            options["client_options"] = {
                "allow_http": (location.endpoint or "").startswith("http://"),
                "timeout": attempt or _REQUEST_TIMEOUT,
                "connect_timeout": _CONNECT_TIMEOUT,
            }
            retries = 4 if attempt is None else 0
            options["retry_config"] = {"max_retries": retries, "retry_timeout": _RETRY_TIMEOUT}
        else:
            options["mkdir"] = True
        with self._explained("open"), _only(variables):
            self._store = from_url(location.uri.rstrip("/"), **options)

    def put_once(self, key: str, content: bytes | Path) -> bool:
        """Write `content` under `key` unless it is there; whether this call wrote it.

        A blob of another size is no content of its key's digest: it was damaged, and is written again.  A large file
        may be written twice where two writers come at the same moment: it is the same content.
        """
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        large = isinstance(content, Path) and size > _WHOLE
        with self._explained(f"write {key}"):
            if not large:
                try:
                    obstore.put(self._store, key, content, mode="create", use_multipart=False)
                except exceptions.AlreadyExistsError:
                    pass
                else:
                    return True
            found = self._size(key)
            if found is not None and (found == size or not key.startswith(BLOBS)):
                return False
            obstore.put(
                self._store,
                key,
                content,
                use_multipart=large,
                chunk_size=_PART,
                max_concurrency=_PARTS_AT_ONCE,
            )
        return True

    def get(self, key: str, limit: int) -> bytes:
        """The object at `key`; StoreError where it is longer than `limit` bytes or not there."""
        with self._explained(f"read {key}"):
            answer = self._open(key)
            if answer.meta["size"] > limit:
                raise StoreError(
                    "ObjectTooLarge",
                    f"{self.location.uri}/{key} has {answer.meta['size']} bytes; {limit} are allowed",
                    retryable=False,
                )
            return bytes(answer.bytes())

    def chunks(self, key: str, tag: str | None = None) -> Iterator[bytes]:
        """The object at `key`, piece by piece; StoreError `ObjectChanged` where it does not have the tag any more."""
        with self._explained(f"read {key}"):
            for chunk in self._open(key, tag).stream(min_chunk_size=1 << 20):
                yield bytes(chunk)

    def download(self, key: str, path: Path) -> None:
        """The object at `key` into the new file `path`."""
        with path.open("xb") as file:
            for chunk in self.chunks(key):
                file.write(chunk)

    def look(self, key: str) -> StoredObject:
        """What there is to know of the object at `key`; StoreError where it is not there."""
        with self._explained(f"read {key}"):
            try:
                return _stored(obstore.head(self._store, key))
            except (FileNotFoundError, exceptions.NotFoundError):
                # The answer to HEAD has no body, which would tell a missing bucket from a missing object.
                return _stored(obstore.get(self._store, key).meta)

    def objects(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """The objects under the folder `prefix`, in no order; only those whose keys come after `after`."""
        with self._explained(f"list {prefix}"):
            for page in obstore.list(self._store, prefix, offset=after or None, chunk_size=_PAGE):
                yield from map(_stored, page)

    def keys(self, prefix: str, after: str = "", before: str | None = None) -> list[str]:
        """The keys in the folder `prefix`, sorted; only those after `after` and before `before`.

        Buckets are listed in the order of their keys, so that what comes later is not asked for.
        """
        found, ordered = [], urlsplit(self.location.uri).scheme != "file"
        for entry in self.objects(prefix, after):
            if before is None or entry.key < before:
                found.append(entry.key)
            elif ordered:
                break
        return sorted(found)

    def move(self, key: str, target: str) -> None:
        """Move an object within the store; the moment of the move is its time of modification."""
        with self._explained(f"move {key}"):
            parts = urlsplit(self.location.uri)
            found = self.look(key) if parts.scheme == "s3" else None
            if found is not None and found.size > _COPY:
                self._copy_in_parts(found, target)
            else:
                obstore.copy(self._store, key, target)
            if parts.scheme == "file":  # a copy there is a second link, with the times of the first
                os.utime(Path(unquote(parts.path)) / target)
            obstore.delete(self._store, key)

    def _copy_in_parts(self, found: StoredObject, target: str) -> None:
        # Closed by hand: a context manager would, after a failure, finish what is half an object.
        writer = obstore.open_writer(self._store, target, buffer_size=_PART, max_concurrency=_PARTS_AT_ONCE)
        for chunk in self.chunks(found.key, found.tag):
            writer.write(chunk)
        writer.close()

    def _size(self, key: str) -> int | None:
        """Of the object at `key`, in bytes; None where there is none."""
        try:
            return _stored(obstore.head(self._store, key)).size
        except (FileNotFoundError, exceptions.NotFoundError):
            return None

    def _open(self, key: str, tag: str | None = None) -> Any:
        options: Any = {"if_match": tag} if tag else {}
        try:
            return obstore.get(self._store, key, options=options)
        except (FileNotFoundError, exceptions.NotFoundError):
            if not key.startswith((BLOBS, ARTIFACTS)):
                raise
            return obstore.get(self._store, trash_key(key), options=options)

    def delete(self, key: str) -> None:
        with self._explained(f"delete {key}"):
            obstore.delete(self._store, key)

    def _explained(self, action: str) -> "_Explained":
        return _Explained(self.location, action, self._field)


def _check_endpoint(endpoint: str, field: str) -> None:
    """StoreError where no store may be: a key must not be sent there, nor the answer be taken for data."""
    host = addresses.host_of(endpoint)
    if host is None:
        message = f"{field}: {endpoint!r} is not of the form http://HOST:PORT or https://HOST; mend it"
        raise StoreError("StoreInvalid", message, retryable=False)
    if any(map(addresses.is_denied_to_pods, addresses.resolved(host))):
        raise StoreError("StoreAddressDenied", addresses.refusal(endpoint, field), retryable=False)


def _account(location: StoreLocation, variables: Mapping[str, str], field: str) -> str:
    """The storage account of a container, as it is declared or as the Secret says; StoreError where there are two."""
    told = variables.get(environment.AZURE_ACCOUNT)
    if location.account and told and told != location.account:
        raise StoreError(
            "StoreAccountDiffers",
            f"{field}.account is {location.account}, and the Secret that {field}.secretRef names has another"
            f" {environment.AZURE_ACCOUNT_FIELD}; make them one, or take {environment.AZURE_ACCOUNT_FIELD} out of the"
            " Secret",
            retryable=False,
        )
    account = location.account or told
    if not account:
        raise StoreError(
            "StoreAccountMissing",
            f"nothing says in which storage account {location.uri} is; name it in {field}.account, or in the key"
            f" {environment.AZURE_ACCOUNT_FIELD} of the Secret that {field}.secretRef names",
            retryable=False,
        )
    return account


# What each scheme's client takes its keys from, and as what.
_CREDENTIALS = {
    "s3": {
        environment.STORE_ACCESS_KEY: "access_key_id",
        environment.STORE_SECRET_KEY: "secret_access_key",
    },
    "gs": {environment.GOOGLE_KEY: "service_account_key"},
    "az": {environment.AZURE_ACCOUNT: "account_name", environment.AZURE_KEY: "account_key"},
}


def credential_names(scheme: str) -> tuple[str, ...]:
    """The environment variables that a store of this scheme takes its credentials from."""
    return tuple(_CREDENTIALS.get(scheme, {}))


def _stored(meta: Mapping[str, Any]) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])


@contextmanager
def _only(variables: Mapping[str, str]) -> Iterator[None]:
    """Hide the process's keys where others, or none, are meant: the client reads the environment by itself."""
    names = [name for scheme in _CREDENTIALS for name in credential_names(scheme)]
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ and name not in variables}
    try:
        yield
    finally:
        os.environ.update(hidden)


class _Explained:
    """Turns the client's errors into StoreErrors that name the store, what was tried, and what to do."""

    def __init__(self, location: StoreLocation, action: str, field: str) -> None:
        self._where = location.uri + (f" at {location.endpoint}" if location.endpoint else "")
        self._action = action
        self._field = field

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, StoreError) or not isinstance(error, Exception):
            return
        text = _stable(str(error))
        reason, advice, retryable = _diagnosis(error, text, self._action, self._field)
        raise StoreError(
            reason, f"could not {self._action} in {self._where}: {advice} ({text[:300]})", retryable=retryable
        ) from error


_INSTANCE_METADATA = "169.254.169.254"
_REFUSALS = (
    "accessdenied",
    "invalidaccesskeyid",
    "signaturedoesnotmatch",
    "usernotfound",
    "expiredtoken",
    "403 forbidden",
)
_NO_BUCKET = ("nosuchbucket", "containernotfound")
_FULL = ("no space left", "quotaexceeded", "quota exceeded", "507 ", "insufficientstorage")


def _stable(text: str) -> str:
    """The client's text without what differs from try to try, so that the same trouble gives the same condition."""
    text = " ".join(text.partition("Debug source:")[0].split())
    text = re.sub(r" in [0-9.]+[mµn]?s\b", "", text)
    # Of the server's XML only its code and message: the rest is request ids, which Azure has at the message's end.
    head, _, body = text.partition("<?xml")
    found = [re.search(f"<{name}>(.*?)(?: RequestId:.*?)?</{name}>", body) for name in ("Code", "Message")]
    return head + ": ".join(match[1] for match in found if match)


_CLIENT_ERROR = re.compile(r"status code: 4(?!08|29)[0-9][0-9]")


def _diagnosis(error: Exception, text: str, action: str, field: str) -> tuple[str, str, bool]:
    lower = text.lower()
    if _INSTANCE_METADATA in text:
        # Without keys the client asks the cloud for the pod's identity, and found none there.
        return "StoreCredentialsMissing", f"there are no keys for it; name a Secret in {field}.secretRef", False
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or any(
        word in lower for word in _REFUSALS
    ):
        advice = "it refuses the key; check the Secret that secretRef names, and the bucket's policy"
        return "StoreRefused", advice, False
    if any(code in lower for code in _NO_BUCKET):
        return "StoreBucketMissing", "the bucket does not exist; create it or mend the uri", False
    if isinstance(error, exceptions.PreconditionError):
        return "ObjectChanged", "it was changed while it was read; try again when nothing writes it", True
    if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
        return "ObjectNotFound", "there is no such object", False
    if any(word in lower for word in _FULL):
        return "StoreFull", "it is full; free space or enlarge it", True
    if action == "open":
        return "StoreInvalid", "this uri cannot be opened; mend the uri, or what it needs beside it", False
    if _CLIENT_ERROR.search(text):
        return "StoreRequestInvalid", "it does not accept the request; check the uri, endpoint and region", False
    return "StoreUnreachable", "it does not answer; check the endpoint, and that the store runs", True
