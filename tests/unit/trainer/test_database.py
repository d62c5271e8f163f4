"""Rows of a real PostgreSQL: the same content as from a file is the same version; no secret is told."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from trainer_tasks import csv, run, snapshot, taken

import postgres_server
from modelmill_contracts import environment
from modelmill_contracts.report import Report
from modelmill_contracts.task import Column, SnapshotTask, StoreLocation
from postgres_server import PASSWORD, PostgresServer

PEOPLE = """
DROP TABLE IF EXISTS people;
CREATE TABLE people (id bigint, age smallint, income double precision, name text, member boolean, joined timestamptz,
    born date, score numeric);
INSERT INTO people VALUES
    (1, 31, 1000.5, 'Ann', true, '2026-01-01T12:00:00+02:00', '1995-02-03', 1.25),
    (2, NULL, NULL, 'Bo, "the" first', NULL, NULL, NULL, NULL),
    (3, 42, -0.0, 'Zoë', false, '2026-01-02T00:00:00Z', '1984-05-06', 3);
CREATE TABLE IF NOT EXISTS numbers AS SELECT i, md5(i::text) AS hash FROM generate_series(1, 200000) AS t(i);
CREATE SCHEMA IF NOT EXISTS hidden; CREATE TABLE IF NOT EXISTS hidden.salaries (x int);
"""
SAME = """1,31,1000.5,Ann,true,2026-01-01T10:00:00Z,1995-02-03,1.25
2,,,"Bo, ""the"" first",,,,
3,42,0,Zoë,false,2026-01-02,1984-05-06,3.0"""


@pytest.fixture
def warehouse(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> PostgresServer:
    postgres.run(PEOPLE)
    monkeypatch.setenv(environment.SOURCE_URL, postgres.url())
    return postgres


@pytest.mark.usefixtures("warehouse")
def test_a_query_and_a_file_of_the_same_rows_are_the_same_version(store: StoreLocation, tmp_path: Path) -> None:
    header = "id,age,income,name,member,joined,born,score"
    columns = (Column("name", "String"), Column("score", "Float"), Column("income", "Float"))
    from_file = snapshot(store, csv(tmp_path / "people.csv", header, SAME.split("\n")), columns=columns)
    assert taken(SnapshotTask(store, query="SELECT * FROM people ORDER BY id", columns=columns)) == from_file
    assert run(SnapshotTask(store, query="TABLE people")).result.modified_at is None


@pytest.mark.usefixtures("warehouse")
def test_numeric_that_is_declared_integer_is_exact(store: StoreLocation, tmp_path: Path) -> None:
    columns = (Column("x", "Integer"),)
    query = "SELECT * FROM (VALUES (1, 9007199254740993::numeric), (2, -3.00), (3, NULL)) AS t(i, x) ORDER BY i"
    from_file = snapshot(store, csv(tmp_path / "d.csv", "i,x", ["1,9007199254740993", "2,-3", "3,"]), columns=columns)
    assert taken(SnapshotTask(store, query=query, columns=columns)) == from_file


@pytest.mark.usefixtures("warehouse")
@pytest.mark.parametrize(("kind", "rule"), [("Integer", "NotInteger"), ("String", "NotText")])
def test_numeric_that_is_not_what_is_declared(store: StoreLocation, kind: str, rule: str) -> None:
    query = "SELECT * FROM (VALUES (1.5::numeric), (9223372036854775808), ('NaN')) AS t(x)"
    answer = run(SnapshotTask(store, query=query, columns=(Column("x", kind),)))
    assert [(problem.rule, problem.rows) for problem in answer.problems] == [(rule, (1, 2, 3))]
    assert "9223372036854775808" not in answer.message


@pytest.mark.usefixtures("warehouse")
def test_rows_are_checked_as_those_of_a_file(store: StoreLocation) -> None:
    columns = (Column("id", "Integer", max="199999"), Column("name", "String"))
    query = "SELECT i AS id, hash AS name FROM numbers ORDER BY i"
    answer = run(SnapshotTask(store, query=query, columns=columns))
    assert [(problem.rule, problem.rows) for problem in answer.problems] == [("AboveMaximum", (200_000,))]


@pytest.mark.usefixtures("warehouse")
@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS x",
        " ; SELECT 1 AS x"[3:],
        "SELECT 1 AS x;",
        "SELECT 1 AS x -- why",
        "/* why */ VALUES (1)",
        "\nwith a as (select 1 as x) table a",
    ],
)
def test_how_a_query_may_be_written(store: StoreLocation, query: str) -> None:
    assert run(SnapshotTask(store, query=query)).ok


@pytest.mark.usefixtures("warehouse")
def test_a_query_without_rows(store: StoreLocation) -> None:
    answer = run(SnapshotTask(store, query="SELECT * FROM people WHERE false"))
    assert (answer.reason, answer.message) == ("DataInvalid", "the data has 0 rows, but at least 1 are expected")


@pytest.mark.parametrize(
    ("query", "reason", "message"),
    [
        (
            "INSERT INTO people SELECT * FROM people",
            "QueryDenied",
            "source.sql.query has to be one query: SELECT, WITH, VALUES or TABLE",
        ),
        (
            "COPY people TO PROGRAM 'id'",
            "QueryDenied",
            "source.sql.query has to be one query: SELECT, WITH, VALUES or TABLE",
        ),
        (
            "SET ROLE owner",
            "QueryDenied",
            "source.sql.query has to be one query: SELECT, WITH, VALUES or TABLE",
        ),
        (
            "-- SELECT",
            "QueryDenied",
            "source.sql.query has to be one query: SELECT, WITH, VALUES or TABLE",
        ),
        (
            "WITH x AS (INSERT INTO people SELECT * FROM people RETURNING 1) SELECT * FROM x",
            "QueryDenied",
            "source.sql.query writes: cannot execute SELECT in a read-only transaction; a Dataset only reads",
        ),
        (
            "SELECT setval('counted', 7)",
            "QueryDenied",
            "source.sql.query writes: cannot execute setval() in a read-only transaction; a Dataset only reads",
        ),
        (
            "SELECT set_config('transaction_read_only', 'off', false)",
            "QueryInvalid",
            "source.sql.query fails: transaction read-write mode must be set before any query",
        ),
        (
            "SELECT 1; DROP TABLE people",
            "QueryInvalid",
            "source.sql.query fails: cannot insert multiple commands into a prepared statement",
        ),
        (
            "SELECT 1) TO STDOUT; DROP TABLE people; COPY (SELECT 1",
            "QueryInvalid",
            'source.sql.query fails: syntax error at or near ")"',
        ),
        ("SELECT * FROM peeple", "QueryInvalid", 'source.sql.query fails: relation "peeple" does not exist'),
        (
            "SELECT * FROM hidden.salaries",
            "SourceRefused",
            "source.sql.query: permission denied for schema hidden; grant SELECT to the Secret's user",
        ),
        (
            "SELECT name::int FROM people",
            "QueryInvalid",
            "source.sql.query fails: invalid input syntax for type integer: ...",
        ),
        (
            "SELECT (name || E' \"the\\nsecond\"')::int FROM people",
            "QueryInvalid",
            "source.sql.query fails: invalid input syntax for type integer: ...",
        ),
        (
            "SELECT chr(income::int * 2000) FROM people",
            "QueryInvalid",
            "source.sql.query fails: requested character too large for encoding: ...",
        ),
        (
            "SELECT tell(name) FROM people",
            "QueryInvalid",
            (
                "source.sql.query fails: a function of the database fails, and what it says is not shown, as it may"
                " hold values of the data"
            ),
        ),
        ("SELECT name::regclass::text AS x FROM people", "QueryInvalid", "source.sql.query fails: relation ..."),
        (
            "SELECT 1 / (i - 150000) AS x FROM numbers",
            "QueryInvalid",
            "source.sql.query fails: division by zero",
        ),
        ("SELECT 1 AS a, 2 AS a", "DuplicateColumn", "the column name 'a' occurs 2 times; rename"),
    ],
)
def test_a_query_that_is_refused_or_fails(
    store: StoreLocation, warehouse: PostgresServer, query: str, reason: str, message: str
) -> None:
    warehouse.run(
        "CREATE SEQUENCE IF NOT EXISTS counted; GRANT ALL ON counted TO reader; GRANT INSERT ON people TO reader;"
        " CREATE OR REPLACE FUNCTION tell(who text) RETURNS int LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''this is %'', who; END'"
    )
    answer = run(SnapshotTask(store, query=query))
    assert (answer.reason, answer.message, answer.retryable) == (reason, message, False)


@pytest.mark.usefixtures("warehouse")
def test_a_connection_that_is_lost_is_worth_another_try(store: StoreLocation) -> None:
    answer = run(SnapshotTask(store, query="SELECT pg_terminate_backend(pg_backend_pid())"))
    assert (answer.reason, answer.retryable) == ("SourceUnavailable", True)
    assert answer.message == "source.sql: the database ended the query; it is asked again later"


@pytest.mark.usefixtures("warehouse")
def test_types_that_no_column_has(store: StoreLocation) -> None:
    answer = run(SnapshotTask(store, query="SELECT interval '1 day' AS i, ARRAY[1] AS a, gen_random_uuid() AS u"))
    assert [(problem.rule, problem.column) for problem in answer.problems] == [
        ("UnsupportedType", "i"),
        ("UnsupportedType", "a"),
        ("UnsupportedType", "u"),
    ]


def _with_url(store: StoreLocation, monkeypatch: pytest.MonkeyPatch, url: str) -> Report:
    monkeypatch.setenv(environment.SOURCE_URL, url)
    return run(SnapshotTask(store, query="SELECT 1 AS x"))


REFUSED = "source.sql: the database refuses the user or the password; check the Secret's URL"
NO_URL = (
    "source.sql.urlRef: the Secret's URL is not of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE; mend the"
    " Secret (characters like @ and / in a password are written %40 and %2F)"
)
UNRESOLVABLE = (
    "source.sql: the name of the database's host does not resolve; check the Secret's URL, and the cluster's DNS"
)
UNREACHABLE = (
    "source.sql: the database does not answer; check that it runs, the Secret's URL, and that a NetworkPolicy allows"
    " the way to it"
)
DENIED = (
    "source.sql: '169.254.169.254' is a link-local or metadata address, which sources may not be read from; use the"
    " address of a real server"
)


def test_who_may_not_come_in(store: StoreLocation, warehouse: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (warehouse.url(password="wrong"), warehouse.url(user="nobody")):
        answer = _with_url(store, monkeypatch, url)
        assert (answer.reason, answer.message, answer.retryable) == ("SourceRefused", REFUSED, False)
    answer = _with_url(store, monkeypatch, warehouse.url(database="absent"))
    assert (answer.reason, answer.message) == (
        "SourceNotFound",
        "source.sql: the server has no database of that name; check the Secret's URL",
    )


def test_a_password_that_expires(
    store: StoreLocation, warehouse: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.run("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD 'pass' VALID UNTIL '2020-01-01'")
    answer = _with_url(store, monkeypatch, warehouse.url("guest", "pass"))
    assert (answer.reason, answer.message) == ("SourceRefused", REFUSED)


@pytest.mark.parametrize(
    ("url", "reason", "message"),
    [
        ("", "SourceInvalid", NO_URL),
        (f"mysql://u:{PASSWORD}@host/db", "SourceInvalid", NO_URL),
        (f"postgresql://u:{PASSWORD}%@host/db", "SourceInvalid", NO_URL),
        (f"postgresql://u:{PASSWORD}@[host/db", "SourceInvalid", NO_URL),
        (f"postgresql://u:{PASSWORD}@host/db?unknown=1", "SourceInvalid", NO_URL),
        (f"POSTGRESQL://u:{PASSWORD}@host/db", "SourceInvalid", NO_URL),
        # What libpq reads otherwise than everybody else.
        (f"postgresql://u:{PASSWORD}@169.254.169.254:80,x@example.com/db", "SourceInvalid", NO_URL),
        ("postgresql://x?@169.254.169.254/db", "SourceInvalid", NO_URL),
        (f"postgresql://u:{PASSWORD}@host/db#?host=169.254.169.254", "SourceInvalid", NO_URL),
        (f"postgresql://u:{PASSWORD}@a,b/db?hostaddr=93.184.215.14,", "SourceInvalid", NO_URL),
        (f"postgresql://u:{PASSWORD}@a:1,b:2,c:3/db?port=1,2", "SourceInvalid", NO_URL),
        (
            f"postgresql://u:{PASSWORD}@name.invalid/db",
            "SourceUnresolvable",
            UNRESOLVABLE,
        ),
        (
            f"postgresql://u:{PASSWORD}@127.0.0.1:9/db",
            "SourceUnreachable",
            UNREACHABLE,
        ),
        *(
            (
                f"postgresql://u:{PASSWORD}@{host}",
                "SourceAddressDenied",
                DENIED,
            )
            for host in (
                "169.254.169.254/db",
                "169.254.169.254:80/db",
                "db.example,169.254.169.254/db",
                "/db?host=169.254.169.254",
                "db.example/db?hostaddr=169.254.169.254",
                "169.254.169%2E254/db",
                "db.example%2C169.254.169.254/db",
            )
        ),
    ],
)
def test_a_url_that_leads_nowhere(
    store: StoreLocation, monkeypatch: pytest.MonkeyPatch, url: str, reason: str, message: str
) -> None:
    answer = _with_url(store, monkeypatch, url)
    assert (answer.reason, answer.message) == (reason, message)
    assert answer.retryable == (reason in ("SourceUnresolvable", "SourceUnreachable"))


@pytest.mark.parametrize("place", ["[fd00:ec2::23]/db", "fd00%3Aec2%3A%3A23/db", "/db?host=fd00:ec2::23"])
def test_a_url_that_leads_to_eks_pod_identity(
    store: StoreLocation, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    answer = _with_url(store, monkeypatch, f"postgresql://u:{PASSWORD}@{place}")
    assert answer.reason == "SourceAddressDenied"
    assert answer.message.startswith("source.sql: 'fd00:ec2::23' is a link-local or metadata address")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def at_an_address(authority: trustme.CA) -> Iterator[PostgresServer]:
    """Another PostgreSQL, which is reached by an address; with TLS, where `authority` vouches for its name."""
    own = authority.issue_cert("localhost")
    with postgres_server.running("127.0.0.1", own.private_key_and_cert_chain_pem.bytes()) as server:
        yield server


def test_the_connection_goes_to_an_address_that_was_judged(
    store: StoreLocation, at_an_address: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that only our question finds: the client must not ask again.  Nothing listens at its first address.
    found = ["127.0.0.2", "127.0.0.1"]

    def answer_all(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", answer_all)
    url = at_an_address.url_of_others().replace("127.0.0.1", "moving.invalid")
    assert _with_url(store, monkeypatch, url).ok
    answer = _with_url(store, monkeypatch, at_an_address.url_of_others(password="wrong"))
    assert answer.reason == "SourceRefused"
    found.append("169.254.169.254")
    assert _with_url(store, monkeypatch, url).reason == "SourceAddressDenied"


NO_TLS = (
    "source.sql: there is no TLS with a certificate of a public authority for the name of the database's host, which"
    " the Secret's URL asks for; give it one, or write sslmode=require, which encrypts and does not look who answers"
)


def test_tls_with_a_certificate_that_the_system_trusts(
    store: StoreLocation,
    at_an_address: PostgresServer,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))  # which stands for the image's authorities
    monkeypatch.setenv("HOME", str(tmp_path))  # without ~/.postgresql/root.crt
    url = at_an_address.url_of_others()
    named = url.replace("127.0.0.1", "localhost")
    assert _with_url(store, monkeypatch, f"{named}?sslmode=verify-full").ok
    assert _with_url(store, monkeypatch, f"{named}?sslmode=verify-full&sslrootcert=system").ok
    for other in (f"{url}?sslmode=verify-full", f"{named}?sslmode=verify-ca"):  # another name; a file that is not there
        answer = _with_url(store, monkeypatch, other)
        assert (answer.reason, answer.message, answer.retryable) == ("SourceCertificateInvalid", NO_TLS, False)


def test_tls_with_a_certificate_of_an_authority_of_one_s_own(
    store: StoreLocation, at_an_address: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = at_an_address.url_of_others().replace("127.0.0.1", "localhost")
    answer = _with_url(store, monkeypatch, f"{named}?sslmode=verify-full")
    assert (answer.reason, answer.message, answer.retryable) == ("SourceCertificateInvalid", NO_TLS, False)
    assert _with_url(store, monkeypatch, f"{named}?sslmode=require").ok


def test_a_database_that_is_busy_does_not_refuse_the_user(
    store: StoreLocation, warehouse: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.run("DROP ROLE IF EXISTS crowd; CREATE ROLE crowd LOGIN PASSWORD 'pass' CONNECTION LIMIT 0")
    answer = _with_url(store, monkeypatch, warehouse.url("crowd", "pass"))
    assert (answer.reason, answer.retryable) == ("SourceUnavailable", True)
    assert answer.message == "source.sql: the database takes no more connections now; it is asked again later"


def test_no_log_line_has_the_password(
    store: StoreLocation,
    warehouse: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for url in (
        warehouse.url(),
        warehouse.url(password=PASSWORD + "x"),
        f"postgresql://u:{PASSWORD} @host/db",
        f"postgresql://u:{PASSWORD}@name.invalid/db",
        warehouse.url(password=quote(PASSWORD) + "%"),
    ):
        _with_url(store, monkeypatch, url)
    written = capfd.readouterr()
    assert PASSWORD not in written.out + written.err + caplog.text
