"""Databases: the rows of one query, streamed as Arrow from PostgreSQL, in a transaction that cannot write.

The URL comes from a Secret, so nothing that the client says of it is shown; of what the server says of the query,
quoted text is left out, which may be values of the data.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import StatementOptions, dbapi

from modelmill_contracts import environment
from modelmill_trainer import casting
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import redacted
from modelmill_trainer.reading import Source, check_names
from modelmill_trainer.sources import check_address

_BATCH_BYTES = 8 << 20
_NO_ADDRESS = "no-address"  # in the place of one, libpq refuses it without asking anybody
_CONNECT_SECONDS = 10
_SCHEMES = ("postgresql://", "postgres://")
_COMMENT = re.compile(r"\A(\s+|--[^\n]*(\n|\Z)|/\*.*?\*/)", re.DOTALL)
_READS = ("SELECT", "WITH", "VALUES", "TABLE")
_TEXT = 300  # characters of the server's words that are shown
_FIELD = "source.sql"
# The first two characters of SQLSTATE, see the appendix "PostgreSQL Error Codes".
_PASSING = ("08", "40", "53", "55", "57", "58")  # connection, rollback, resources, not ready, operator, system
_OF_THE_QUERY = "42"  # names and syntax: what is quoted stands in the query, where the server points at it
_VALUE = re.compile(r"[\"'0-9].*")  # from where a value may begin
_BUSY = ("too many", "connection slots")  # connections, clients; those that are left are an administrator's
_LOST = ("server closed the connection", "terminating connection", "connection not open", "could not receive")


@contextmanager
def rows(query: str, variables: Mapping[str, str] | None = None) -> Iterator[Source]:
    """The query's rows, which can be read once; TaskError where it cannot be asked or is no query."""
    url = (os.environ if variables is None else variables).get(environment.SOURCE_URL, "")
    url = _judged(url)
    text = _one_query(query)
    try:
        connection = _connect(url)
    except dbapi.Error as error:
        raise _no_connection(str(error)) from None  # the chain would show the URL in the log
    try:
        with connection.cursor() as cursor:
            yield _ask(cursor, text)
    finally:
        connection.close()


def _judged(url: str) -> str:
    """The URL with the addresses that its hosts have now; TaskError where one of them is denied.

    libpq would look names up again, and might get other answers.  The URL is read as libpq reads it ("Connection
    URIs" in PostgreSQL's manual), or refused: the user ends at the first @, there is no fragment, hosts are unquoted.
    """
    try:
        parts = urlsplit(url)
        asked = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    except ValueError:
        raise _no_url() from None
    at = url.count("@")
    if not url.startswith(_SCHEMES) or "#" in url or at > 1 or (at and "@" not in parts.netloc):
        raise _no_url()
    places = [_name_and_port(place) for place in parts.netloc.rpartition("@")[2].split(",")]
    names = asked.get("host", unquote(",".join(name for name, _ in places))).split(",")
    ports = asked.get("port", unquote(",".join(port for _, port in places))).split(",")
    if asked.get("hostaddr"):
        given = asked["hostaddr"].split(",")
        if "" in given:  # the name would be looked up
            raise _no_url()
        for host in (*names, *given):
            check_address(host, _FIELD)
        return url
    if len(ports) == 1:
        ports *= len(names)
    if len(ports) != len(names):
        raise _no_url()
    if all(_is_socket(name) for name in names):
        return url
    # One host for each address, so that each is tried.
    hosts = [
        (name, address, port)
        for name, port in zip(names, ports, strict=True)
        for address in ([""] if _is_socket(name) else check_address(name, _FIELD) or [_NO_ADDRESS])
    ]
    columns = (",".join(column) for column in zip(*hosts, strict=True))
    return _with(url, dict(zip(("host", "hostaddr", "port"), columns, strict=True)))


def _name_and_port(place: str) -> tuple[str, str]:
    """Of a name or [IPv6], with a port or not."""
    if place.startswith("["):
        name, _, rest = place[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = place.partition(":")
    return name, port


def _is_socket(name: str) -> bool:
    """Whether it is a socket of this pod: a path, an abstract name, or libpq's default."""
    return not name or name.startswith(("/", "@"))


def _with(url: str, options: Mapping[str, str]) -> str:
    """The URL with options that count rather than those that it has."""
    return url + ("&" if "?" in url else "?") + urlencode(options, quote_via=quote)


def _no_url() -> TaskError:
    return TaskError(
        "SourceInvalid",
        f"{_FIELD}.urlRef: the Secret's URL is not of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE; mend the"
        " Secret (characters like @ and / in a password are written %40 and %2F)",
    )


def _one_query(query: str) -> str:
    """The query as it can stand in parentheses; the server itself refuses more than one."""
    rest = query
    while match := _COMMENT.match(rest):
        rest = rest[match.end() :]
    if not rest.upper().startswith(_READS):
        raise TaskError("QueryDenied", f"{_FIELD}.query has to be one query: SELECT, WITH, VALUES or TABLE")
    return rest.rstrip().rstrip(";") + "\n"  # it may end in a comment


def _connect(url: str) -> dbapi.Connection:
    if "connect_timeout" not in url:
        url = _with(url, {"connect_timeout": str(_CONNECT_SECONDS)})
    if "sslmode=verify-full" in url and "sslrootcert" not in url:
        url = _with(url, {"sslrootcert": "system"})  # else libpq looks in a home folder, which pods have not
    return dbapi.connect(url)


def _ask(cursor: dbapi.Cursor, query: str) -> Source:
    try:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(_BATCH_BYTES)})
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
    except (dbapi.Error, OSError) as error:
        raise _refused(error) from None
    check_names(reader.schema.names, "")
    schema = pa.schema([pa.field(field.name, _kind_of(field.type)) for field in reader.schema])
    return Source(schema, False, lambda: _batches(reader, schema))


def _kind_of(kind: pa.DataType) -> pa.DataType:
    """The type that a column is read as: numeric as it is, whose text is cast exactly to what is declared."""
    if casting.is_numeric(kind):
        return kind
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _batches(reader: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (dbapi.Error, OSError, pa.ArrowException) as error:
            raise _refused(error) from None
        columns = [_plain(column, kind) for column, kind in zip(batch.columns, schema.types, strict=True)]
        yield pa.record_batch(columns, schema=schema)


def _plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    stored = column.storage if isinstance(column, pa.ExtensionArray) else column
    return stored if stored.type == kind else pc.cast(stored, kind)


def _no_connection(text: str) -> TaskError:
    lower = redacted(text).lower()  # names, which are quoted, say nothing of what went wrong
    if "connection to server" not in lower and "could not parse network address" not in lower:
        return _no_url()
    if "connection to server" not in lower:
        return TaskError(
            "SourceUnresolvable",
            f"{_FIELD}: the name of the database's host does not resolve; check the Secret's URL, and the cluster's"
            " DNS",
            retryable=True,
        )
    if any(words in lower for words in _BUSY):
        return TaskError(
            "SourceUnavailable",
            f"{_FIELD}: the database takes no more connections now; it is asked again later",
            retryable=True,
        )
    if "database" in lower and "does not exist" in lower:
        return TaskError("SourceNotFound", f"{_FIELD}: the server has no database of that name; check the Secret's URL")
    if any(word in lower for word in ("authentication", "password", "role", "pg_hba", "permission denied")):
        return TaskError(
            "SourceRefused", f"{_FIELD}: the database refuses the user or the password; check the Secret's URL"
        )
    if any(words in lower for words in ("certificate", "ssl error", "not support ssl")):
        return TaskError(
            "SourceCertificateInvalid",
            f"{_FIELD}: there is no TLS with a certificate of a public authority for the name of the database's host,"
            " which the Secret's URL asks for; give it one, or write sslmode=require, which encrypts and does not look"
            " who answers",
        )
    return TaskError(
        "SourceUnreachable",
        f"{_FIELD}: the database does not answer; check that it runs, the Secret's URL, and that a NetworkPolicy allows"
        " the way to it",
        retryable=True,
    )


def _refused(error: Exception) -> TaskError:
    """What the server says of the query; it shows the query below its words."""
    state, text = getattr(error, "sqlstate", None) or "", str(error)
    if state.startswith(_PASSING) or any(words in text for words in _LOST):
        return TaskError(
            "SourceUnavailable", f"{_FIELD}: the database ended the query; it is asked again later", retryable=True
        )
    said = text.partition("ERROR:")[2].strip().partition("\n")[0][:_TEXT] or "no reason was given"
    if "\nCONTEXT:" in text:
        said = "a function of the database fails, and what it says is not shown, as it may hold values of the data"
    elif state != "42501" and not (state.startswith(_OF_THE_QUERY) and "\nLINE " in text):
        # Not between quotes: they may stand in a value, too, and the value may have more lines.
        said = _VALUE.sub("...", said)
    if state == "42501":
        return TaskError("SourceRefused", f"{_FIELD}.query: {said}; grant SELECT to the Secret's user")
    if "in a read-only transaction" in text:  # also while rows come, where no state is given
        return TaskError("QueryDenied", f"{_FIELD}.query writes: {said}; a Dataset only reads")
    return TaskError("QueryInvalid", f"{_FIELD}.query fails: {said}")
