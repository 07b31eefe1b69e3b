from __future__ import annotations

import msgspec
import numpy as np
import pytest

from gateway.errors import InsufficientBaseline, WindowMismatch
from gateway.monitoring.bins import FloatArray
from gateway.monitoring.decision import State
from gateway.monitoring.evaluator import is_news, judge_window, learn_baseline, next_window
from gateway.monitoring.result import (
    Announcement,
    Baseline,
    WindowResult,
    decode_baseline,
    decode_result,
    encode,
)
from gateway.monitoring.schedule import WindowSchedule
from gateway.store.windows import ResultHead, Survey
from tests.monitoring.replicas import counted, reference_rows, yardstick

SCHEDULE = WindowSchedule(bucket_s=10, window_buckets=6, buffer_buckets=18)
ROWS = reference_rows(31)
STICK = yardstick(ROWS)


def head(rows: int = 100, attempt: int = 1, after: tuple[int, int] = (0, 0)) -> ResultHead:
    return ResultHead(rows=rows, attempt=attempt, after=after)


def survey(landed: dict[int, int], results: dict[int, ResultHead] | None = None) -> Survey:
    return Survey(landed=landed, results=results or {}, baseline=None)


@pytest.mark.parametrize(
    ("landed", "results", "chosen"),
    [
        pytest.param({}, {}, None, id="nothing has landed"),
        pytest.param({600: 5}, {}, 600, id="never decided"),
        pytest.param({720: 5}, {}, None, id="not due yet"),
        pytest.param({660: 5, 600: 5}, {}, 600, id="the oldest first"),
        pytest.param({600: 100}, {600: head()}, None, id="decided"),
        pytest.param({600: 101}, {600: head()}, 600, id="late rows"),
        pytest.param({0: 101}, {0: head()}, None, id="late rows beyond the horizon"),
        pytest.param({600: 100, 660: 100}, {600: head(), 660: head(after=(600, 1))}, None, id="all decided"),
        pytest.param(
            {600: 100, 660: 100}, {600: head(attempt=2), 660: head(after=(600, 1))}, 660, id="replaced before it"
        ),
        pytest.param({600: 100, 660: 100}, {600: head(), 660: head()}, 660, id="decided late before it"),
        pytest.param({600: 0}, {}, None, id="no rows"),
    ],
)
def test_the_oldest_due_window_without_a_holding_result_is_next(
    landed: dict[int, int], results: dict[int, ResultHead], chosen: int | None
) -> None:
    assert next_window(survey(landed, results), SCHEDULE, 725.0) == chosen


def judged(rows: FloatArray, previous: WindowResult | None = None) -> WindowResult:
    after = (previous.start_s, previous.attempt) if previous else (0, 0)
    start = previous.start_s + 5 if previous else 1_000
    return judge_window(counted(STICK, [rows]), start, STICK, after=after, previous=previous, now_s=7.0)


def drawn(seed: int, shift: float = 0.0) -> FloatArray:
    batch = ROWS[np.random.default_rng(seed).integers(0, len(ROWS), 300)]
    batch[:, 1] += shift
    return batch


def test_each_window_follows_from_the_one_before_it() -> None:
    states: list[State] = []
    previous = None
    for seed, shift in enumerate([0, 1, 0, 1, 0, 0, 0]):
        previous = judged(drawn(seed, float(shift)), previous)
        states.append(previous.state)
    assert states == ["ok", "watch", "watch", "drift", "drift", "drift", "ok"]


def test_what_is_stored_decides_the_next_window_as_what_was_kept() -> None:
    kept = stored = judged(drawn(1, 1.0))
    for seed in range(2, 7):
        batch = drawn(seed, float(seed % 2))
        kept, stored = judged(batch, kept), judged(batch, decode_result(encode(stored)))
        assert msgspec.json.encode(kept) == msgspec.json.encode(stored)


def test_a_result_is_small() -> None:
    """A day of half-hour windows of 20 features stays far below the counts themselves."""
    rows = reference_rows(32, features=20)
    stick = yardstick(rows)
    body = encode(judge_window(counted(stick, [rows[:300]]), 0, stick))
    assert len(body) < 4_000


def test_counts_of_another_layout_are_refused() -> None:
    with pytest.raises(WindowMismatch):
        judge_window(np.zeros(3, np.int64), 0, STICK)


def test_a_version_is_news_when_its_state_or_its_drifting_features_change() -> None:
    quiet = judged(drawn(1))
    assert not is_news(quiet, None)
    watch = judged(drawn(2, 1.0), quiet)
    assert is_news(watch, quiet)
    drift = judged(drawn(3, 1.0), watch)
    assert is_news(drift, watch)
    assert drift.announced == Announcement(state="drift", drifting=(1,))
    still = judged(drawn(4, 1.0), drift)
    assert not is_news(still, drift)
    two = drawn(5, 1.0)
    two[:, 2] += 1.0
    spread = judged(two, judged(two, still))
    assert spread.announced.drifting == (1, 2)


def test_a_window_with_too_few_rows_is_no_news() -> None:
    watch = judged(drawn(2, 1.0))
    few = judged(drawn(3)[:20], watch)
    assert few.state == "insufficient"
    assert few.announced == watch.announced
    assert not is_news(few, watch)
    assert judged(drawn(3)[:20]).announced == Announcement()


def test_a_replaced_result_is_no_news_and_remembers_what_was_told() -> None:
    first = judged(drawn(1))
    again = judge_window(counted(STICK, [drawn(2, 1.0)]), 1_000, STICK, replaced=first, attempt=2)
    assert (again.state, again.announced) == ("watch", first.announced)
    assert not is_news(again, None)


def quiet_results(windows: int) -> list[WindowResult]:
    rng = np.random.default_rng(9)
    return [
        judge_window(counted(STICK, [ROWS[rng.integers(0, len(ROWS), 250)]]), 5 * number, STICK)
        for number in range(windows)
    ]


def test_a_baseline_is_learnt_from_the_windows_inside_the_period() -> None:
    results = quiet_results(210)
    results.append(judge_window(counted(STICK, [drawn(1)[:50]]), 100, STICK))
    with pytest.raises(InsufficientBaseline, match="199 windows"):
        learn_baseline(results, from_s=0, to_s=999, min_rows=200, now_s=0.0)
    baseline = learn_baseline(results, from_s=0, to_s=1_000, min_rows=200, now_s=5.0)
    assert (baseline.windows, baseline.from_s, baseline.to_s, baseline.declared_at_s) == (200, 0, 1_000, 5.0)
    again = decode_baseline(encode(baseline))
    assert again == baseline
    assert len(again.calibration.maxima) == 200
    assert (again.calibration.ad_scale >= 1).all()


def test_a_calibrated_window_says_so() -> None:
    baseline: Baseline = learn_baseline(quiet_results(200), from_s=0, to_s=1_000, min_rows=200, now_s=0.0)
    result = judge_window(counted(STICK, [drawn(1, 1.0)]), 0, STICK, calibration=baseline.calibration)
    assert (result.mode, result.state) == ("calibrated", "watch")
    assert judged(drawn(1)).mode == "iid"


def test_what_another_release_wrote_is_not_read() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_result(b"\x81\xa1x\x01")
    with pytest.raises(msgspec.MsgspecError):
        decode_baseline(b"nonsense")
