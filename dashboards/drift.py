"""The dashboard Drift: what flows through the models, against the reference of each version."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from dashboards.boards import SHARED, VERSION, Choice, Section, compose
from dashboards.panels import (
    DRIFT_STATES,
    NO_IS_BAD,
    ORANGE,
    RED,
    YELLOW,
    Panel,
    Query,
    Steps,
    Words,
    lines,
    number,
    timeline,
)
from dashboards.queries import quantile, rate, worst

MODEL = ("model", "version")
FEATURE = (*MODEL, "feature")
NAME = "{{model}}:{{version}}"
FEATURE_NAME = NAME + " {{feature}}"
WATCHED = SHARED + ', feature=~"$feature"'
REPLICA = 'instance=~"$replica"'
STATE = f"model_version_feature:gateway_drift_state:max{{{WATCHED}}}"
PREDICTIONS = f'max by (model, version, feature) (gateway_drift_feature_info{{{WATCHED}, role="prediction"}})'

FEATURES = Choice(
    "feature", "Feature", 'label_values(gateway_drift_state{model=~"$model", version=~"$version"}, feature)'
)


def drift() -> dashboard.Dashboard:
    """Make the dashboard."""
    return compose(
        "gateway-drift",
        "Gateway: Drift",
        "Which feature or prediction moved, by how much, since when, and can the statement be trusted?",
        [
            Section("Now", _now()),
            Section("States", _states()),
            Section("How far: effect sizes that decide", _effects()),
            Section("How sure, and other distances", _tests()),
            Section("Quality", _quality()),
            Section("Predictions", _predictions()),
            Section("Can it be trusted: rows, windows, store", _pipeline()),
        ],
        choices=[FEATURES],
    )


def _count(state: int) -> str:
    return f"count({STATE} == {state}) or count({STATE}) * 0"


def _now() -> list[Panel]:
    return [
        number(
            Words(
                title="In drift",
                says="Features and predictions whose difference is significant and large in 2 of the last 3 windows.",
                alert="GatewayDrift",
            ),
            Query(_count(3)),
            unit="none",
            steps=[(1, RED)],
        ),
        number(
            Words(
                title="In watch",
                says="One window differed, or the difference is significant but small. Nothing to do yet.",
                alert="GatewayDrift",
            ),
            Query(_count(2)),
            unit="none",
            steps=[(1, YELLOW)],
        ),
        number(
            Words(
                title="Insufficient",
                says="Too few rows in the window (min_rows): no statement, which is not the same as no drift.",
                alert="GatewayMonitoringSeesNoRows",
            ),
            Query(_count(1)),
            unit="none",
        ),
        number(
            Words(
                title="Oldest evaluation",
                says="Age of the oldest decided window of any version with one. Older than three windows: stale.",
                alert="GatewayEvaluatorStale",
            ),
            Query(f"time() - min(max by (model, version) (gateway_drift_evaluated_timestamp_seconds{{{VERSION}}}))"),
            unit="s",
            steps=[(900, RED)],
        ),
        number(
            Words(
                title="Rows a second",
                says="Rows that monitoring saw. 0 under traffic: a drift would raise no alarm.",
                alert="GatewayMonitoringSeesNoRows",
            ),
            Query(rate("gateway_monitoring_rows_total", VERSION)),
            unit="rowsps",
        ),
        number(
            Words(
                title="Rows dropped, last hour",
                says="Rows answered but not counted. Anything but 0: windows are blind to part of the traffic.",
                alert="GatewayMonitoringRowsDropped",
            ),
            Query(f"sum(increase(gateway_monitoring_dropped_rows_total{{{REPLICA}}}[1h]))"),
            unit="short",
            steps=[(1, ORANGE)],
        ),
    ]


def _states() -> list[Panel]:
    return [
        timeline(
            Words(
                title="State by feature",
                says=(
                    "A bar for each feature and prediction; ok bars are green. Red in one: look "
                    "upstream of it. Red in many at once: the callers changed, or the reference is "
                    "old. The admin API shows the histograms."
                ),
                alert="GatewayDrift",
            ),
            Query(STATE, FEATURE_NAME),
            names=DRIFT_STATES,
            height=14,
        )
    ]


def _statistic(
    name: str, title: str, says: str, *, unit: str = "none", steps: Steps = (), width: int = 8, only: str = ""
) -> Panel:
    shown = worst("gateway_drift_score", f'{WATCHED}, statistic="{name}"', FEATURE)
    if only:
        shown += f" and on (model, version, feature) {only}"
    return lines(
        Words(title=title, says=says, alert="GatewayDrift"),
        Query(shown, FEATURE_NAME),
        unit=unit,
        steps=steps,
        width=width,
    )


def _effects() -> list[Panel]:
    return [
        _statistic(
            "ks",
            "Kolmogorov-Smirnov",
            (
                "Numeric features: the largest share of rows that moved past any one value. "
                "From 0.10 on it counts as large."
            ),
            unit="percentunit",
            steps=[(0.10, RED)],
        ),
        _statistic(
            "w1",
            "Wasserstein, in reference σ",
            (
                "Numeric features: how far the mass moved. From 0.20 σ on it counts as large; a "
                "lower bound when rows leave the range."
            ),
            unit="suffix: σ",
            steps=[(0.20, RED)],
        ),
        _statistic(
            "tvd",
            "Total variation",
            "Share of rows in other categories or bins than in the reference, raw: biased "
            "upward in small windows. The decision corrects for that and counts categorical "
            "features from 0.10 on.",
            unit="percentunit",
            steps=[(0.10, RED)],
        ),
    ]


def _tests() -> list[Panel]:
    return [
        lines(
            Words(
                title="p-value",
                says=(
                    "How likely such a window is without drift, if rows are independent; before the "
                    "correction for the number of features. Far below 0.01 with tiny effects: many "
                    "rows, not much drift."
                ),
                alert="GatewayDrift",
            ),
            Query(worst("gateway_drift_p_value", WATCHED, FEATURE), FEATURE_NAME),
            unit="none",
            steps=[(0.01, ORANGE)],
            log=True,
        ),
        _statistic(
            "psi",
            "PSI",
            "Population stability index. By custom 0.1 is moderate and 0.25 large. Shown, never decides.",
            steps=[(0.1, YELLOW), (0.25, RED)],
        ),
        _statistic(
            "js",
            "Jensen-Shannon distance",
            "Base 2, between 0 and 1. Shown for comparison with other tools, never decides.",
        ),
        _statistic(
            "ad",
            "Anderson-Darling",
            (
                "The test statistic for location and scale of numeric features. Compare it with "
                "its own past, not between features."
            ),
            width=12,
        ),
        _statistic(
            "chi2",
            "Two-sample χ²",
            "The test statistic for local changes, tails and categories. Grows with the number of rows.",
            width=12,
        ),
    ]


def _quality() -> list[Panel]:
    checks = {
        "null": ("Null", "Share of rows without a value (NaN). A step: an upstream join or default changed."),
        "non_finite": ("Not finite", "Share of rows with ±Inf. A step: a division or a logarithm upstream."),
        "out_of_range": (
            "Out of range",
            (
                "Share of rows outside the reference's 0.1 to 99.9 % quantiles, 0.2 % by "
                "construction. A step: a unit changed."
            ),
        ),
        "unseen": (
            "Unseen category",
            "Share of rows with a category that the reference does not have. New, or misspelt?",
        ),
    }
    return [
        lines(
            Words(title=title, says=says, alert="GatewayDataQuality"),
            Query(worst("gateway_feature_quality_ratio", f'{WATCHED}, check="{check}"', FEATURE), FEATURE_NAME),
            unit="percentunit",
            steps=[(0.05, RED)] if check != "out_of_range" else [(0.012, ORANGE)],
            width=6,
        )
        for check, (title, says) in checks.items()
    ]


def _predictions() -> list[Panel]:
    return [
        timeline(
            Words(
                title="State of the predictions",
                says=(
                    "Outputs only. Features drift and predictions do not: the model may not care. "
                    "Predictions drift and features do not: a joint change, or another version; "
                    "compare the variants in the admin API."
                ),
                alert="GatewayDrift",
            ),
            Query(
                f"{STATE} and on (model, version, feature) {PREDICTIONS}",
                FEATURE_NAME,
            ),
            names=DRIFT_STATES,
            width=8,
        ),
        _statistic(
            "ks",
            "Scores: Kolmogorov-Smirnov",
            "The same distance, of numeric outputs. From 0.10 on it counts as large.",
            unit="percentunit",
            steps=[(0.10, RED)],
            only=PREDICTIONS,
        ),
        _statistic(
            "tvd",
            "Labels: total variation",
            "The same distance, of labels: which decisions became more or fewer.",
            unit="percentunit",
            steps=[(0.10, RED)],
            only=PREDICTIONS,
        ),
    ]


def _pipeline() -> list[Panel]:
    return [
        lines(
            Words(
                title="Rows of the last decided window",
                says=(
                    "The dashed line is the default min_rows, below which nothing is said. Far "
                    "above: every difference is significant."
                ),
                alert="GatewayMonitoringSeesNoRows",
            ),
            Query(worst("gateway_drift_window_rows", VERSION, MODEL), NAME),
            unit="short",
            steps=[(200, ORANGE)],
        ),
        lines(
            Words(
                title="Rows counted",
                says="When seen, before they are flushed; primary traffic and shadows. They decide separately.",
                alert="GatewayMonitoringSeesNoRows",
            ),
            Query(rate("gateway_monitoring_rows_total", VERSION, MODEL), NAME),
            Query(rate("gateway_monitoring_shadow_rows_total", VERSION, MODEL), NAME + " as a shadow"),
            unit="rowsps",
        ),
        lines(
            Words(
                title="Since the last evaluation",
                says="A saw of one window's length. A growing line: rows come and no window is decided.",
                alert="GatewayEvaluatorStale",
            ),
            Query("time() - " + worst("gateway_drift_evaluated_timestamp_seconds", VERSION, MODEL), NAME),
            unit="s",
            steps=[(900, RED)],
        ),
        lines(
            Words(
                title="Rows dropped",
                says=(
                    "pending_full: counting cannot keep up. buffer_full, store_lost: the store was away for too long. "
                    "uncountable: not what the reference expects. Callers notice nothing."
                ),
                alert="GatewayMonitoringRowsDropped",
            ),
            Query(rate("gateway_monitoring_dropped_rows_total", REPLICA, ["reason"]), "{{reason}}"),
            unit="rowsps",
            width=6,
        ),
        lines(
            Words(
                title="Columns not watched",
                says="Beyond 256 features, or outside the selection in model.toml. Select those that matter.",
                alert="GatewayMonitoringSeesNoRows",
            ),
            Query(worst("gateway_monitoring_capped_features", VERSION, MODEL), NAME),
            unit="short",
            width=6,
        ),
        lines(
            Words(
                title="Flush to the store",
                says="How long counts take to the store, and flushes that failed. Slow or failing: look at Redis.",
                alert="GatewayStoreFlushFails",
            ),
            Query(quantile(0.5, "gateway_store_flush_duration_seconds", REPLICA), "50 %"),
            Query(quantile(0.99, "gateway_store_flush_duration_seconds", REPLICA), "99 %"),
            unit="s",
            width=6,
        ),
        lines(
            Words(
                title="Flushes that failed",
                says=(
                    "Counts wait in a buffer and are sent again; nothing is counted twice. For long: rows get dropped."
                ),
                alert="GatewayStoreFlushFails",
            ),
            Query(rate("gateway_store_flush_errors_total", REPLICA, ["instance"]), "{{instance}}"),
            unit="ops",
            width=6,
        ),
        timeline(
            Words(
                title="Store",
                says="Whether each replica reaches the store. Red: predictions go on, counts wait.",
                alert="GatewayStoreDown",
            ),
            Query(f"min by (instance) (gateway_store_up{{{REPLICA}}})", "{{instance}}"),
            names=NO_IS_BAD,
            height=5,
        ),
    ]
