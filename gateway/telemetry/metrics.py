"""Every Prometheus series of the gateway, declared in one table; the only user of prometheus_client.

Never reads a clock and never decides what to count. Label values come from configured names only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]


class Series(NamedTuple):
    """A declared series: its labels, its meaning, and for a histogram the first bound and how often it doubles."""

    kind: str
    labels: Labels
    help: str
    first_bound: float = 0.00025
    doublings: int = 17


SERIES: dict[str, Series] = {
    "requests_total": Series(
        "counter",
        ("route", "variant", "model", "version", "code"),
        "Answers to callers by status; a pinned version has route '' and variant 'pinned', an unknown name all ''.",
    ),
    "variant_attempts_total": Series(
        "counter",
        ("route", "variant", "code"),
        "What each variant did by status; a candidate that could not take a request (not READY, breaker open, queue "
        "full) has 503, one that failed has 500, also where the first variant then answered the caller.",
    ),
    "assignments_total": Series(
        "counter",
        ("route", "variant", "by"),
        "Requests by the variant that answered and why: sticky, random, override, or fallback for another's.",
    ),
    "route_revision": Series("gauge", ("route",), "Revision of the route that this replica applies."),
    "route_store_regressed": Series(
        "gauge", ("route",), "1 while the store holds older or other content of the route, which is not obeyed."
    ),
    "route_weight": Series("gauge", ("route", "variant"), "Percent of the traffic that the revision in force gives."),
    "variant_breaker_open": Series(
        "gauge",
        ("route", "variant"),
        "1 while requests of the variant go to the first one, all or all but probes; the first one has no breaker.",
    ),
    "sample_ratio_mismatch": Series(
        "gauge",
        ("route",),
        "1 once the variants' shares of this revision are refuted: distinct keys and keyless requests, tested always-"
        "validly against the weights.",
    ),
    "shadow_requests_total": Series(
        "counter",
        ("route", "shadow", "result"),
        "Requests that a shadow ran, by comparison with the answer: match, mismatch (beyond the tolerance), error.",
    ),
    "shadow_dropped_total": Series(
        "counter",
        ("route", "shadow", "reason"),
        "Sampled requests that a shadow never compared: queue_full, too_old, not_ready, incompatible, stopping.",
    ),
    "shadow_disagreement_total": Series(
        "counter",
        ("route", "shadow"),
        "Requests to which a shadow gave another answer: a value beyond the tolerance, or another predicted class.",
    ),
    "shadow_difference": Series(
        "histogram",
        ("route", "shadow"),
        "Largest absolute difference of a floating-point value in each compared request, where it is finite.",
        1e-9,
        40,
    ),
    "request_duration_seconds": Series(
        "histogram", ("route", "variant"), "From the whole request received to the answer handed to the socket."
    ),
    "queue_delay_seconds": Series("histogram", ("model", "version"), "From arrival in the queue to the batch's start."),
    "inference_duration_seconds": Series("histogram", ("model", "version"), "Time of one onnxruntime run."),
    "batch_rows": Series("histogram", ("model", "version"), "Rows that shared one run.", 1, 12),
    "batches_total": Series(
        "counter",
        ("model", "version", "reason"),
        "Runs by why the batch was released: drained, full, preferred, delay, shape, oversize, single, isolated, or "
        "shadow for a shadow's run.",
    ),
    "queue_rows": Series("gauge", ("model", "version"), "Rows waiting for a run."),
    "max_queue_rows": Series("gauge", ("model", "version"), "Waiting rows beyond which requests are refused."),
    "rejected_total": Series("counter", ("model", "reason"), "Requests refused or given up before an answer."),
    "model_version_state": Series("gauge", ("model", "version", "state"), "1 for the state the version is in."),
    "model_load_duration_seconds": Series(
        "gauge", ("model", "version"), "Time the last load took, from reading the file to READY."
    ),
    "drift_score": Series(
        "gauge",
        ("model", "version", "feature", "statistic"),
        "Distance of the last decided window from the reference: ad, chi2, ks, w1, psi, js, tvd.",
    ),
    "drift_p_value": Series(
        "gauge", ("model", "version", "feature"), "p-value of the last decided window, before Benjamini-Hochberg."
    ),
    "drift_state": Series(
        "gauge",
        ("model", "version", "feature", "state"),
        "1 for the state a feature or prediction is in: ok, insufficient, watch, drift.",
    ),
    "drift_feature_info": Series(
        "gauge",
        ("model", "version", "feature", "role", "kind"),
        "1 for each feature (role input) and prediction that is watched, numeric or categorical.",
    ),
    "drift_window_rows": Series("gauge", ("model", "version"), "Rows of the last decided window."),
    "drift_evaluated_timestamp_seconds": Series(
        "gauge", ("model", "version"), "When the last window was decided, by whichever replica."
    ),
    "feature_quality_ratio": Series(
        "gauge",
        ("model", "version", "feature", "check"),
        "Share of the last decided window's rows that fail a check: null, non_finite, out_of_range, unseen.",
    ),
    "monitoring_rows_total": Series("counter", ("model", "version"), "Rows answered to callers, when seen."),
    "monitoring_shadow_rows_total": Series("counter", ("model", "version"), "Rows seen as a shadow."),
    "monitoring_dropped_rows_total": Series(
        "counter", ("reason",), "Rows lost to monitoring: pending_full, buffer_full, uncountable, store_lost."
    ),
    "monitoring_capped_features": Series(
        "gauge", ("model", "version"), "Columns that are not watched because only 256 inputs and predictions are."
    ),
    "route_applied": Series(
        "gauge", ("route",), "1 while the replica serves the newest revision it was told of, 0 while it cannot."
    ),
    "store_up": Series("gauge", (), "1 while the store answers, 0 while it does not."),
    "store_flush_duration_seconds": Series("histogram", (), "Time of one flush of counts to the store."),
    "store_flush_errors_total": Series("counter", (), "Flushes of counts that the store did not answer."),
    "event_loop_lag_seconds": Series("gauge", (), "How late the event loop ran its last timer."),
    "build_info": Series("gauge", ("version",), "1, labelled with the gateway's version."),
}


class CounterCell:
    """One counter under one set of label values."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        """Count `amount` more."""
        self.value += amount


class HistogramCell:
    """One histogram under one set of label values.

    Attributes:
        bounds: Upper ends of the buckets, doubling; one more bucket counts what is above all of them.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, first_bound: float, doublings: int) -> None:
        self.bounds = [first_bound * 2**doubling for doubling in range(doublings + 1)]
        self.counts = [0] * (doublings + 2)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the series' own unit."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Snapshot(Collector):
    """What every series was at one moment, to be written in any thread: that takes most of a scrape's time."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        """Return every family."""
        return self._families

    def text(self) -> bytes:
        """Write it in the Prometheus text format."""
        return generate_latest(self)


Reader = Callable[[], Iterable[tuple[Labels, float]]]


class Metrics:
    """All series of one process. Cells are fetched once and kept by whoever counts often."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._counters: dict[str, dict[Labels, CounterCell]] = {}
        self._histograms: dict[str, dict[Labels, HistogramCell]] = {}
        self._gauges: dict[str, Reader] = {}
        self._totals: dict[str, Reader] = {}
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def counter(self, name: str, *labels: str) -> CounterCell:
        """Return the counter `name` under these label values, made at 0 if new."""
        self._expect(name, "counter", labels)
        return self._counters.setdefault(name, {}).setdefault(labels, CounterCell())

    def histogram(self, name: str, *labels: str) -> HistogramCell:
        """Return the histogram `name` under these label values, made empty if new."""
        series = self._expect(name, "histogram", labels)
        cells = self._histograms.setdefault(name, {})
        if labels not in cells:
            cells[labels] = HistogramCell(series.first_bound, series.doublings)
        return cells[labels]

    def gauge(self, name: str, reader: Reader) -> None:
        """Read the gauge `name` from `reader` at each scrape: pairs of label values and a number."""
        self._expect(name, "gauge", SERIES[name].labels)
        self._gauges[name] = reader

    def total(self, name: str, reader: Reader) -> None:
        """Read the counter `name` from `reader` at each scrape, where somebody else counts."""
        self._expect(name, "counter", SERIES[name].labels)
        self._totals[name] = reader

    def forget(self, model: str, version: str) -> None:
        """Drop every series of a model version that is gone."""
        self.forget_labels(model=model, version=version)

    def forget_labels(self, **gone: str) -> None:
        """Drop every series that has all of these label values."""
        families: list[tuple[str, dict[Labels, CounterCell] | dict[Labels, HistogramCell]]] = [
            *self._counters.items(),
            *self._histograms.items(),
        ]
        for name, cells in families:
            order = SERIES[name].labels
            if not gone.keys() <= set(order):
                continue
            for labels in [labels for labels in cells if gone.items() <= dict(zip(order, labels, strict=True)).items()]:
                del cells[labels]

    def snapshot(self) -> Snapshot:
        """Take down what every series is now."""
        return Snapshot(self.registry.collect())

    def exposition(self) -> bytes:
        """Return the whole registry in the Prometheus text format."""
        return self.snapshot().text()

    def collect(self) -> Iterator[Metric]:
        """Yield every family (the protocol of prometheus_client's registry)."""
        for name, series in SERIES.items():
            full_name = f"gateway_{name}"
            if series.kind == "counter":
                counter = CounterMetricFamily(full_name, series.help, labels=series.labels)
                for labels, cell in list(self._counters.get(name, {}).items()):
                    counter.add_metric(labels, cell.value)
                for labels, value in self._totals[name]() if name in self._totals else ():
                    counter.add_metric(labels, value)
                yield counter
            elif series.kind == "gauge":
                gauge = GaugeMetricFamily(full_name, series.help, labels=series.labels)
                for labels, value in self._gauges[name]() if name in self._gauges else ():
                    gauge.add_metric(labels, value)
                yield gauge
            else:
                yield self._collect_histogram(full_name, name, series)

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the names are checked by this table, not by a collection at start."""
        yield from ()

    def _collect_histogram(self, full_name: str, name: str, series: Series) -> Metric:
        family = HistogramMetricFamily(full_name, series.help, labels=series.labels)
        for labels, cell in list(self._histograms.get(name, {}).items()):
            total = 0
            buckets = []
            for bound, count in zip([*map(repr, cell.bounds), "+Inf"], cell.counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, cell.sum)
        return family

    @staticmethod
    def _expect(name: str, kind: str, labels: Labels) -> Series:
        series = SERIES[name]
        if series.kind != kind or len(labels) != len(series.labels):
            raise TypeError(f"gateway_{name} is a {series.kind} with labels {series.labels}, got {kind} {labels}")
        return series
