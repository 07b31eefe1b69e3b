from collections.abc import Callable, Sequence

import numpy as np
import pytest

from gateway.messages import Array
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.decision import (
    FeatureState,
    FeatureVerdict,
    State,
    Verdict,
    decide_window,
    feature_state,
    model_state,
    state_after,
    worst_state,
)
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.measurement import WindowMeter
from gateway.monitoring.quality import QualityMeter
from gateway.monitoring.reference_builder import build_reference
from tests.monitoring.windows import KINDS, bench

LETTERS: dict[str, Verdict] = {"i": "insufficient", "c": "clean", "s": "small", "d": "drifted"}

WINDOWS: dict[str, tuple[str, Callable[[np.random.Generator], Array], Verdict]] = {
    "a row too few": ("normal", lambda rng: rng.normal(size=199), "insufficient"),
    "a row too few, all far off": ("normal", lambda rng: rng.normal(3, 1, 199), "insufficient"),
    "unmoved": ("normal", lambda rng: rng.normal(size=400), "clean"),
    "moved by half a sigma": ("normal", lambda rng: rng.normal(0.5, 1, 400), "drifted"),
    "wider": ("normal", lambda rng: rng.normal(0, 1.6, 400), "drifted"),
    "moved a little, many rows": ("normal", lambda rng: rng.normal(0.1, 1, 9_000), "small"),
    "more zeros": (
        "zero-inflated",
        lambda rng: np.where(rng.random(400) < 0.8, 0.0, rng.exponential(size=400)),
        "drifted",
    ),
    "larger integers": ("integer", lambda rng: rng.poisson(420, 400), "drifted"),
    "larger categories": ("few integers", lambda rng: rng.poisson(4, 400).clip(max=12), "drifted"),
    "more true": ("boolean", lambda rng: rng.random(400) < 0.5, "drifted"),
    "a little more true, many rows": ("boolean", lambda rng: rng.random(9_000) < 0.33, "small"),
    "unmoved categories": ("zipf", lambda rng: KINDS["zipf"](rng, 400), "clean"),
    "a new category": ("zipf", lambda rng: np.where(rng.random(400) < 0.2, "new", KINDS["zipf"](rng, 400)), "drifted"),
}


def judged(reference: Array, window: Array, *, min_rows: int = 200) -> FeatureVerdict:
    subject = bench(reference)
    counts = subject.count(window)
    (verdict,) = decide_window(
        WindowMeter(subject.layout, subject.layout.reference_counts(subject.reference.rows)).measure(counts),
        QualityMeter(subject.layout, subject.layout.reference_counts(subject.reference.rows)).measure(counts),
        min_rows=min_rows,
    )
    return verdict


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ("", "insufficient"),
        ("i", "insufficient"),
        ("ii", "insufficient"),
        ("c", "ok"),
        ("s", "watch"),
        ("sc", "ok"),
        ("d", "watch"),
        ("dc", "watch"),
        ("dcc", "watch"),
        ("dccc", "ok"),
        ("dd", "drift"),
        ("dcd", "drift"),
        ("dccd", "watch"),
        ("dsd", "drift"),
        ("ddc", "drift"),
        ("ddcc", "drift"),
        ("ddccc", "ok"),
        ("ddccs", "watch"),
        ("ddccdcc", "drift"),
        ("ddccdccc", "ok"),
        ("ci", "insufficient"),
        ("cic", "ok"),
        ("did", "drift"),
        ("diiid", "drift"),
        ("ddi", "drift"),
        ("ddiiii", "drift"),
        ("ddicicc", "ok"),
        ("di", "insufficient"),
    ],
)
def test_two_of_the_last_three_decided_windows_make_drift_and_three_without_clear_it(
    verdicts: str, state: State
) -> None:
    assert state_after([LETTERS[letter] for letter in verdicts]) == state


@pytest.mark.parametrize(
    ("verdicts", "state"), [("", "drift"), ("c", "drift"), ("cc", "drift"), ("ccc", "ok"), ("i", "drift")]
)
def test_a_standing_alarm_needs_three_windows_to_clear_when_its_history_is_gone(verdicts: str, state: State) -> None:
    assert state_after([LETTERS[letter] for letter in verdicts], standing="drift") == state


def test_each_cause_needs_its_own_two_windows() -> None:
    """A null burst and a shift a window apart are two single findings, not one alarm."""
    shifted = FeatureVerdict(distribution="drifted", quality="clean")
    missing = FeatureVerdict(distribution="clean", quality="drifted", faults=("null",))
    assert feature_state([shifted, missing]) == FeatureState(state="watch", causes=("distribution", "null"))
    assert feature_state([missing, shifted, missing]) == FeatureState(state="drift", causes=("null",))


def test_a_column_of_nulls_drifts_though_its_distribution_cannot_be_judged() -> None:
    verdict = judged(np.random.default_rng(1).normal(size=4_000), np.full(400, np.nan))
    assert verdict == FeatureVerdict(distribution="insufficient", quality="drifted", faults=("null",))
    assert feature_state([verdict, verdict]) == FeatureState(state="drift", causes=("null",))


def test_a_window_with_too_few_rows_is_passed_over_by_the_checks_too() -> None:
    missing = FeatureVerdict(distribution="clean", quality="drifted", faults=("null",))
    few = FeatureVerdict(distribution="insufficient", quality="insufficient")
    assert judged(np.random.default_rng(1).normal(size=4_000), np.full(40, np.nan)) == few
    assert feature_state([few]) == FeatureState(state="insufficient")
    assert feature_state([missing, few, few, missing]) == FeatureState(state="drift", causes=("null",))


def test_a_standing_cause_is_remembered_by_name() -> None:
    clean = FeatureVerdict(distribution="clean", quality="clean")
    standing = FeatureState(state="drift", causes=("unseen",))
    assert feature_state([clean], standing=standing) == standing
    assert feature_state([clean] * 3, standing=standing) == FeatureState(state="ok")


def test_a_feature_whose_usable_rows_are_few_is_insufficient() -> None:
    few = FeatureVerdict(distribution="insufficient", quality="clean")
    assert feature_state([few]) == FeatureState(state="insufficient")


@pytest.mark.parametrize(
    ("states", "model", "worst"),
    [
        ([], "insufficient", "ok"),
        (["ok", "ok"], "ok", "ok"),
        (["insufficient", "insufficient"], "insufficient", "insufficient"),
        (["ok", "insufficient"], "ok", "insufficient"),
        (["ok", "watch", "insufficient"], "watch", "watch"),
        (["drift", "watch"], "drift", "drift"),
    ],
)
def test_a_model_is_as_bad_as_its_worst_decided_feature(states: Sequence[State], model: State, worst: State) -> None:
    assert model_state(states) == model
    assert worst_state(states) == worst


@pytest.mark.parametrize(("reference", "draw", "verdict"), WINDOWS.values(), ids=WINDOWS.keys())
def test_a_window_is_drifted_when_its_difference_is_significant_and_large(
    reference: str, draw: Callable[[np.random.Generator], Array], verdict: Verdict
) -> None:
    rng = np.random.default_rng(33)
    assert judged(KINDS[reference](rng, 20_000), draw(rng)).distribution == verdict


def test_significance_is_controlled_over_all_features_of_the_version() -> None:
    """A difference that one feature alone would show is chance among 200 features."""
    rng = np.random.default_rng(12)
    values = rng.normal(size=(5_000, 200))
    window = rng.normal(size=(500, 200))
    window[:, 0] += 0.2
    alone = judged(values[:, 0], window[:, 0])
    layout = CountLayout(build_reference({"x": values}, {}).features)
    counts = BlockCounter(layout).count([{"x": window}], [], 500)
    together = decide_window(
        WindowMeter(layout, layout.reference_counts(5_000)).measure(counts),
        QualityMeter(layout, layout.reference_counts(5_000)).measure(counts),
    )
    assert alone.distribution != "clean"
    assert {verdict.distribution for verdict in together} == {"clean"}


def test_an_empty_window_is_insufficient() -> None:
    values = np.random.default_rng(1).normal(size=4_000)
    assert judged(values, values[:0]) == FeatureVerdict(distribution="insufficient", quality="insufficient")


def test_a_version_without_features_has_no_verdicts() -> None:
    layout = CountLayout([])
    counts = np.array([500])
    assert (
        decide_window(
            WindowMeter(layout, layout.reference_counts(1)).measure(counts),
            QualityMeter(layout, layout.reference_counts(1)).measure(counts),
        )
        == []
    )
