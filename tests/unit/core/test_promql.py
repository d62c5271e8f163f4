"""Queries that are bound to a namespace, and those that are refused; a real Prometheus says what they reach."""

import random
import re
from collections.abc import Iterator

import pytest

import prometheus_server
from modelmill.core import promql
from prometheus_server import OURS, PrometheusServer

WORDS = {"$version": "7", "$stableVersion": "6"}


def bound(query: str, tenant: str = OURS) -> str:
    return promql.bound(query, "namespace", tenant, WORDS)


@pytest.fixture(scope="module")
def prometheus() -> Iterator[PrometheusServer]:
    with prometheus_server.running() as server:
        yield server


# (query, what it gives)
ANSWERS = [
    ("orders_total", 40),
    ("orders_total{}", 40),
    ('{__name__="orders_total"}', 40),
    ('{__name__=~"order.*"}', 40),
    ("sum(orders_total)", 40),
    ("sum by (shop) (orders_total)", 40),
    ("sum(orders_total) without (shop,)", 40),
    ("count(orders_total) + 1", 2),
    ('revenue{model_version="$version"} / ignoring(model_version) revenue{model_version="$stableVersion",}', 0.97),
    ("sum(revenue) - on() group_left() sum(orders_total)", 157),
    ("-orders_total ^ 2", -1600),
    ("-(orders_total) * -2", 80),
    ("max_over_time(orders_total[5m])", 40),
    ("max_over_time(orders_total[5m:30s])", 40),
    ("avg_over_time(orders_total [ 2m : ]) > bool 1e1", 1),
    ("orders_total offset 1m", 40),
    ("sum(secret) or vector(0)", 0),
    ("scalar(orders_total) + 0x10", 56),
    ("topk(1, revenue) unless revenue < 100", 100),
    ("quantile(0.5, revenue)", 98.5),
    ("absent(secret)", 1),
    ('label_replace(orders_total, "x", "$1", "namespace", "(.*)")', 40),
    ('sum(count_values("x", orders_total))', 1),
    ("sum(orders_total) == 40 and orders_total", None),
    ("SUM(orders_total)", 40),
]


@pytest.mark.parametrize(("query", "wanted"), ANSWERS, ids=[query for query, _ in ANSWERS])
def test_a_bound_query_gives_what_its_namespace_has(
    prometheus: PrometheusServer, query: str, wanted: float | None
) -> None:
    found = prometheus.ask(bound(query))
    assert found["status"] == "success", found
    result = found["data"]["result"]
    values = [result[1]] if found["data"]["resultType"] == "scalar" else [series["value"][1] for series in result]
    assert [float(value) for value in values] == ([] if wanted is None else [wanted])


REFUSED = [
    'secret{namespace="team-b"}',
    'secret{namespace=~".*"}',
    'secret{namespace!="team-a"}',
    'secret{a="b" or namespace="team-b"}',
    'secret{a="b"} # {',
    "secret # \n",
    "secret\\{}",
    'secret{a="b\\x22}',
    'secret{a="b\n"}',
    "secret{a=`b`}",
    '{"secret"}',
    'secret{"namespace"="team-b"}',
    "info(orders_total)",
    "Info(orders_total)",
    "unknown(orders_total)",
    "and",
    "sum",
    "By",
    "offset",
    "bool",
    "orders_total + bool",
    "orders_total + on (secret)",
    "orders_total + on (a) group_left secret",
    "group_left (secret)",
    "by (secret)",
    "sum by (a) secret",
    "orders_total @ secret",
    "orders_total @ start()",
    "orders_total secret",
    "orders_total, secret",
    "(orders_total",
    "orders_total)",
    "orders_total{",
    "{}}",
    "rate(orders_total[5m)",
    "WITH (x = secret) x",
    "secret keep_metric_names",
    "1e",
    "5m",
    "",
    "  ",
    "\u00a0secret",
    "секрет",
    "\0",
    "(" * 40 + "1" + ")" * 40,
]


@pytest.mark.parametrize("query", REFUSED)
def test_what_the_grammar_does_not_have_is_refused(query: str) -> None:
    with pytest.raises(promql.QueryError):
        bound(query)


def test_a_tenant_is_a_text_whatever_is_in_it() -> None:
    assert bound("x", 'a"} or secret{a="\\') == 'x{ namespace="a\\"} or secret{a=\\"\\\\"}'


def test_words_stand_for_whole_values_of_matchers() -> None:
    assert bound('x{a="$version", b="v$version", c="$other"}') == (
        'x{ a = "7" , b = "v$version" , c = "$other" , namespace="team-a"}'
    )


PIECES = re.findall(
    r"\S+",
    """
    secret orders_total revenue sum by without on ignoring group_left group_right bool offset and or unless atan2 rate
    max_over_time topk vector scalar time absent label_replace count_values start end inf nan info ( ) { } [5m] [5m:1m]
    5m 1 0.5 , + - / == > = =~ != "a" "x" 'y' a="b" namespace="team-b" __name__="secret" (a) () (secret) @ : #
    """,
)


def test_no_query_that_is_let_through_reaches_a_sample_of_another_namespace(prometheus: PrometheusServer) -> None:
    """Made of pieces by chance, and asked for a namespace that has nothing: none of them may read a sample."""
    chance, asked = random.Random(1), 0
    templates = [query for query, _ in ANSWERS]
    for _ in range(40_000):
        words = chance.choice(templates).replace("(", " ( ").replace(")", " ) ").replace("{", " { ").split()
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(words) + 1)
            words[at : at + chance.randrange(2)] = [chance.choice(PIECES)]
        try:
            query = bound(" ".join(words), "nobody")
        except promql.QueryError:
            continue
        if chance.random() > 0.1:
            continue
        found = prometheus.ask(query, stats="all")
        if found["status"] == "success":
            asked += 1
            assert found["data"]["stats"]["samples"]["totalQueryableSamples"] == 0, query
    assert asked > 200
    reached = prometheus.ask("secret", stats="all")["data"]["stats"]["samples"]["totalQueryableSamples"]
    assert reached > 0  # else this would show nothing
