"""Routes: what the pods that serve do with a rollout's candidate.

The operator writes them as one JSON object into the ConfigMap `NAME-routes`, which the pods mount at
`environment.ROUTES_FOLDER`.  Where there are none, nothing is rolled out: pods answer everything themselves.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

FILE = "routes.json"  # the ConfigMap's key, and so the file's name
LIMIT = 16 << 10  # bytes
VERSION = 1

# A request with this header goes to the arm that it names, stable or candidate, and is in neither arm's counts.
ARM_HEADER = "modelmill-arm"
STABLE, CANDIDATE = "stable", "candidate"
# A copy for the candidate of what the stable has answered: nobody gets its answer.
COPY_HEADER = "modelmill-copy"

# Of a gRPC call that is forwarded: its message, as a POST to the candidate's HTTP port.
GRPC_PATH = "/modelmill/v1/model-infer"

Percent = Annotated[int, Meta(ge=0, le=100)]


class Routes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rollout, as far as pods need to know it.

    `epoch` names what is counted: with another one, all counts of arms begin at zero.  `weight` is the share of
    requests that the candidate answers, in percent; `shadow` the share of the others of which it gets a copy.
    """

    version: int = VERSION
    epoch: Annotated[str, Meta(min_length=1, max_length=64)]
    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:-]+\Z", max_length=253)]  # the candidate's Service, or an address
    port: Annotated[int, Meta(ge=1, le=65535)]  # HTTP
    weight: Percent = 0
    shadow: Percent = 0
    sticky_header: Annotated[str, Meta(pattern=r"^[a-z0-9][-a-z0-9_]*\Z", max_length=64)] | None = None
    """Requests with equal values of this header (lower case) go to the same arm; absent: by chance."""
    window: Annotated[int, Meta(ge=1, le=86_400)] = 15
    """With `sticky_header`: of each of its values, a server counts the first outcome in so many seconds."""
    revision: Annotated[str, Meta(max_length=64)] = ""
    """The candidate's.  Its own pods, which see the same routes, answer everything themselves; where it is absent,
    they find themselves asked by themselves, and answer then."""


def encode(routes: Routes) -> bytes:
    """The file's text."""
    return msgspec.json.encode(routes)


def decode(text: bytes) -> Routes:
    """The routes in a file's text; ValueError where it holds none, or those of a newer version."""
    try:
        found = msgspec.json.decode(text, type=Routes)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if found.version != VERSION:
        raise ValueError(f"its version is {found.version}, and this program knows {VERSION}")
    return found
