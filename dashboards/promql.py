"""What a PromQL expression selects: metric names, matchers, and the labels it groups by.

Reads only the names; Prometheus alone judges whether an expression is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
KEYWORDS = GROUPING | {"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"}

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      | (?P<duration>\[[^\]]*\])
      | (?P<number>0x[0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:ms|[smhdwy])?)
      | (?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
      | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},@])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label."""

    label: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric name with its conditions, as `text` stands in the expression."""

    name: str
    matchers: tuple[Matcher, ...]

    def __str__(self) -> str:
        conditions = ", ".join(f'{one.label}{one.operator}"{one.value}"' for one in self.matchers)
        return self.name + (f"{{{conditions}}}" if conditions else "")


def selectors(expression: str) -> list[Selector]:
    """List what an expression selects, in its order.

    Raises: ValueError: it has a character or a matcher that PromQL does not know.
    """
    found = []
    tokens = list(_tokens(expression))
    position = 0
    while position < len(tokens):
        kind, word = tokens[position]
        follower = tokens[position + 1][1] if position + 1 < len(tokens) else ""
        if kind == "word" and word.lower() in GROUPING:
            position = _after_group(tokens, position)
        elif (
            kind == "word"
            and word.lower() not in KEYWORDS
            and follower != "("
            and not _is_aggregation(tokens, position)
        ):
            matchers, position = _matchers(tokens, position + 1)
            found.append(Selector(word, matchers))
        else:
            position += 1
    return found


def grouping_labels(expression: str) -> set[str]:
    """Return every label named after by, without, on, ignoring, group_left or group_right."""
    tokens = list(_tokens(expression))
    found: set[str] = set()
    for position, (kind, word) in enumerate(tokens):
        if kind == "word" and word.lower() in GROUPING and not _is_inside_group(tokens, position):
            end = _after_group(tokens, position)
            found |= {name for one, name in tokens[position + 1 : end] if one == "word"}
    return found


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ValueError(f"unexpected {expression[position]!r} at {position} of {expression!r}")
        position = match.end()
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group()


def _is_aggregation(tokens: list[tuple[str, str]], position: int) -> bool:
    """Tell `sum by (…) (…)` from a metric called sum."""
    follower = tokens[position + 1] if position + 1 < len(tokens) else ("", "")
    return follower[0] == "word" and follower[1].lower() in {"by", "without"}


def _is_inside_group(tokens: list[tuple[str, str]], position: int) -> bool:
    """Tell the label in `by (by)` from the keyword: a label stands after a bracket or comma and before one."""
    before = tokens[position - 1][1] if position else ""
    after = tokens[position + 1][1] if position + 1 < len(tokens) else ""
    return before in {"(", ",", "{"} and after in {")", ",", "=", "!=", "=~", "!~"}


def _after_group(tokens: list[tuple[str, str]], position: int) -> int:
    if position + 1 == len(tokens) or tokens[position + 1][1] != "(":
        return position + 1  # group_left without labels
    while tokens[position][1] != ")":
        position += 1
    return position + 1


def _matchers(tokens: list[tuple[str, str]], position: int) -> tuple[tuple[Matcher, ...], int]:
    if position == len(tokens) or tokens[position][1] != "{":
        return (), position
    found = []
    position += 1
    while tokens[position][1] != "}":
        words = tokens[position : position + 3]
        (_, label), (_, operator), (kind, value) = (*words, *[("", "")] * 3)[:3]
        if operator not in {"=", "!=", "=~", "!~"} or kind != "text":
            raise ValueError(f"{label}{operator}{value} is no matcher")
        found.append(Matcher(label, operator, value[1:-1]))
        position += 3
        position += tokens[position][1] == ","
    return tuple(found), position + 1
