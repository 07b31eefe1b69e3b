"""Holds the protocol's counters to their promises: what one batch adds, and how much memory they may take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inference.statistics import Statistics, Tally


def count(statistics: Statistics, *, requests: int = 1, rows: int = 1, runs: int = 1) -> None:
    statistics.count_batch(
        requests=requests, rows=rows, runs=runs, queue_s=0.5, assemble_s=0.001, run_s=0.01, split_s=0.002
    )


def test_a_batch_counts_for_each_of_its_requests() -> None:
    statistics = Statistics()
    count(statistics, requests=3, rows=7, runs=2)
    assert (statistics.rows, statistics.runs) == (7, 2)
    for tally, seconds in (
        (statistics.queue, 0.5),
        (statistics.assemble, 0.003),
        (statistics.run, 0.03),
        (statistics.split, 0.006),
        (statistics.success, 0.539),
    ):
        assert tally.count == 3
        assert tally.seconds == pytest.approx(seconds)
    assert statistics.fail == Tally()


def test_the_runs_of_a_batch_size_are_counted_once_a_batch() -> None:
    statistics = Statistics()
    count(statistics, requests=3, rows=7)
    count(statistics, requests=1, rows=7)
    count(statistics, requests=1, rows=1)
    assert {rows: tally.run.count for rows, tally in statistics.batches.items()} == {7: 2, 1: 1}
    assert statistics.batches[7].run.seconds == pytest.approx(0.02)
    assert statistics.batches[7].assemble.seconds == pytest.approx(0.002)
    assert statistics.batches[7].split.seconds == pytest.approx(0.004)


def test_batch_sizes_without_end_take_no_memory_without_end() -> None:
    statistics = Statistics()
    for rows in range(1, 1000):
        count(statistics, rows=rows)
    assert len(statistics.batches) == 256
    count(statistics, rows=1)
    assert statistics.batches[1].run.count == 2
    assert statistics.run.count == 1000


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=20))
def test_totals_are_the_sums_over_the_batches(batches: list[tuple[int, int]]) -> None:
    statistics = Statistics()
    for requests, rows in batches:
        count(statistics, requests=requests, rows=rows)
    assert statistics.rows == sum(rows for _, rows in batches)
    assert statistics.success.count == sum(requests for requests, _ in batches)
    assert sum(tally.run.count for tally in statistics.batches.values()) == len(batches) == statistics.runs
