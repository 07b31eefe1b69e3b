"""Holds every expression of the dashboards and rules against a running Prometheus: each selector must match a series.

Reads the JSON and YAML files as Grafana and Prometheus do. `python -m dashboards.check http://localhost:9090` lists
what matches nothing; exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from dashboards.promql import selectors

FOLDER = Path(__file__).parent
BUILT_IN = {"__rate_interval": "1m", "__interval": "15s", "__range": "1h"}
"""What Grafana itself puts in; every other variable is set to All."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Expression:
    """A PromQL expression and where it stands."""

    file: str
    name: str
    kind: Literal["panel", "annotation", "variable", "recording", "alert"]
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def dashboard_expressions() -> Iterator[Expression]:
    """Yield every query of every dashboard, with its variables as they are."""
    for path in sorted(FOLDER.glob("*.json")):
        document = json.loads(path.read_text())
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                yield Expression(path.name, f"{panel['title']} {target['refId']}", "panel", target["expr"])
        for annotation in document["annotations"]["list"]:
            yield Expression(path.name, annotation["name"], "annotation", annotation["expr"])
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                yield Expression(path.name, variable["name"], "variable", _asked(variable["query"]["query"]))


def rule_expressions() -> Iterator[Expression]:
    """Yield every recording and alert rule's expression."""
    for path in sorted((FOLDER / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                kind: Literal["alert", "recording"] = "alert" if "alert" in rule else "recording"
                yield Expression(f"rules/{path.name}", rule.get("alert") or rule["record"], kind, rule["expr"])


def substituted(text: str) -> str:
    """Put in what Grafana would with All chosen everywhere."""
    return _VARIABLE.sub(lambda match: BUILT_IN.get(match[1] or match[2], ".*"), text)


class Prometheus:
    """A Prometheus to ask about its last minutes."""

    def __init__(self, url: str, *, minutes: float = 60) -> None:
        """Remember where it is and how far to look back."""
        self._url = url.rstrip("/")
        self._seconds = minutes * 60
        self._known: dict[str, bool] = {}

    def has_series(self, selector: str) -> bool:
        """Tell whether any series matched the selector."""
        if selector not in self._known:
            self._known[selector] = bool(self._ask("series", {"match[]": selector, **self._period()}))
        return self._known[selector]

    def has_values(self, expression: str) -> bool:
        """Tell whether an expression had a number at any time."""
        step = max(5.0, self._seconds / 500)
        found = self._ask("query_range", {"query": expression, "step": f"{step:g}", **self._period()})
        return any(math.isfinite(float(value)) for series in found["result"] for _, value in series["values"])

    def _period(self) -> dict[str, str]:
        now = float(self._ask("query", {"query": "time()"})["result"][1])
        return {"start": f"{now - self._seconds:.3f}", "end": f"{now:.3f}"}

    def _ask(self, call: str, parameters: dict[str, str]) -> Any:  # noqa: ANN401 - JSON of several shapes
        body = urllib.parse.urlencode(parameters).encode()
        with urllib.request.urlopen(f"{self._url}/api/v1/{call}", body, timeout=20) as answer:  # noqa: S310 - the caller's URL
            return json.load(answer)["data"]


def unmatched(prometheus: Prometheus) -> dict[str, list[Expression]]:
    """Find the selectors that match no series, each with the expressions that it stands in."""
    found: dict[str, list[Expression]] = {}
    for expression in (*dashboard_expressions(), *rule_expressions()):
        for selector in selectors(substituted(expression.text)):
            if not prometheus.has_series(str(selector)):
                found.setdefault(str(selector), []).append(expression)
    return found


def empty_panels(prometheus: Prometheus) -> list[Expression]:
    """Find the queries of panels that never had a value, though each of their selectors may match."""
    return [
        expression
        for expression in dashboard_expressions()
        if expression.kind == "panel" and not prometheus.has_values(substituted(expression.text))
    ]


def main(arguments: list[str] | None = None) -> int:
    """Check a Prometheus and print what is missing."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.check", description=__doc__)
    parser.add_argument("url", help="of Prometheus, such as http://localhost:9090")
    parser.add_argument("--minutes", type=float, default=60, help="how far to look back (default %(default)s)")
    given = parser.parse_args(arguments)
    prometheus = Prometheus(given.url, minutes=given.minutes)
    missing, empty = unmatched(prometheus), empty_panels(prometheus)
    for selector, expressions in missing.items():
        print(f"no series: {selector}")
        for expression in expressions:
            print(f"    {expression}")
    for expression in empty:
        print(f"no value: {expression}")
    print(f"{len(missing)} selectors without a series, {len(empty)} queries without a value")
    return 1 if missing or empty else 0


def _asked(query: str) -> str:
    """Return the selector of `label_values(selector, label)`."""
    match = re.fullmatch(r"label_values\((.+), \w+\)", query)
    if match is None:
        raise ValueError(f"{query} is no label_values")
    return match[1]


if __name__ == "__main__":
    sys.exit(main())
