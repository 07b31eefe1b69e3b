"""Holds the series to their promises: exact bucket edges, text Prometheus accepts, nothing left of the gone."""

from __future__ import annotations

import math
import subprocess
from bisect import bisect_left
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import CONTENT_TYPE, SERIES, HistogramCell, Labels, Metrics

DURATION_BOUNDS = [0.00025 * 2**k for k in range(18)]
ROW_BOUNDS = [float(2**k) for k in range(13)]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    """Read the exposition back as any scraper would."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def labelled(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return f"gateway_{name}", tuple(sorted(labels.items()))


def with_every_series(metrics: Metrics, value: str) -> Metrics:
    for name, series in SERIES.items():
        labels = (value,) * len(series.labels)
        if series.kind == "counter":
            metrics.counter(name, *labels).add()
        elif series.kind == "histogram":
            metrics.histogram(name, *labels).observe(0.003)
        else:
            metrics.gauge(name, partial(list[tuple[Labels, float]], [(labels, 1.5)]))
    return metrics


# --- the exposition --------------------------------------------------------------------------------------


@pytest.mark.prometheus
@pytest.mark.parametrize("value", ["fraud", 'a"b\\c\nd', "größe", ""])
def test_promtool_accepts_every_series(value: str) -> None:
    exposition = with_every_series(Metrics(), value).exposition()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_every_declared_series_is_exposed_with_its_help_before_anything_is_counted() -> None:
    exposition = Metrics().exposition().decode()
    for name, series in SERIES.items():
        assert f"# HELP gateway_{name} {series.help}" in exposition
        assert f"# TYPE gateway_{name} {series.kind}" in exposition


def test_the_process_itself_is_measured() -> None:
    found = samples(Metrics())
    assert found["process_resident_memory_bytes", ()] > 0
    assert found["process_cpu_seconds_total", ()] >= 0


def test_the_content_type_is_the_text_format_that_is_written() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


@given(st.text())
def test_label_values_of_any_kind_come_back_as_they_were(value: str) -> None:
    metrics = Metrics()
    metrics.counter("rejected_total", value, "overloaded").add(3)
    assert samples(metrics)[labelled("rejected_total", model=value, reason="overloaded")] == 3


# --- counters and gauges ----------------------------------------------------------------------------------


def test_a_counter_is_one_cell_per_label_values_and_starts_at_nought() -> None:
    metrics = Metrics()
    cell = metrics.counter("rejected_total", "fraud", "overloaded")
    assert samples(metrics)[labelled("rejected_total", model="fraud", reason="overloaded")] == 0
    cell.add()
    metrics.counter("rejected_total", "fraud", "overloaded").add(2)
    metrics.counter("rejected_total", "fraud", "deadline").add(5)
    found = samples(metrics)
    assert found[labelled("rejected_total", model="fraud", reason="overloaded")] == 3
    assert found[labelled("rejected_total", model="fraud", reason="deadline")] == 5


def test_a_gauge_is_read_at_every_scrape() -> None:
    metrics = Metrics()
    rows = [7.0]
    metrics.gauge("queue_rows", lambda: [(("fraud", "3"), rows[0])])
    assert samples(metrics)[labelled("queue_rows", model="fraud", version="3")] == 7
    rows[0] = 2.0
    assert samples(metrics)[labelled("queue_rows", model="fraud", version="3")] == 2


@pytest.mark.parametrize(
    ("kind", "name", "labels"),
    [
        ("counter", "queue_delay_seconds", ("fraud", "3")),
        ("counter", "rejected_total", ("fraud",)),
        ("histogram", "rejected_total", ("fraud", "x")),
        ("histogram", "batch_rows", ()),
        ("gauge", "batch_rows", ()),
    ],
)
def test_a_series_is_used_only_as_it_was_declared(kind: str, name: str, labels: Labels) -> None:
    metrics = Metrics()
    ask = partial(metrics.gauge, name, list) if kind == "gauge" else partial(getattr(metrics, kind), name, *labels)
    with pytest.raises(TypeError, match=f"^gateway_{name} is a "):
        ask()


# --- histograms -------------------------------------------------------------------------------------------


def bucket_of(cell: HistogramCell) -> int:
    (index,) = (index for index, count in enumerate(cell.counts) if count)
    return index


@pytest.mark.parametrize(("first_bound", "bounds"), [(0.00025, DURATION_BOUNDS), (1, ROW_BOUNDS)])
def test_a_value_on_an_edge_belongs_to_the_bucket_that_ends_there(first_bound: float, bounds: list[float]) -> None:
    """Prometheus reads `le` as at most."""
    for index, bound in enumerate(bounds):
        for value, expected in (
            (math.nextafter(bound, 0), index),
            (bound, index),
            (math.nextafter(bound, math.inf), index + 1),
        ):
            cell = HistogramCell(first_bound, len(bounds) - 1)
            cell.observe(value)
            assert bucket_of(cell) == expected, value


@given(st.floats(min_value=0, max_value=1e12), st.sampled_from([0.00025, 1.0]))
def test_every_value_lands_in_the_first_bucket_it_does_not_exceed(value: float, first_bound: float) -> None:
    bounds = [first_bound * 2**k for k in range(6)]
    cell = HistogramCell(first_bound, 5)
    cell.observe(value)
    assert bucket_of(cell) == bisect_left(bounds, value)
    assert cell.sum == value


def test_whoever_asks_for_a_histogram_again_counts_in_the_same_one() -> None:
    metrics = Metrics()
    metrics.histogram("batch_rows", "fraud", "3").observe(1)
    assert metrics.histogram("batch_rows", "fraud", "3").sum == 1


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-300])
def test_nothing_and_next_to_nothing_are_in_the_first_bucket(value: float) -> None:
    cell = HistogramCell(0.00025, 17)
    cell.observe(value)
    assert bucket_of(cell) == 0


def test_exposed_buckets_are_cumulative_and_end_with_the_count() -> None:
    metrics = Metrics()
    cell = metrics.histogram("batch_rows", "fraud", "3")
    for rows in (1, 2, 2, 3, 64, 5000):
        cell.observe(rows)
    found = samples(metrics)
    buckets = [found[labelled("batch_rows_bucket", model="fraud", version="3", le=str(2**k))] for k in range(13)]
    assert buckets == [1, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5]
    assert found[labelled("batch_rows_bucket", model="fraud", version="3", le="+Inf")] == 6
    assert found[labelled("batch_rows_count", model="fraud", version="3")] == 6
    assert found[labelled("batch_rows_sum", model="fraud", version="3")] == 5072


def test_latency_buckets_start_at_a_quarter_of_a_millisecond_and_double() -> None:
    metrics = Metrics()
    metrics.histogram("queue_delay_seconds", "fraud", "3")
    bounds = sorted(
        float(dict(labels)["le"]) for name, labels in samples(metrics) if name == "gateway_queue_delay_seconds_bucket"
    )
    assert bounds == [*DURATION_BOUNDS, math.inf]
    assert all(later == 2 * earlier for earlier, later in pairwise(bounds[:-1]))


# --- forgetting -------------------------------------------------------------------------------------------


def test_forgetting_a_version_drops_its_series_and_no_other() -> None:
    metrics = Metrics()
    for model, version in (("fraud", "3"), ("fraud", "4"), ("digits", "3")):
        metrics.histogram("queue_delay_seconds", model, version).observe(1)
        metrics.counter("batches_total", model, version, "full").add()
        metrics.counter("requests_total", "fraud", "", model, version, "200").add()
    metrics.counter("rejected_total", "fraud", "overloaded").add()
    metrics.histogram("request_duration_seconds", "fraud", "").observe(1)
    before = samples(metrics)
    metrics.forget("fraud", "3")
    after = samples(metrics)
    gone = {key for key in before if {("model", "fraud"), ("version", "3")} <= set(key[1])}
    assert len(gone) > 2
    assert {key for key in before if key not in after} == gone
    assert {key for key in after if key not in before} == set()


def test_a_version_that_comes_back_counts_from_nought() -> None:
    metrics = Metrics()
    metrics.counter("batches_total", "fraud", "3", "full").add(9)
    metrics.forget("fraud", "3")
    metrics.counter("batches_total", "fraud", "3", "full").add()
    assert samples(metrics)[labelled("batches_total", model="fraud", version="3", reason="full")] == 1


def test_forgetting_a_version_that_was_never_seen_changes_nothing() -> None:
    metrics = Metrics()
    metrics.counter("rejected_total", "fraud", "overloaded").add()
    metrics.forget("fraud", "9")
    assert samples(metrics)[labelled("rejected_total", model="fraud", reason="overloaded")] == 1


def test_a_snapshot_is_written_as_it_was_taken() -> None:
    """A thread writes it while the event loop goes on counting."""
    metrics = Metrics()
    rejected = metrics.counter("rejected_total", "fraud", "invalid")
    delay = metrics.histogram("queue_delay_seconds", "fraud", "3")
    rejected.add()
    delay.observe(1.0)
    snapshot = metrics.snapshot()
    rejected.add()
    delay.observe(1.0)
    text = snapshot.text().decode()
    assert 'gateway_rejected_total{model="fraud",reason="invalid"} 1.0' in text
    assert 'gateway_queue_delay_seconds_count{model="fraud",version="3"} 1.0' in text
