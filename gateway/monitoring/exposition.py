"""The series of the monitor: which of its readings is which series.

Declares none and counts nothing; a version that is no longer watched has no series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.monitoring import gauges
from gateway.monitoring.gauges import Sample
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.watch import SeriesWatch
from gateway.telemetry.metrics import Metrics

_GAUGES: dict[str, Callable[[Iterable[SeriesWatch]], list[Sample]]] = {
    "drift_score": gauges.drift_scores,
    "drift_p_value": gauges.drift_p_values,
    "drift_state": gauges.drift_states,
    "drift_feature_info": gauges.feature_infos,
    "drift_window_rows": gauges.drift_window_rows,
    "drift_evaluated_timestamp_seconds": gauges.drift_evaluated_timestamps,
    "feature_quality_ratio": gauges.feature_quality_ratios,
    "monitoring_capped_features": gauges.capped_features,
}


def expose_monitor(monitor: Monitor, metrics: Metrics) -> None:
    """Have every scrape read the monitor; `store_up` is not its alone."""
    for name, read in _GAUGES.items():
        metrics.gauge(name, _reader(read, monitor))
    metrics.total("monitoring_rows_total", lambda: monitor.seen_rows("primary"))
    metrics.total("monitoring_shadow_rows_total", lambda: monitor.seen_rows("shadow"))
    metrics.total("monitoring_dropped_rows_total", monitor.dropped_rows)
    metrics.total("store_flush_errors_total", monitor.flush_errors)


def _reader(read: Callable[[Iterable[SeriesWatch]], list[Sample]], monitor: Monitor) -> Callable[[], list[Sample]]:
    return lambda: read(monitor.watches)
