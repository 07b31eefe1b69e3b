import math

import numpy as np
import pytest

from loadtests.datasets import Column, load_dataset
from loadtests.injection import Injection, check_injection, inject, read_injection

PENGUINS = load_dataset("penguins")
CANCER = load_dataset("breast_cancer")


def injected(text: str, elapsed_s: float = 0.0) -> tuple[Column, Column]:
    """Put one fault into every row of its data set; the feature before and after."""
    injection = read_injection(text)
    dataset = load_dataset(injection.model)
    before = {name: column.copy() for name, column in dataset.columns.items()}
    changed = inject(dataset.columns, [injection], dataset, elapsed_s=elapsed_s, generator=np.random.default_rng(1))
    for name, column in before.items():
        assert np.array_equal(dataset.columns[name], column, equal_nan=column.dtype.kind == "f")
        if name != injection.feature:
            assert changed[name] is dataset.columns[name]
    after = changed[injection.feature]
    assert after.dtype == before[injection.feature].dtype
    return before[injection.feature], after


def test_a_shift_is_in_standard_deviations() -> None:
    before, after = injected("shift:breast_cancer/mean_area:2")
    assert np.allclose(after - before, 2 * before.std(), rtol=1e-4)


def test_a_scale_keeps_the_mean_and_multiplies_the_deviation() -> None:
    before, after = injected("scale:breast_cancer/mean_area:3")
    assert math.isclose(after.mean(), before.mean(), rel_tol=1e-4)
    assert math.isclose(after.std(), 3 * before.std(), rel_tol=1e-4)


def test_a_unit_error_multiplies() -> None:
    before, after = injected("unit:penguins/body_mass_g:0.001")
    assert np.allclose(after, before * 0.001, equal_nan=True)


def test_nulls_fall_on_the_share_asked_for() -> None:
    before, after = injected("nulls:breast_cancer/mean_area:0.25")
    lost = np.isnan(after)
    assert 0.18 < lost.mean() < 0.32
    assert np.array_equal(after[~lost], before[~lost])


def test_a_null_of_a_text_is_empty() -> None:
    _, after = injected("nulls:penguins/island:1")
    assert set(after.tolist()) == {""}


def test_a_swap_gives_every_category_to_its_neighbour_and_leaves_what_is_missing() -> None:
    before, after = injected("swap:penguins/sex")
    pairs = set(zip(before.tolist(), after.tolist(), strict=True))
    assert pairs == {("female", "male"), ("male", "female"), ("", "")}


def test_numbers_of_few_values_are_categories_too() -> None:
    before, after = injected("swap:diabetes/sex")
    assert set(zip(before.tolist(), after.tolist(), strict=True)) == {(1.0, 2.0), (2.0, 1.0)}


def test_a_fault_holds_from_its_first_second_to_before_its_last() -> None:
    injection = read_injection("shift:breast_cancer/mean_area@120-300")
    assert [injection.holds(at) for at in (0, 119.9, 120, 299.9, 300)] == [False, False, True, True, False]
    before, after = injected("shift:breast_cancer/mean_area@120", elapsed_s=119)
    assert np.array_equal(before, after)


def test_faults_of_one_feature_follow_one_another() -> None:
    first, then = read_injection("shift:breast_cancer/mean_area:1"), read_injection("unit:breast_cancer/mean_area:10")
    column = inject(CANCER.columns, [first, then], CANCER, elapsed_s=0, generator=np.random.default_rng(1))["mean_area"]
    every = CANCER.columns["mean_area"]
    assert np.allclose(column, 10 * (every + every.std()), rtol=1e-4)


def test_a_fault_of_another_model_changes_nothing() -> None:
    other = read_injection("shift:diabetes/age")
    assert inject(CANCER.columns, [other], CANCER, elapsed_s=0, generator=np.random.default_rng(1)) == CANCER.columns


def test_what_is_left_out_has_a_default() -> None:
    assert read_injection("unit:penguins/body_mass_g") == Injection(
        kind="unit", model="penguins", feature="body_mass_g", amount=1000.0
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shift", r"is not KIND:MODEL/FEATURE\[:AMOUNT\]\[@FROM\[-TO\]\]"),
        ("move:a/b", "kind 'move' is none of shift, scale, nulls, swap, unit"),
        ("shift:a/b:much", "'much' is not a number"),
        ("shift:a/b:inf", "takes a finite amount"),
        ("nulls:a/b:20", "takes a share from 0 to 1"),
        ("shift:a/b@soon", "'soon' is not a number"),
        ("shift:a/b@9-9", "from 9 s to 9 s is no time in a run"),
    ],
)
def test_a_fault_written_wrongly_is_refused_with_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_injection(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shift:penguins/wings", "no such feature; there are island, sex"),
        ("shift:penguins/island", "the feature is text, expected a number"),
        ("swap:penguins/body_mass_g", "more than 50 values are no categories"),
    ],
)
def test_a_fault_that_the_feature_cannot_have_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_injection(read_injection(text), PENGUINS)
