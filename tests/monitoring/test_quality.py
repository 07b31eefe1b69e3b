import numpy as np
import pytest
from scipy import stats

from gateway.messages import Array
from gateway.monitoring.quality import CHECKS, Quality, QualityMeter, fisher_p_value
from tests.monitoring.windows import KINDS, bench

RNG = np.random.default_rng(21)
NORMAL = RNG.normal(size=5_000)
SPARSE = np.where(RNG.random(5_000) < 0.2, np.nan, NORMAL)
TEXTS = KINDS["zipf"](RNG, 5_000)


def checked(reference: Array, window: Array) -> Quality:
    subject = bench(reference)
    return QualityMeter(subject.layout, subject.layout.reference_counts(subject.reference.rows)).measure(
        subject.count(window)
    )


def faults(quality: Quality) -> list[str]:
    return [check for check, faulty in zip(CHECKS, quality.faults[:, 0], strict=True) if faulty]


def replaced(values: Array, count: int, value: object) -> Array:
    window = values[:500].copy()
    window[:count] = value
    return window


@pytest.mark.parametrize(
    ("reference", "window", "expected"),
    [
        (NORMAL, NORMAL[:500], []),
        (NORMAL, replaced(NORMAL, 4, np.nan), []),
        (NORMAL, replaced(NORMAL, 10, np.nan), ["null"]),
        (NORMAL, replaced(NORMAL, 10, np.inf), ["non_finite"]),
        (NORMAL, replaced(NORMAL, 10, -np.inf), ["non_finite"]),
        (NORMAL, replaced(NORMAL, 15, 1e3), ["out_of_range"]),
        (NORMAL, np.full(500, np.nan), ["null"]),
        (SPARSE, SPARSE[:500], []),
        (SPARSE, replaced(SPARSE, 200, np.nan), ["null"]),
        (SPARSE, NORMAL[:500], []),
        (TEXTS, TEXTS[:500], []),
        (TEXTS, replaced(TEXTS, 10, "new"), ["unseen"]),
        (TEXTS, replaced(TEXTS, 10, None), ["null"]),
    ],
    ids=[
        "clean",
        "nulls under the floor",
        "nulls",
        "infinite",
        "negative infinite",
        "out of range",
        "nothing but nulls",
        "the reference's own nulls",
        "more nulls than the reference",
        "fewer nulls than the reference",
        "clean categories",
        "unseen categories",
        "categories missing",
    ],
)
def test_a_check_fails_when_its_rate_rises_by_a_point_and_more_than_chance(
    reference: Array, window: Array, expected: list[str]
) -> None:
    assert faults(checked(reference, window)) == expected


def test_a_point_more_that_chance_explains_is_no_fault() -> None:
    """Ten rows in a hundred more than a fifth is what every other window shows."""
    window = np.where(np.arange(100) < 27, np.nan, 0.5)
    quality = checked(SPARSE, window)
    assert quality.ratios[0, 0] == 0.27
    assert faults(quality) == []


def test_ratios_are_shares_of_all_rows_and_missing_where_a_check_does_not_apply() -> None:
    numeric = checked(NORMAL, np.array([np.nan, np.inf, 1e9, 0.0])).ratios[:, 0]
    assert numeric[:3].tolist() == [0.25, 0.25, 0.25]
    assert np.isnan(numeric[3])
    texts = checked(TEXTS, np.array([None, "new", "c0", "c1"], dtype=object)).ratios[:, 0]
    assert (texts[0], texts[3]) == (0.25, 0.25)
    assert np.isnan(texts[1:3]).all()


def test_an_empty_window_has_no_ratios_and_no_faults() -> None:
    quality = checked(NORMAL, NORMAL[:0])
    assert np.isnan(quality.ratios).all()
    assert not quality.faults.any()


def test_fresh_identifiers_are_expected_to_be_unseen() -> None:
    ids = np.array([f"user-{index}" for index in range(1_800)], dtype=object)
    assert faults(checked(ids[:900], ids[900:])) == []


@pytest.mark.parametrize(
    ("found", "rows", "reference_found", "reference_rows"),
    [(3, 200, 0, 5_000), (12, 500, 20, 10_000), (100, 100, 0, 900), (40, 60_000, 10, 1_000_000), (0, 50, 3, 100)],
)
def test_the_p_value_is_fishers_one_sided(found: int, rows: int, reference_found: int, reference_rows: int) -> None:
    table = np.array([[found, rows - found], [reference_found, reference_rows - reference_found]])
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert fisher_p_value(found, rows, reference_found, reference_rows) == pytest.approx(expected, rel=1e-6)
