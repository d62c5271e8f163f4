"""A query over other Datasets sees these, and nothing else: no file, no network, no extension, no setting."""

import random
import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from trainer_tasks import csv, run, snapshot, taken

from modelmill_contracts.report import Report, SnapshotResult
from modelmill_contracts.store import blob_key
from modelmill_contracts.task import Column, Derivation, SnapshotInput, SnapshotTask, StoreLocation
from modelmill_trainer import duck, sources


def _input(name: str, found: SnapshotResult) -> SnapshotInput:
    return SnapshotInput(name, found.version, found.file)


@pytest.fixture
def inputs(store: StoreLocation, tmp_path: Path) -> tuple[SnapshotInput, ...]:
    """Orders of people, and the people."""
    orders = csv(tmp_path / "o.csv", "person,amount,day", ["1,10,2026-01-01", "2,5,2026-01-02", "1,7,2026-01-03"])
    people = csv(tmp_path / "p.csv", "id,name", ["1,Ann", "2,Bo", "3,Cy"])
    return _input("orders", snapshot(store, orders)), _input("all-people", snapshot(store, people))


def _task(store: StoreLocation, inputs: tuple[SnapshotInput, ...], sql: str, **fields: object) -> SnapshotTask:
    return SnapshotTask(store, derive=Derivation(inputs, sql), **fields)


def _derive(store: StoreLocation, inputs: tuple[SnapshotInput, ...], sql: str) -> Report:
    return run(_task(store, inputs, sql))


SQL = """
-- what each person spent
SELECT name, count(amount) AS orders, sum(amount) AS spent, avg(amount) AS mean, max(day) AS last
FROM "all-people" LEFT JOIN orders ON id = person GROUP BY name ORDER BY name;
"""


def test_a_join_is_a_dataset_like_any_other(
    store: StoreLocation, tmp_path: Path, inputs: tuple[SnapshotInput, ...]
) -> None:
    derived = taken(_task(store, inputs, SQL))
    rows = ["Ann,2,17,8.5,2026-01-03", "Bo,1,5,5,2026-01-02", "Cy,0,,,"]
    columns = (Column("mean", "Float"),)
    assert derived == snapshot(store, csv(tmp_path / "r.csv", "name,orders,spent,mean,last", rows), columns=columns)


def test_what_is_derived_is_checked(store: StoreLocation, inputs: tuple[SnapshotInput, ...]) -> None:
    columns = (Column("spent", "Integer", nullable=False, max="10"),)
    answer = run(_task(store, inputs, SQL, columns=columns))
    assert [(problem.rule, problem.rows) for problem in answer.problems] == [
        ("MissingValue", (3,)),
        ("AboveMaximum", (1,)),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/proc/self/environ')",
        "SELECT * FROM read_blob('/etc/shadow')",
        "SELECT * FROM read_parquet('https://example.org/x.parquet')",
        "SELECT * FROM read_csv('http://169.254.169.254/latest/meta-data')",
        "SELECT * FROM read_parquet('s3://lake/x.parquet')",
        "SELECT * FROM read_json('file:///etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/tmp/x.parquet')",
        "SELECT * FROM orders WHERE EXISTS (SELECT 1 FROM read_text('/etc/passwd'))",
        "WITH t AS (SELECT * FROM read_text('/etc/hostname')) SELECT * FROM t",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''/etc/passwd'')'))",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_extensions()",
        "SELECT * FROM which_secret('s3://x', 's3')",
        "SELECT * FROM 'file.csv'",
        "SELECT * FROM read_duckdb('/tmp/x.db', table_name := 'x')",
        "SELECT * FROM read_csv('/etc/hosts', store_rejects := true)",
        "SELECT (SELECT content FROM read_text('/etc/passwd')) AS x",
        "SELECT * FROM range(3) t(i), LATERAL (SELECT * FROM read_text('/etc/hostname'))",
        "SELECT * FROM destroy_external_resource('read_text', '/etc/passwd')",
        # DuckDB counts what writes as a SELECT, where it stands in a WITH.
        "WITH x AS (COPY orders TO '/tmp/modelmill-fuzz') SELECT * FROM x",
        "WITH x AS (COPY (SELECT 1) TO 's3://lake/x') SELECT * FROM x",
        "WITH x AS (COPY orders TO '/dev/stdout') SELECT * FROM x",
    ],
)
def test_files_and_the_network_are_out_of_reach(
    store: StoreLocation, inputs: tuple[SnapshotInput, ...], sql: str
) -> None:
    answer = _derive(store, inputs, sql)
    assert (answer.reason, answer.message) == (
        "QueryDenied",
        (
            "source.derive.sql asks for files, the network or an extension, which a derivation may not;"
            " it has the tables orders, all-people"
        ),
    )
    assert not answer.retryable


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM enable_logging()",
        "SELECT * FROM enable_logging('QueryLog', storage := 'file', storage_path := '{out}')",
        "SELECT * FROM enable_logging(level := 'debug', storage := 'stdout')",
        "SELECT * FROM disable_logging()",
        "SELECT * FROM enable_profiling(format := 'json', save_location := '{out}')",
        "SELECT * FROM disable_profiling()",
        "SELECT * FROM add_grammar_extension('x')",
        "SELECT * FROM remove_grammar_extension('x')",
        "SELECT * FROM query('SELECT * FROM enable_profiling(save_location := ''{out}'')')",
        "SELECT * FROM destroy_external_resource('enable_logging', 'x')",
        "WITH x AS (SELECT * FROM enable_logging(storage := 'file', storage_path := '{out}')) SELECT * FROM x",
    ],
)
def test_no_function_changes_the_configuration_or_writes_a_log(
    store: StoreLocation, tmp_path: Path, inputs: tuple[SnapshotInput, ...], sql: str
) -> None:
    out = tmp_path / "written"
    answer = _derive(store, inputs, sql.format(out=out))
    assert (answer.reason, answer.message) == (
        "QueryDenied",
        (
            "source.derive.sql calls a function that changes the configuration or writes a log or a profile, which a"
            " derivation may not; it has the tables orders, all-people"
        ),
    )
    assert not answer.retryable
    assert not out.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM query('SET threads = 8')",
        "SELECT * FROM query('COPY orders TO ''/tmp/modelmill-fuzz''')",
        "SELECT * FROM query('ATTACH ''/tmp/modelmill-fuzz''')",
        "SELECT * FROM query('INSTALL httpfs')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SET threads = 8'))",
        "SELECT set_config('threads', '8', false) AS x",
        "SELECT getenv('PATH') AS x",
        "SELECT * FROM copy_database('memory', 'x')",
        "SELECT * FROM import_database('/tmp')",
        "SELECT * FROM pandas_scan(0)",
        "SELECT * FROM arrow_scan(1, 2, 3)",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM query_table('/etc/passwd')",
        "WITH x AS (INSERT INTO orders VALUES (1) RETURNING *) SELECT * FROM x",
        "SELECT * FROM (ATTACH '/tmp/modelmill-fuzz')",
    ],
)
def test_no_function_stands_for_a_statement(store: StoreLocation, inputs: tuple[SnapshotInput, ...], sql: str) -> None:
    answer = _derive(store, inputs, sql)
    assert answer.reason == "QueryInvalid", answer
    assert answer.message.startswith("source.derive.sql fails: ")
    assert not Path("/tmp/modelmill-fuzz").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT write_log('of the query', level := 'error') IS NULL AS x",
        "SELECT count(*) AS x FROM duckdb_logs()",
        "SELECT count(*) AS x FROM truncate_duckdb_logs()",
        "SELECT count(*) AS x FROM (SELECT 1 FROM checkpoint())",
    ],
)
def test_a_log_that_is_off_is_not_written(
    store: StoreLocation, inputs: tuple[SnapshotInput, ...], capfd: pytest.CaptureFixture[str], sql: str
) -> None:
    assert taken(_task(store, inputs, sql)).rows == 1
    assert "of the query" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SET threads = 8", "SET"),
        ("SET enable_external_access = true", "SET"),
        ("RESET lock_configuration", "SET"),
        ("SET GLOBAL memory_limit = '64GB'", "SET"),
        ("PRAGMA database_list", "PRAGMA"),
        ("ATTACH '/tmp/x.db'", "ATTACH"),
        ("ATTACH 'postgres://x' AS y (TYPE postgres)", "ATTACH"),
        ("DETACH memory", "DETACH"),
        ("COPY orders TO '/tmp/x.csv'", "COPY"),
        ("COPY (SELECT 1) TO 's3://lake/x'", "COPY"),
        ("EXPORT DATABASE '/tmp/x'", "EXPORT"),
        ("IMPORT DATABASE '/tmp/x'", "PRAGMA"),
        ("INSTALL httpfs", "LOAD"),
        ("LOAD httpfs", "LOAD"),
        ("FORCE INSTALL spatial FROM community", "LOAD"),
        ("CREATE SECRET (TYPE s3)", "CREATE"),
        ("CREATE TABLE t AS SELECT 1", "CREATE"),
        ("CREATE MACRO f(x) AS x", "CREATE"),
        ("DROP VIEW orders", "DROP"),
        ("INSERT INTO orders VALUES (1)", "INSERT"),
        ("UPDATE orders SET amount = 0", "UPDATE"),
        ("DELETE FROM orders", "DELETE"),
        ("CALL pragma_version()", "CALL"),
        ("CHECKPOINT", "CALL"),
        ("VACUUM", "VACUUM"),
        ("BEGIN", "TRANSACTION"),
        ("PREPARE q AS SELECT 1", "PREPARE"),
        ("EXPLAIN SELECT 1", "EXPLAIN"),
        ("SELECT 1 AS x; SELECT 2 AS x", "SELECT, SELECT"),
        ("SELECT 1 AS x; SET threads = 8", "SELECT, SET"),
        ("; ;", "nothing"),
        ("-- nothing", "nothing"),
    ],
)
def test_only_one_select_is_run(store: StoreLocation, inputs: tuple[SnapshotInput, ...], sql: str, kind: str) -> None:
    answer = _derive(store, inputs, sql)
    assert (answer.reason, answer.message) == (
        "QueryDenied",
        (
            f"source.derive.sql has to be one SELECT, but is {kind}; nothing else is run:"
            " no SET, COPY, ATTACH, INSTALL or LOAD"
        ),
    )


def test_what_the_settings_say_when_the_query_runs(
    store: StoreLocation, tmp_path: Path, inputs: tuple[SnapshotInput, ...]
) -> None:
    sql = """SELECT name, value FROM duckdb_settings() WHERE name IN ('enable_external_access', 'lock_configuration',
        'autoinstall_known_extensions', 'autoload_known_extensions', 'allow_community_extensions',
        'threads', 'enable_progress_bar')"""
    found = taken(_task(store, inputs, sql + " ORDER BY name"))
    rows = pyarrow.parquet.read_table(tmp_path / "store" / blob_key(found.file)).to_pylist()
    assert {row["name"]: row["value"] for row in rows} == {
        "allow_community_extensions": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "enable_external_access": "false",
        "enable_progress_bar": "false",
        "lock_configuration": "true",
        "threads": "1",
    }


def test_variables_of_the_program_are_no_tables(store: StoreLocation, inputs: tuple[SnapshotInput, ...]) -> None:
    for name in ("asked", "paths", "task", "self", "inputs"):
        answer = _derive(store, inputs, f"FROM {name}")
        assert answer.reason == "QueryInvalid"
        assert answer.message.endswith("; it has the tables orders, all-people")


PIECES = [
    *("SELECT", "FROM", "WHERE", "orders", "*", "(", ")", ",", ";", "'", '"', "--", "/*", "*/", "\n", "1", "x"),
    *("COPY", "TO", "'/tmp/modelmill-fuzz'", "SET", "=", "ATTACH", "INSTALL", "LOAD", "PRAGMA", "read_text", "WITH"),
    *("UNION", "ALL", "JOIN", "'/etc/passwd'", "glob", "'https://example.org'", "::INT", "ORDER BY", "LIMIT", "AS"),
]


def test_whatever_is_written_ends_in_a_report(store: StoreLocation, inputs: tuple[SnapshotInput, ...]) -> None:
    draw = random.Random(1)
    for _ in range(150):
        pieces = draw.choices(PIECES, k=draw.randint(1, 12))
        if draw.random() < 0.2:
            pieces.append("".join(draw.choices(string.printable, k=5)))
        answer = _derive(store, inputs, " ".join(pieces))
        assert answer.reason in (
            *("SnapshotTaken", "DataInvalid", "QueryDenied", "QueryInvalid", "DuplicateColumn", "UnnamedColumn"),
        ), (pieces, answer)
        assert "root:" not in answer.message
    assert not Path("/tmp/modelmill-fuzz").exists()


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("name::INT", "Conversion Error: a value is not of the type that it is cast to"),
        ("card::INT", "Conversion Error: a value is not of the type that it is cast to"),
        ("card::DECIMAL(5, 2)", "Conversion Error: a value is not of the type that it is cast to"),
        ("price::DECIMAL(5, 2)", "Conversion Error: a value is not of the type that it is cast to"),
        ("date_trunc(name, now())", "Conversion Error: a value is not of the type that it is cast to"),
        ("card * card", "Out of Range Error: a number does not fit its type"),
        ("error('of ' || name)", "Invalid Input Error: a function or a subquery does not take the rows"),
        ("error('Binder Error: ' || name)", "Invalid Input Error: a function or a subquery does not take the rows"),
    ],
)
def test_an_error_in_the_data_does_not_show_the_data(
    store: StoreLocation, tmp_path: Path, expression: str, said: str
) -> None:
    rows = [*["1,1,1.5"] * 5000, "Zoe O'Hara,4111111111111111,987654.321"]
    found = _input("t", snapshot(store, csv(tmp_path / "d.csv", "name,card,price", rows)))
    answer = _derive(store, (found,), f"SELECT {expression} AS x FROM t WHERE price > 2")  # noqa: S608
    assert answer.reason == "QueryInvalid"
    assert answer.message.startswith(f"source.derive.sql fails: {said}")
    assert answer.message.endswith("; it has the tables t")
    for value in ("Zoe", "Hara", "4111111111", "987654"):
        assert value not in answer.message


def test_a_query_that_names_what_is_not_there(store: StoreLocation, inputs: tuple[SnapshotInput, ...]) -> None:
    answer = _derive(store, inputs, "SELECT nothing FROM orders")
    assert (answer.reason, answer.message) == (
        "QueryInvalid",
        (
            'source.derive.sql fails: Binder Error: Referenced column "nothing" not found in FROM clause!;'
            " it has the tables orders, all-people"
        ),
    )


def test_whole_numbers_that_do_not_fit(store: StoreLocation, inputs: tuple[SnapshotInput, ...]) -> None:
    answer = _derive(store, inputs, "SELECT sum(amount) * 10000000000000000000 AS x FROM orders")
    assert answer.message == "column 'x' holds whole numbers of more than 64 bits; CAST it AS DOUBLE"


SORT = "SELECT md5(i::VARCHAR) AS h, md5((i + 1)::VARCHAR) AS g FROM t, range(3000000) r(i) ORDER BY h"  # 200 MB


def test_a_sort_that_does_not_fit_memory_spills(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duck, "memory_limit", lambda: 128 << 20)
    found = _input("t", snapshot(store, csv(tmp_path / "d.csv", "x", ["1"])))
    assert taken(_task(store, (found,), SORT)).rows == 3_000_000
    # As much as it likes it may not.
    monkeypatch.setattr(duck, "SPILLED_BYTES", 8 << 20)
    answer = _derive(store, (found,), SORT)
    assert (answer.reason, answer.retryable) == ("QueryTooLarge", False)


def test_rows_without_end_do_not_fill_the_disk(
    store: StoreLocation, inputs: tuple[SnapshotInput, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 1 << 20)
    answer = _derive(store, inputs, "SELECT random() AS x FROM range(1000000000000)")
    assert (answer.reason, answer.message) == (
        "SourceTooLarge",
        "the snapshot has more than 1048576 bytes, which is the limit",
    )
    assert not answer.retryable


def test_the_same_query_gives_the_same_version(store: StoreLocation, tmp_path: Path) -> None:
    rows = [f"{row % 997},{row * 0.1}" for row in range(50_000)]
    found = _input("t", snapshot(store, csv(tmp_path / "d.csv", "k,x", rows)))
    # Sums of floats depend on their order, rows of a join on the threads.
    sql = "SELECT a.k, sum(a.x) AS s FROM t a JOIN (SELECT DISTINCT k FROM t) b USING (k) GROUP BY a.k ORDER BY a.k"
    assert len({taken(_task(store, (found,), sql)).version for _ in range(3)}) == 1


def test_an_input_that_was_changed_in_the_store(
    store: StoreLocation, tmp_path: Path, inputs: tuple[SnapshotInput, ...]
) -> None:
    path = tmp_path / "store" / blob_key(inputs[0].file)
    pyarrow.parquet.write_table(pa.table({"person": [1]}), path)
    answer = _derive(store, inputs, SQL)
    assert answer.reason == "DigestMismatch"
    assert answer.message.startswith(f"version {inputs[0].version} of Dataset orders: its file has digest sha256:")
