"""PromQL of users, bound to a tenant: every selector of a query gets a matcher that the user cannot take away.

A query is read by the part of the grammar that is written below, and written anew from what was read, token by token:
no text of the user's gets through as it is, so nothing can be hidden from the reader (comments, escapes, other
backends' extensions).  What the grammar does not have is refused.  A name counts as a series unless it stands where
only a function, an aggregation or a label can; functions are those that work on what they are given (not `info`, which
selects by itself).

    expression = unary { operator [bool] [on|ignoring (labels) [group_left|group_right (labels)]] unary }
    unary      = { + | - } operand { [duration] | [duration:duration] | offset duration }
    operand    = number | "text" | ( expression ) | call | aggregation | series [{ matchers }] | { matchers }
"""

import re
from collections.abc import Mapping
from typing import NamedTuple


class QueryError(ValueError):
    """Why a query is not asked; it names nothing but the query's own words."""


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<duration>(?:[0-9]+(?:ms|[smhdwy]))+(?![a-zA-Z0-9_.]))
    | (?P<number>(?:0x[0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)(?![a-zA-Z0-9_.]))
    | (?P<name>[a-zA-Z_][a-zA-Z0-9_:]*)
    | (?P<text>"(?:[^"\\\x00-\x1f\x7f]|\\["'\\nt])*"|'(?:[^'\\\x00-\x1f\x7f]|\\["'\\nt])*')
    | (?P<sign>=~|!~|==|!=|<=|>=|[-+*/%^<>=(){}\[\],:])
    )""",
    re.VERBOSE | re.ASCII,
)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t"}
_AGGREGATIONS = frozenset(
    ("avg", "bottomk", "count", "count_values", "group", "max", "min", "quantile", "stddev", "stdvar", "sum", "topk")
)
_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        """
    abs absent absent_over_time avg_over_time ceil changes clamp clamp_max clamp_min count_over_time day_of_month
    day_of_week day_of_year days_in_month delta deriv exp floor histogram_quantile holt_winters hour idelta increase
    irate label_join label_replace last_over_time ln log10 log2 max_over_time min_over_time minute month
    predict_linear present_over_time quantile_over_time rate resets round scalar sgn sort sort_desc sqrt
    stddev_over_time stdvar_over_time sum_over_time time timestamp vector year
        """,
    )
)
_NUMBERS = frozenset(("inf", "nan"))
_MODIFIERS = ("on", "ignoring")
_GROUPS = ("group_left", "group_right")
_OPERATORS = frozenset(("+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">=", "and", "or", "unless", "atan2"))
# What a series may not be called: words of the grammar, of any release.
_RESERVED = (
    _AGGREGATIONS | _NUMBERS | _FUNCTIONS | {*_MODIFIERS, *_GROUPS, "by", "without", "bool", "offset", "start", "end"}
    | {"and", "or", "unless", "atan2", "limitk", "limit_ratio", "info", "step", "smoothed", "anchored", "fill"}
    | {"fill_left", "fill_right", "with", "keep_metric_names", "default", "if", "ifnot", "limit"}
)  # fmt: skip
_MATCHES = ("=", "!=", "=~", "!~")
_DEEPEST = 32  # of brackets in brackets


class _Token(NamedTuple):
    kind: str  # a group of _TOKEN
    word: str


def bound(query: str, label: str, tenant: str, words: Mapping[str, str]) -> str:
    """The query with `label="tenant"` in each of its selectors; QueryError where it cannot be bound.

    `words` replace what matchers say, whole: `$version` in `{model_version="$version"}`.
    """
    return " ".join(_Reader(_tokens(query), f"{label}={_quoted(tenant)}", label, words).read())


def _tokens(query: str) -> list[_Token]:
    found, at, end = [], 0, len(query.rstrip(" \t\r\n"))
    while at < end:
        match = _TOKEN.match(query, at, end)
        if match is None or match.lastgroup is None:
            raise QueryError(f"at {query[at : at + 20].strip()!r}: this is not understood")
        found.append(_Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


class _Reader:
    def __init__(self, tokens: list[_Token], matcher: str, label: str, words: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._matcher = matcher
        self._label = label
        self._known = words
        self._out: list[str] = []

    def read(self) -> list[str]:
        self._expression()
        if self._at < len(self._tokens):
            raise self._unexpected()
        return self._out

    # What comes next.

    def _next(self, offset: int = 0) -> _Token:
        at = self._at + offset
        return self._tokens[at] if at < len(self._tokens) else _Token("end", "")

    def _is(self, *words: str, offset: int = 0) -> bool:
        found = self._next(offset)
        return found.kind in ("sign", "name") and found.word.lower() in words

    def _unexpected(self) -> QueryError:
        return QueryError(
            f"at {self._next().word!r}: this is not expected here" if self._next().word else "it ends early"
        )

    def _take(self, *words: str) -> None:
        """One of these words comes; it is written as it is."""
        if not self._is(*words):
            raise self._unexpected()
        self._out.append(self._next().word.lower())
        self._at += 1

    def _take_kind(self, kind: str) -> None:
        if self._next().kind != kind:
            raise self._unexpected()
        self._out.append(self._next().word)
        self._at += 1

    # The grammar.

    def _expression(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise QueryError(f"it is nested more than {_DEEPEST} deep")
        self._unary()
        while self._is(*_OPERATORS):
            self._take(*_OPERATORS)
            if self._is("bool"):
                self._take("bool")
            if self._is(*_MODIFIERS):
                self._take(*_MODIFIERS)
                self._labels()
                if self._is(*_GROUPS):
                    self._take(*_GROUPS)
                    self._labels()
            self._unary()
        self._depth -= 1

    def _unary(self) -> None:
        while self._is("+", "-"):
            self._take("+", "-")
        self._operand()
        while True:
            if self._is("["):
                self._range()
            elif self._is("offset"):
                self._take("offset")
                if self._is("-"):
                    self._take("-")
                self._take_kind("duration")
            else:
                return

    def _range(self) -> None:
        self._take("[")
        self._take_kind("duration")
        if self._is(":"):
            self._take(":")
            if not self._is("]"):
                self._take_kind("duration")
        self._take("]")

    def _operand(self) -> None:
        found = self._next()
        if found.kind == "number":
            self._take_kind("number")
        elif found.kind == "text":
            self._text()
        elif self._is("("):
            self._arguments()
        elif self._is("{"):
            self._selector("")
        elif found.kind == "name":
            self._named(found.word)
        else:
            raise self._unexpected()

    def _named(self, word: str) -> None:
        """A number, an aggregation, a function or, last, a series."""
        if word.lower() in _NUMBERS:
            self._take(word.lower())
        elif word.lower() in _AGGREGATIONS and self._is("(", "by", "without", offset=1):
            self._aggregation()
        elif self._is("(", offset=1):
            if word not in _FUNCTIONS:
                raise QueryError(f"at {word!r}: this function is not known here")
            self._take_kind("name")
            self._arguments()
        elif word.lower() in _RESERVED:
            raise QueryError(f"at {word!r}: no series may be called that here")
        else:
            self._at += 1
            self._selector(word)

    def _aggregation(self) -> None:
        self._take(*_AGGREGATIONS)
        before = self._is("by", "without")
        if before:
            self._take("by", "without")
            self._labels()
        self._arguments()
        if not before and self._is("by", "without"):
            self._take("by", "without")
            self._labels()

    def _arguments(self) -> None:
        self._take("(")
        if not self._is(")"):
            self._expression()
            while self._is(","):
                self._take(",")
                self._expression()
        self._take(")")

    def _labels(self) -> None:
        self._take("(")
        while not self._is(")"):
            self._label_name()
            if not self._is(")"):
                self._take(",")
        self._take(")")

    def _label_name(self) -> str:
        found = self._next()
        if found.kind != "name" or not _LABEL.match(found.word):
            raise self._unexpected()
        self._take_kind("name")
        return found.word

    def _selector(self, series: str) -> None:
        """Always with braces, and in them always the tenant."""
        self._out.append(f"{series}{{")
        if self._is("{"):
            self._at += 1
            while not self._is("}"):
                self._matcher_of_user()
                self._out.append(",")
                if not self._is("}"):
                    if not self._is(","):
                        raise self._unexpected()
                    self._at += 1
            self._at += 1
        self._out.append(f"{self._matcher}}}")

    def _matcher_of_user(self) -> None:
        if self._label_name() == self._label:
            raise QueryError(f"at {self._label!r}: this label is given by the operator, and is the object's namespace")
        self._take(*_MATCHES)
        self._text()

    def _text(self) -> None:
        found = self._next()
        if found.kind != "text":
            raise self._unexpected()
        said = _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), found.word[1:-1])
        self._out.append(_quoted(self._known.get(said, said)))
        self._at += 1
