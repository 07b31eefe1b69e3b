import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gateway.monitoring.multiplicity import benjamini_hochberg


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.sampled_from([0.01, 0.05, 0.2]))
def test_rejections_are_those_of_scipys_adjusted_p_values(p_values: list[float], rate: float) -> None:
    adjusted = stats.false_discovery_control(p_values)
    # On the boundary itself the two round differently.
    clear = np.abs(adjusted - rate) > 1e-12
    np.testing.assert_array_equal(benjamini_hochberg(np.array(p_values), rate)[clear], (adjusted <= rate)[clear])


def test_a_missing_p_value_is_no_test() -> None:
    rejected = benjamini_hochberg(np.array([np.nan, 0.009, np.nan, 0.5]), 0.02)
    assert rejected.tolist() == [False, True, False, False]


def test_no_tests_reject_nothing() -> None:
    assert benjamini_hochberg(np.array([]), 0.01).tolist() == []
    assert benjamini_hochberg(np.array([np.nan]), 0.01).tolist() == [False]
