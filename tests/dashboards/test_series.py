"""Every selector exists in the gateway and every series is shown: a rename in code alone fails here."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator

import pytest

from dashboards.check import FOLDER, Expression, dashboard_expressions, rule_expressions, substituted
from dashboards.overview import AVAILABILITY_BUDGET, LATENCY_BUDGET
from dashboards.panels import DRIFT_STATES, VERSION_STATES
from dashboards.promql import Matcher, grouping_labels, selectors
from gateway.api.problems import REASON
from gateway.inference.registry import VersionState
from gateway.monitoring import decision
from gateway.monitoring.gauges import STATES
from gateway.monitoring.quality import CHECKS
from gateway.monitoring.result import STATISTICS
from gateway.telemetry.metrics import SERIES

SAMPLES = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds to everything."""

OTHERS = {
    "up": SCRAPED,
    "ALERTS": {
        "alertname",
        "alertstate",
        "severity",
        *SCRAPED,
        *(one for found in SERIES.values() for one in found.labels),
    },
    **{
        f"process_{name}": SCRAPED
        for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds")
    },
}
"""Series of Prometheus itself and of its client's process collector."""

SHARED = {
    "gateway_route_weight",
    "gateway_sample_ratio_mismatch",
    "gateway_variant_breaker_open",
    "gateway_route_revision",
    "gateway_route_store_regressed",
    "gateway_drift_score",
    "gateway_drift_p_value",
    "gateway_drift_state",
    "gateway_drift_feature_info",
    "gateway_drift_window_rows",
    "gateway_drift_evaluated_timestamp_seconds",
    "gateway_feature_quality_ratio",
    "gateway_monitoring_capped_features",
    "gateway_model_version_state",
    "gateway_max_queue_rows",
}
"""Gauges that every replica exports with the same value, or as its own verdict: never to be added up."""

VALUES = {
    "state": {*STATES, *VersionState},
    "check": set(CHECKS),
    "statistic": set(STATISTICS),
    "role": {"input", "prediction"},
    "result": {"match", "mismatch", "error"},
    "by": {"sticky", "random", "override", "fallback"},
    "reason": set(REASON.values()),
}
"""Values that the gateway gives these labels."""


def series() -> dict[str, set[str]]:
    """Return the labels of every series that there is, recorded ones included."""
    known = {
        f"gateway_{name}{suffix}": {*found.labels, *SCRAPED, *(["le"] if suffix == "_bucket" else [])}
        for name, found in SERIES.items()
        for suffix in SAMPLES[found.kind]
    }
    # The level, the first word of its name, says which labels a recorded series has.
    recorded = {
        expression.name: set(expression.name.split(":")[0].split("_"))
        for expression in rule_expressions()
        if expression.kind == "recording"
    }
    return known | recorded | OTHERS


def expressions() -> list[Expression]:
    return [*dashboard_expressions(), *rule_expressions()]


def matchers() -> Iterator[tuple[str, Matcher]]:
    for expression in expressions():
        for selector in selectors(substituted(expression.text)):
            for matcher in selector.matchers:
                yield selector.name, matcher


def test_what_is_selected_exists() -> None:
    known = series()
    unknown = [
        f"{expression}: {selector}"
        for expression in expressions()
        for selector in selectors(substituted(expression.text))
        if not {matcher.label for matcher in selector.matchers} <= known.get(selector.name, set())
        or selector.name not in known
    ]
    assert unknown == []


def test_what_is_grouped_by_is_a_label_of_what_is_selected() -> None:
    known = series()
    for expression in expressions():
        labels: set[str] = set()
        for selector in selectors(substituted(expression.text)):
            labels |= known.get(selector.name, set())
        assert grouping_labels(expression.text) <= labels, str(expression)


def test_legends_and_columns_name_labels_that_are_there() -> None:
    labels = {label for found in SERIES.values() for label in found.labels} | SCRAPED | {"le", "alertname"}
    for path in FOLDER.glob("*.json"):
        assert set(re.findall(r"\{\{(\w+)\}\}", path.read_text())) <= labels | {"route"}, path.name


@functools.cache
def shown() -> set[str]:
    """Return what panels show, and what the recorded series among it are made of."""
    found = {
        selector.name
        for expression in dashboard_expressions()
        if expression.kind == "panel"
        for selector in selectors(substituted(expression.text))
    }
    recorded = {expression.name: expression for expression in rule_expressions() if expression.kind == "recording"}
    waiting = [one for one in found if one in recorded]
    while waiting:
        for selector in selectors(recorded[waiting.pop()].text):
            if selector.name not in found:
                found.add(selector.name)
                waiting += [selector.name] if selector.name in recorded else []
    return found


@pytest.mark.parametrize("name", sorted(SERIES))
def test_every_series_has_a_panel_or_a_reason_not_to(name: str) -> None:
    reasons = tomllib.loads((FOLDER / "without_panel.toml").read_text())
    is_shown = any(f"gateway_{name}{suffix}" in shown() for suffix in SAMPLES[SERIES[name].kind])
    assert is_shown != bool(reasons.get(name)), "a panel, or a line in dashboards/without_panel.toml, and not both"


def test_reasons_are_given_for_series_that_exist() -> None:
    assert tomllib.loads((FOLDER / "without_panel.toml").read_text()).keys() <= SERIES.keys()


def test_gauges_that_replicas_share_are_never_added_up() -> None:
    """Two replicas would show twice the rows and two drifts for one."""
    for expression in expressions():
        summed = re.findall(r"\b(?:sum|avg|count)(?: by \([^)]*\))? \((?:\w+\()?(gateway_\w+)", expression.text)
        if expression.name == "GatewayReplicasDisagree":  # counts the replicas that have a route
            summed.remove("gateway_route_revision")
        assert SHARED.isdisjoint(summed), str(expression)


def test_values_of_labels_are_those_that_the_gateway_gives() -> None:
    for name, matcher in matchers():
        if matcher.label in VALUES and matcher.value != ".*":
            assert set(matcher.value.split("|")) <= VALUES[matcher.label], (name, matcher)


def test_objectives_are_the_same_in_rules_and_dashboards() -> None:
    text = (FOLDER / "rules" / "slo.yml").read_text()
    budgets = {kind: set(re.findall(rf"requests_{kind}:\S+ > [\d.]+ \* ([\d.]+)", text)) for kind in ("failed", "slow")}
    assert budgets == {"failed": {str(AVAILABILITY_BUDGET)}, "slow": {str(LATENCY_BUDGET)}}


def test_the_latency_objective_is_a_bound_of_the_histogram() -> None:
    histogram = SERIES["request_duration_seconds"]
    bounds = {repr(histogram.first_bound * 2**k) for k in range(histogram.doublings + 1)}
    assert {matcher.value for _, matcher in matchers() if matcher.label == "le"} <= bounds


def test_numbers_of_states_are_the_same_in_rules_and_dashboards() -> None:
    rules = {one.name: one.text for one in rule_expressions()}
    for name, states in (
        ("model_version_feature:gateway_drift_state:max", DRIFT_STATES),
        ("model_version:gateway_model_version_state:max", VERSION_STATES),
    ):
        numbers = {int(number): state for number, state in re.findall(r'(\d) \* \(\S+state="(\w+)"', rules[name])}
        assert numbers == {number: state for number, (state, _) in states.items()}


def test_thresholds_of_the_drift_dashboard_are_those_that_decide() -> None:
    text = (FOLDER / "drift.py").read_text()
    for floor in (decision.KS_FLOOR, decision.TVD_FLOOR, decision.W1_FLOOR):
        assert f"steps=[({floor:.2f}, RED)]" in text
    assert f"steps=[({decision.KS_FLOOR:.2f}, RED)]" in (FOLDER / "overview.py").read_text()
    assert f"steps=[({decision.MIN_ROWS}, ORANGE)]" in text
    assert f"steps=[({decision.FALSE_DISCOVERY_RATE}, ORANGE)]" in text
