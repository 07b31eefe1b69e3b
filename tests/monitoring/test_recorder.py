import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import Array
from gateway.monitoring.bins import Counts
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.recorder import BLOCK_ROWS, MAX_PENDING_BLOCKS, BucketDelta, Recorder, merge_deltas
from gateway.monitoring.reference_builder import build_reference

RNG = np.random.default_rng(31)
INPUTS = RNG.normal(size=(4_000, 3)).astype(np.float32)
SCORES = RNG.random((4_000, 1))
LAYOUT = CountLayout(build_reference({"x": INPUTS}, {"score": SCORES}).features)
BUFFER_ROWS = MAX_PENDING_BLOCKS * BLOCK_ROWS


def recorder(*, max_buckets: int = 120, sampling: float = 1.0, row_values: int = 4) -> Recorder:
    return Recorder(LAYOUT, row_values=row_values, max_buckets=max_buckets, sampling=sampling, seed=1)


def record(subject: Recorder, start: int, stop: int, bucket_start_s: int = 0) -> bool:
    return subject.record({"x": INPUTS[start:stop]}, {"score": SCORES[start:stop]}, stop - start, bucket_start_s)


def expected(rows: slice) -> Counts:
    return BlockCounter(LAYOUT).count([{"x": INPUTS[rows]}], [{"score": SCORES[rows]}], INPUTS[rows].shape[0])


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.booleans()), max_size=60))
def test_every_recorded_row_is_counted_once_in_its_bucket(requests: list[tuple[int, int, bool]]) -> None:
    subject = recorder()
    by_bucket: dict[int, list[int]] = {}
    taken: list[BucketDelta] = []
    row = 0
    for rows, bucket, flush in requests:
        record(subject, row, row + rows, bucket * 10)
        by_bucket.setdefault(bucket * 10, []).extend(range(row, row + rows))
        row += rows
        if flush:
            taken += subject.take_deltas()
    taken += subject.take_deltas()
    assert subject.recorded_rows == row
    assert sum(delta.rows for delta in taken) == row
    merged = merge_deltas(taken)
    assert merged.keys() == by_bucket.keys()
    for bucket, rows_of_bucket in by_bucket.items():
        one = BlockCounter(LAYOUT).count(
            [{"x": INPUTS[rows_of_bucket]}], [{"score": SCORES[rows_of_bucket]}], len(rows_of_bucket)
        )
        np.testing.assert_array_equal(merged[bucket], one)


def test_deltas_merge_in_any_order_and_leave_their_own_counts_alone() -> None:
    subject = recorder()
    deltas: list[BucketDelta] = []
    for start in range(0, 300, 50):
        record(subject, start, start + 50, start // 100 * 10)
        deltas += subject.take_deltas()
    before = [delta.counts.copy() for delta in deltas]
    forwards, backwards = merge_deltas(deltas), merge_deltas(reversed(deltas))
    for bucket, counts in forwards.items():
        np.testing.assert_array_equal(counts, backwards[bucket])
    np.testing.assert_array_equal(forwards[0], expected(slice(0, 100)))
    for delta, counts in zip(deltas, before, strict=True):
        np.testing.assert_array_equal(delta.counts, counts)


def test_record_says_when_a_block_is_full_and_counting_it_says_when_another_waits() -> None:
    subject = recorder()
    due = [record(subject, row, row + 1) for row in range(BLOCK_ROWS)]
    assert due == [False] * (BLOCK_ROWS - 1) + [True]
    for row in range(BLOCK_ROWS, 2 * BLOCK_ROWS):
        record(subject, row, row + 1)
    assert subject.count_block() is True
    assert subject.count_block() is False
    assert subject.pending_rows == 0
    assert subject.count_block() is False


def test_a_request_larger_than_a_block_is_counted_in_pieces() -> None:
    subject = recorder()
    assert record(subject, 0, 3_500) is True
    assert [subject.count_block() for _ in range(4)] == [True, True, False, False]
    (delta,) = subject.take_deltas()
    np.testing.assert_array_equal(delta.counts, expected(slice(0, 3_500)))


def test_wide_rows_make_smaller_blocks() -> None:
    """What waits in memory is bounded in values, not in rows."""
    subject = recorder(row_values=26_214)
    assert [record(subject, row, row + 1) for row in range(10)] == [False] * 9 + [True]


def test_rows_beyond_the_bound_are_dropped_and_counted() -> None:
    subject = recorder()
    for start in range(0, BUFFER_ROWS, 1_000):
        assert record(subject, start % 4_000, start % 4_000 + 1_000) is True
    assert record(subject, 0, 7) is True
    assert subject.pending_rows == subject.recorded_rows == BUFFER_ROWS
    assert dict(subject.dropped_rows) == {"pending_full": 7}
    (delta,) = subject.take_deltas()
    assert delta.rows == BUFFER_ROWS
    record(subject, 0, 7)
    assert subject.recorded_rows == BUFFER_ROWS + 7


def test_a_request_larger_than_the_bound_is_taken_while_little_waits() -> None:
    subject = recorder()
    record(subject, 0, 1)
    big = {"x": np.repeat(INPUTS, 5, axis=0)}, {"score": np.repeat(SCORES, 5, axis=0)}
    assert subject.record(*big, 20_000, 0) is True
    (delta,) = subject.take_deltas()
    assert delta.rows == 20_001
    np.testing.assert_array_equal(delta.counts, 5 * expected(slice(0, 4_000)) + expected(slice(0, 1)))
    assert not subject.dropped_rows


def test_the_oldest_bucket_goes_when_nobody_takes_them() -> None:
    subject = recorder(max_buckets=2)
    for bucket, rows in ((10, 5), (20, 6), (30, 7)):
        record(subject, 0, rows, bucket)
        subject.count_block()
    deltas = subject.take_deltas()
    assert [(delta.bucket_start_s, delta.rows) for delta in deltas] == [(20, 6), (30, 7)]
    assert dict(subject.dropped_rows) == {"buffer_full": 5}
    assert subject.recorded_rows == 13


def test_a_late_row_lands_in_its_own_bucket() -> None:
    subject = recorder()
    record(subject, 0, 5, 20)
    record(subject, 5, 8, 10)
    record(subject, 8, 9, 20)
    assert [(delta.bucket_start_s, delta.rows) for delta in subject.take_deltas()] == [(10, 3), (20, 6)]


@pytest.mark.parametrize(
    "broken",
    [
        np.zeros((3, 2), dtype=np.float32),
        np.zeros((2, 3), dtype=np.float32),
        np.zeros((), dtype=np.float32),
        np.array([["a", "b", "c"]] * 3, dtype=object),
    ],
    ids=["too narrow", "too few rows", "no rows axis", "text"],
)
def test_an_array_that_does_not_fit_loses_its_own_rows_only(broken: Array) -> None:
    subject = recorder()
    record(subject, 0, 40)
    subject.record({"x": broken}, {"score": SCORES[:3]}, 3, 0)
    record(subject, 40, 60)
    (delta,) = subject.take_deltas()
    np.testing.assert_array_equal(delta.counts, expected(slice(0, 60)))
    assert dict(subject.dropped_rows) == {"uncountable": 3}
    assert subject.recorded_rows == 60


def test_a_large_request_that_does_not_fit_is_lost_without_an_error() -> None:
    subject = recorder()
    assert subject.record({"x": np.zeros(())}, {}, 2_500, 0) is False
    assert subject.take_deltas() == []
    assert dict(subject.dropped_rows) == {"uncountable": 2_500}


def test_a_request_without_its_outputs_is_still_counted() -> None:
    subject = recorder()
    subject.record({"x": INPUTS[:10]}, {}, 10, 0)
    (delta,) = subject.take_deltas()
    assert delta.rows == 10
    assert LAYOUT.feature_rows(delta.counts).tolist() == [10, 10, 10, 0]


def test_sampling_counts_what_it_left_out() -> None:
    subject = recorder(sampling=0.25)
    for row in range(4_000):
        record(subject, row, row + 1)
    (delta,) = subject.take_deltas()
    assert delta.rows == subject.recorded_rows == pytest.approx(1_000, abs=100)
    assert subject.unsampled_rows == 4_000 - delta.rows
    assert not subject.dropped_rows


def test_nothing_recorded_gives_no_deltas() -> None:
    assert recorder().take_deltas() == []
