"""The correction for testing many features at once.

Never computes a p-value.
"""

from __future__ import annotations

import numpy as np

from gateway.monitoring.bins import BoolArray, FloatArray


def benjamini_hochberg(p_values: FloatArray, rate: float) -> BoolArray:
    """Choose the hypotheses to reject so that the expected share of false ones among them stays within `rate`.

    Args:
        p_values: float64, shape (tests,); NaN is no test and does not count towards their number.
        rate: False discovery rate, 0 to 1.
    Returns: bool, shape (tests,).
    Source: Benjamini and Hochberg 1995.
    """
    ordered = np.sort(p_values[~np.isnan(p_values)])
    passed = np.flatnonzero(ordered <= rate * np.arange(1, ordered.size + 1) / max(ordered.size, 1))
    if not passed.size:
        return np.zeros(p_values.shape, bool)
    rejected: BoolArray = p_values <= ordered[passed[-1]]
    return rejected
