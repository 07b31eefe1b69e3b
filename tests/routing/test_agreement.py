"""Owns the promises of what is remembered of a shadow: exact counts, bounded memory, the worst requests first."""

import json
import math

import numpy as np
import pytest

from gateway.routing.agreement import DIFFERENCE_EDGES, KEPT_WORST, LATENCY_RATIO_EDGES, Agreement, histogram
from gateway.routing.comparison import Comparison, failed_comparison


def differing(*absolute: float, flips: int = 0, result: str = "mismatch") -> Comparison:
    return Comparison(
        result="match" if result == "match" else "mismatch",
        reason="" if result == "match" else "output 'y' differs",
        rows=len(absolute),
        class_flips=flips,
        absolute=np.array(absolute),
        relative=np.array(absolute) / 10,
    )


def test_every_result_is_counted_once_and_every_row() -> None:
    agreement = Agreement()
    agreement.add(differing(0.0, 0.0, result="match"), request_id="a", at=1.0, latency_ratio=1.5)
    agreement.add(differing(0.5, 0.0, flips=1), request_id="b", at=2.0, latency_ratio=100.0)
    agreement.add(failed_comparison("down"), request_id="c", at=3.0)
    assert (agreement.matches, agreement.mismatches, agreement.errors) == (1, 1, 1)
    assert (agreement.rows, agreement.class_flips) == (4, 1)
    assert agreement.absolute.sum() == agreement.relative.sum() == 4
    assert agreement.latency_ratio.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1]


def test_a_histogram_counts_each_value_at_its_upper_edge() -> None:
    edges = (1.0, 2.0, 4.0)
    values = np.array([0.0, 1.0, 1.0001, 2.0, 4.0, 5.0, math.inf, math.nan])
    assert histogram(values, edges).tolist() == [2, 2, 1, 3]
    assert histogram(np.empty(0), edges).tolist() == [0, 0, 0, 0]


def test_edges_ascend() -> None:
    for edges in (DIFFERENCE_EDGES, LATENCY_RATIO_EDGES):
        assert list(edges) == sorted(set(edges))


def test_the_worst_are_flips_then_what_has_no_distance_then_the_largest_distance() -> None:
    agreement = Agreement()
    agreement.add(differing(0.5), request_id="half", at=1.0)
    agreement.add(differing(3.0), request_id="three", at=2.0)
    agreement.add(differing(math.nan, 9.0), request_id="nan", at=3.0)
    agreement.add(differing(0.1, flips=1), request_id="flip", at=4.0)
    agreement.add(failed_comparison("down"), request_id="down", at=5.0)
    agreement.add(differing(0.0, result="match"), request_id="equal", at=6.0)
    assert [worst.request_id for worst in agreement.worst] == ["flip", "down", "nan", "three", "half"]
    assert [worst.difference for worst in agreement.worst] == [0.1, None, None, 3.0, 0.5]


def test_memory_of_the_worst_is_bounded_and_newest_first_among_equals() -> None:
    agreement = Agreement()
    for number in range(1000):
        agreement.add(differing(1.0), request_id=str(number), at=float(number))
    assert [worst.request_id for worst in agreement.worst] == [str(999 - number) for number in range(KEPT_WORST)]


@pytest.mark.parametrize("ratio", [math.nan, math.inf, None])
def test_a_ratio_without_meaning_is_not_counted(ratio: float | None) -> None:
    agreement = Agreement()
    agreement.add(differing(1.0), request_id="a", at=1.0, latency_ratio=ratio)
    assert agreement.latency_ratio.sum() == 0


def test_the_summary_is_json() -> None:
    agreement = Agreement()
    agreement.add(differing(math.nan), request_id="a", at=1.0)
    summary = json.loads(json.dumps(agreement.summary(), allow_nan=False))
    assert summary["worst"] == [
        {"request_id": "a", "at": 1.0, "reason": "output 'y' differs", "class_flips": 0, "difference": None}
    ]
    assert len(summary["absolute"]["rows"]) == len(summary["absolute"]["edges"]) + 1
