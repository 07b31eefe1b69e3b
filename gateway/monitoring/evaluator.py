"""The evaluator: which window is to be decided next, and what its counts say.

Plain and synchronous: `watch.py` reads the clock and the store, and does what is decided here.
"""

from __future__ import annotations

import numpy as np

from gateway.monitoring.bins import Counts
from gateway.monitoring.calibration import Calibration, calibrate_statistics
from gateway.monitoring.decision import decide_window, model_state, next_feature_state
from gateway.monitoring.layout import ROWS_CELL
from gateway.monitoring.result import STATISTICS, Announcement, Baseline, FeatureResult, WindowResult
from gateway.monitoring.schedule import WindowSchedule
from gateway.monitoring.yardstick import Yardstick
from gateway.store.windows import Survey


def next_window(survey: Survey, schedule: WindowSchedule, now_s: float) -> int | None:
    """Choose the oldest window that is due and has no result, or one that no longer holds.

    A result no longer holds when more rows have landed since, or when the result it follows has been replaced.

    Args:
        survey: The windows as the store has them.
        now_s: Seconds since the epoch.
    Returns: The window's start, None when everything is decided.
    """
    for start in sorted(survey.landed):
        if not (schedule.is_due(start, now_s) and schedule.may_change(start, now_s) and survey.landed[start] > 0):
            continue
        head = survey.results.get(start)
        if head is None or survey.landed[start] > head.rows or head.after != place_before(survey, start):
            return start
    return None


def place_before(survey: Survey, start_s: int) -> tuple[int, int]:
    """Give start and attempt of the latest result before a window, zeros when there is none."""
    before = max((start for start in survey.results if start < start_s), default=None)
    return (0, 0) if before is None else (before, survey.results[before].attempt)


def judge_window(
    counts: Counts,
    start_s: int,
    yardstick: Yardstick,
    *,
    after: tuple[int, int] = (0, 0),
    previous: WindowResult | None = None,
    replaced: WindowResult | None = None,
    attempt: int = 1,
    calibration: Calibration | None = None,
    now_s: float = 0.0,
) -> WindowResult:
    """Measure one window and say what it means together with the ones before.

    Args:
        counts: The window's merged counts, int64, shape (cells,) of the yardstick's layout.
        start_s: Its start, seconds since the epoch.
        after: Start and attempt of the result before it.
        previous: That result, if it is known.
        replaced: The window's result until now.
        attempt: Of this decision.
        calibration: Windows declared in control, if any.
        now_s: Seconds since the epoch.
    Raises: WindowMismatch: the counts are not of this layout.
    """
    measurement, quality = yardstick.meter.measure(counts), yardstick.quality.measure(counts)
    verdicts = decide_window(measurement, quality, min_rows=yardstick.options.min_rows, calibration=calibration)
    statistics = np.stack([getattr(measurement, name) for name in STATISTICS], axis=1).tolist()
    features = []
    for index, verdict in enumerate(verdicts):
        memory, seen = next_feature_state(previous.features[index].memory if previous else {}, verdict)
        features.append(
            FeatureResult(
                rows=int(measurement.rows[index]),
                p_value=float(measurement.p_value[index]),
                statistics=tuple(statistics[index]),
                chi2_degrees=int(measurement.chi2_degrees[index]),
                w1_is_lower_bound=bool(measurement.w1_lower_bound[index]),
                quality=tuple(quality.ratios[:, index].tolist()),
                verdict=verdict,
                state=seen.state,
                causes=seen.causes,
                memory=memory,
            )
        )
    return WindowResult(
        start_s=start_s,
        end_s=start_s + yardstick.schedule.window_s,
        rows=int(counts[ROWS_CELL]),
        attempt=attempt,
        after=after,
        mode="iid" if calibration is None else "calibrated",
        state=model_state(feature.state for feature in features),
        announced=_announcement(features, previous, replaced),
        decided_at_s=now_s,
        features=tuple(features),
    )


def is_news(result: WindowResult, previous: WindowResult | None) -> bool:
    """Say whether the outside is to be told of this result: once for each window, when something changed."""
    return result.attempt == 1 and result.announced != (previous.announced if previous else Announcement())


def learn_baseline(results: list[WindowResult], *, from_s: int, to_s: int, min_rows: int, now_s: float) -> Baseline:
    """Calibrate on the windows that lie in a period declared in control.

    Args:
        results: Everything that is remembered, in any order.
        from_s, to_s: The period; windows that start and end in it count, those with fewer than min_rows do not.
        now_s: Seconds since the epoch.
    Raises: InsufficientBaseline: fewer than 200 windows.
    """
    inside = [
        result for result in results if from_s <= result.start_s and result.end_s <= to_s and result.rows >= min_rows
    ]
    ad = np.array([[_statistic(feature, "ad", min_rows) for feature in result.features] for result in inside])
    chi2 = np.array([[_per_degree(feature, min_rows) for feature in result.features] for result in inside])
    ratios = np.array([np.transpose([feature.quality for feature in result.features]) for result in inside])
    return Baseline.of(calibrate_statistics(ad, chi2, ratios), from_s=from_s, to_s=to_s, declared_at_s=now_s)


def _announcement(
    features: list[FeatureResult], previous: WindowResult | None, replaced: WindowResult | None
) -> Announcement:
    if replaced is not None:
        return replaced.announced
    state = model_state(feature.state for feature in features)
    if state == "insufficient":
        return previous.announced if previous else Announcement()
    drifting = tuple(index for index, feature in enumerate(features) if feature.state == "drift")
    return Announcement(state=state, drifting=drifting)


def _statistic(feature: FeatureResult, name: str, min_rows: int) -> float:
    return feature.statistics[STATISTICS.index(name)] if feature.rows >= min_rows else np.nan


def _per_degree(feature: FeatureResult, min_rows: int) -> float:
    return _statistic(feature, "chi2", min_rows) / feature.chi2_degrees if feature.chi2_degrees else np.nan
