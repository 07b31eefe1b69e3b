"""The dashboard Overview: is the service well, and which route, model or feature needs a look."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from dashboards import runbook
from dashboards.boards import ANSWER, ROUTE, SHARED, VERSION, Section, compose
from dashboards.panels import (
    DRIFT_STATES,
    NO_IS_BAD,
    ORANGE,
    RED,
    VERSION_STATES,
    YELLOW,
    Column,
    Panel,
    Query,
    Words,
    grid,
    lines,
    number,
    timeline,
)
from dashboards.queries import quantile, rate, ratio, worst

AVAILABILITY_BUDGET = 0.001
LATENCY_BUDGET = 0.01
"""Shares that the objectives of rules/slo.yml allow."""

MODEL = ("model", "version")
FEATURE = (*MODEL, "feature")
FAILED = ANSWER + ', code=~"5.."'


def overview() -> dashboard.Dashboard:
    """Make the dashboard."""
    return compose(
        "gateway-overview",
        "Gateway: Overview",
        "Is the service well, and what needs a look? Everything red leads on to another dashboard or the runbook.",
        [
            Section("Now", _now()),
            Section("What needs a look", [*_look(), *_drift()]),
            Section("Golden signals", _signals()),
        ],
    )


def _now() -> list[Panel]:
    return [
        number(
            Words(
                title="Alerts firing",
                says="Alerts of these rules that fire now. Anything but 0: the table below says which.",
                alert="GatewayAvailabilityBurnFast",
            ),
            Query('count(ALERTS{alertname=~"Gateway.*", alertstate="firing"}) or vector(0)'),
            unit="none",
            steps=[(1, RED)],
        ),
        number(
            Words(
                title="Replicas up",
                says="Replicas that answer Prometheus. Fewer than you run: see which instance is missing, below.",
                alert="GatewayReplicaDown",
            ),
            Query('sum(up{job="gateway", instance=~"$replica"})'),
            unit="none",
        ),
        number(
            Words(
                title="Requests",
                says="Answers of any kind, all replicas. A sudden fall is as bad as errors: ask the callers.",
                alert="GatewayDown",
            ),
            Query(rate("gateway_requests_total", ANSWER)),
            unit="reqps",
        ),
        number(
            Words(
                title="Failed",
                says="Share of answers that are 5xx. Above 0.1 % the month's budget is being spent.",
                alert="GatewayAvailabilityBurnFast",
            ),
            Query(ratio(rate("gateway_requests_total", FAILED), rate("gateway_requests_total", ANSWER))),
            unit="percentunit",
            steps=[(AVAILABILITY_BUDGET, YELLOW), (0.01, RED)],
        ),
        number(
            Words(
                title="Latency, 99 %",
                says="One request in a hundred takes longer. Above 128 ms: does it wait in a queue, or run long?",
                alert="GatewayLatencyBurnFast",
            ),
            Query(quantile(0.99, "gateway_request_duration_seconds", ROUTE)),
            unit="s",
            steps=[(0.064, YELLOW), (0.128, RED)],
        ),
        number(
            Words(
                title="Features in drift",
                says="Features and predictions in state drift, over all versions. The Drift dashboard names them.",
                alert="GatewayDrift",
            ),
            Query(f"sum(model_version:gateway_drift_features:count{{{SHARED}}})"),
            unit="none",
            steps=[(1, RED)],
        ),
    ]


def _look() -> list[Panel]:
    return [
        grid(
            Words(
                title="Alerts",
                says="What fires now. The runbook has a section of each alert's name; pages first.",
                alert="GatewayAvailabilityBurnFast",
            ),
            Column(
                title="firing",
                expression=(
                    "sum by (severity, alertname, route, variant, shadow, model, version, feature, instance) "
                    '(ALERTS{alertname=~"Gateway.*", alertstate="firing"})'
                ),
                unit="none",
                names={1: ("firing", RED)},
            ),
            rows=("severity", "alertname", "route", "variant", "shadow", "model", "version", "feature", "instance"),
            sort="firing",
            opens={
                "alertname": (runbook.UID, ()),
                "route": ("gateway-traffic", ["route"]),
                "model": ("gateway-drift", MODEL),
            },
            width=14,
            height=8,
        ),
        lines(
            Words(
                title="Budget burn of the last hour",
                says=(
                    "How many times faster than allowed each route spends its error budget. 1 "
                    "spends exactly all of it in 30 days; at 6 and 14.4 somebody is paged. Route '' "
                    "is traffic to pinned versions."
                ),
                alert="GatewayAvailabilityBurnFast",
            ),
            Query(
                f'route:gateway_requests_failed:ratio_rate1h{{route=~"$route"}} / {AVAILABILITY_BUDGET}',
                "{{route}} failed",
            ),
            Query(f'route:gateway_requests_slow:ratio_rate1h{{route=~"$route"}} / {LATENCY_BUDGET}', "{{route}} slow"),
            unit="suffix: ×",
            steps=[(1, YELLOW), (6, ORANGE), (14.4, RED)],
            width=10,
        ),
        grid(
            Words(
                title="Models",
                says=(
                    "A row for each version. Red in state: it did not load. Red in drift: its "
                    "traffic is not what it was made for. Evaluated long ago: the drift state is "
                    "old."
                ),
                alert="GatewayModelVersionFailed",
            ),
            Column(
                title="drift",
                expression=f"max by (model, version) (model_version_feature:gateway_drift_state:max{{{SHARED}}})",
                unit="none",
                names=DRIFT_STATES,
            ),
            Column(
                title="features in drift",
                expression=f"model_version:gateway_drift_features:count{{{SHARED}}}",
                unit="none",
                steps=[(1, RED)],
            ),
            Column(
                title="state",
                expression=f"model_version:gateway_model_version_state:max{{{SHARED}}}",
                unit="none",
                names=VERSION_STATES,
            ),
            Column(title="requests", expression=rate("gateway_requests_total", ANSWER, MODEL), unit="reqps"),
            Column(
                title="failed",
                expression=ratio(
                    rate("gateway_requests_total", FAILED, MODEL), rate("gateway_requests_total", ANSWER, MODEL)
                ),
                unit="percentunit",
                steps=[(AVAILABILITY_BUDGET, YELLOW), (0.01, RED)],
            ),
            Column(
                title="queue delay, 99 %",
                expression=quantile(0.99, "gateway_queue_delay_seconds", VERSION, MODEL),
                unit="s",
                steps=[(0.032, YELLOW), (0.1, RED)],
            ),
            Column(
                title="run time, 99 %",
                expression=quantile(0.99, "gateway_inference_duration_seconds", VERSION, MODEL),
                unit="s",
            ),
            Column(title="window rows", expression=worst("gateway_drift_window_rows", VERSION, MODEL), unit="short"),
            Column(
                title="evaluated ago",
                expression="time() - " + worst("gateway_drift_evaluated_timestamp_seconds", VERSION, MODEL),
                unit="s",
                steps=[(900, YELLOW)],
            ),
            rows=MODEL,
            sort="drift",
            opens={"model": ("gateway-drift", MODEL), "version": ("gateway-capacity", MODEL)},
        ),
    ]


def _signals() -> list[Panel]:
    return [
        lines(
            Words(
                title="Requests by route",
                says=(
                    "Traffic. Pinned versions and unknown names have no route. A step without a "
                    "release: ask the callers."
                ),
                alert="GatewayDown",
            ),
            Query(
                _named(rate("gateway_requests_total", ANSWER, ["route"])),
                "{{route}}",
            ),
            unit="reqps",
            stack="normal",
            width=6,
        ),
        lines(
            Words(
                title="Failures by code",
                says=(
                    "Errors. 500: a run failed. 503: overloaded, draining or not READY; see Batching and capacity. "
                    "504: the caller's deadline passed."
                ),
                alert="GatewayAvailabilityBurnFast",
            ),
            Query(rate("gateway_requests_total", ANSWER + ', code=~"[45].."', ["code"]), "{{code}}"),
            unit="reqps",
            width=6,
        ),
        lines(
            Words(
                title="Latency",
                says=(
                    "From the whole request received to the answer handed to the socket. Line: the objective's 128 ms."
                ),
                alert="GatewayLatencyBurnFast",
            ),
            *(
                Query(quantile(share, "gateway_request_duration_seconds", ROUTE), f"{share:.0%}")
                for share in (0.5, 0.95, 0.99)
            ),
            unit="s",
            steps=[(0.128, RED)],
            width=6,
        ),
        lines(
            Words(
                title="Utilisation",
                says=(
                    "Saturation: seconds of model runs a second, each replica. Near the number of "
                    "instances the queue grows: add replicas."
                ),
                alert="GatewayOverloaded",
            ),
            Query(rate("gateway_inference_duration_seconds_sum", VERSION, ["instance"]), "{{instance}}"),
            unit="percentunit",
            steps=[(0.8, ORANGE)],
            width=6,
        ),
        timeline(
            Words(
                title="Replicas and their store",
                says=(
                    "Whether each replica answers, and reaches Redis. Without Redis predictions go "
                    "on and changes do not."
                ),
                alert="GatewayStoreDown",
            ),
            Query('min by (instance) (up{job="gateway", instance=~"$replica"})', "{{instance}} answers"),
            Query('min by (instance) (gateway_store_up{instance=~"$replica"})', "{{instance}} reaches the store"),
            names=NO_IS_BAD,
            height=5,
        ),
    ]


def _drift() -> list[Panel]:
    moved = f"model_version_feature:gateway_drift_state:max{{{SHARED}}} >= 2"
    and_moved = f" and on (model, version, feature) {moved}"
    return [
        grid(
            Words(
                title="Features that moved",
                says=(
                    "Features and predictions in watch or drift, with the effects that decide. Broken: share "
                    "of rows that are null, not finite or of an unseen category. Empty is good."
                ),
                alert="GatewayDrift",
            ),
            Column(title="drift", expression=moved, unit="none", names=DRIFT_STATES),
            Column(
                title="moved (KS)",
                expression=worst("gateway_drift_score", SHARED + ', statistic="ks"', FEATURE) + and_moved,
                unit="percentunit",
                steps=[(0.10, RED)],
            ),
            Column(
                title="moved (total variation)",
                expression=worst("gateway_drift_score", SHARED + ', statistic="tvd"', FEATURE) + and_moved,
                unit="percentunit",
            ),
            Column(
                title="broken",
                expression=worst("gateway_feature_quality_ratio", SHARED + ', check=~"null|non_finite|unseen"', FEATURE)
                + and_moved,
                unit="percentunit",
                steps=[(0.05, RED)],
            ),
            rows=FEATURE,
            sort="drift",
            opens={"feature": ("gateway-drift", FEATURE)},
            width=14,
            height=8,
        ),
        timeline(
            Words(
                title="Drift by version",
                says="The gravest state of any feature or prediction. Red: open the Drift dashboard at that version.",
                alert="GatewayDrift",
            ),
            Query(
                f"max by (model, version) (model_version_feature:gateway_drift_state:max{{{SHARED}}})",
                "{{model}}:{{version}}",
            ),
            names=DRIFT_STATES,
            width=10,
        ),
    ]


def _named(by_route: str) -> str:
    """Give what has no route a name, or its legend would be empty."""
    return f'label_replace({by_route}, "route", "(no route)", "route", "")'
