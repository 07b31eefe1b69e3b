"""The default rules of two other tools, written anew from their documentation, to judge the same rows.

Neither tool is installed: these are their tests, thresholds and corrections only, one window at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial import distance

from gateway.messages import Array
from gateway.monitoring.bins import FloatArray
from loadtests.calibration.kinds import CATEGORIES, NAMES

EVIDENTLY_THRESHOLD = 0.1
ALIBI_LEVEL = 0.05
_EMPTY_SHARE = 0.0001

Columns = Mapping[str, npt.NDArray[Any]]
"""Numbers as they are, categories as counts of the 20 that there are: int64, shape (20,)."""


def prepare(drawn: Mapping[str, Array]) -> Columns:
    """Count the categories and sort the numbers, once for both tools."""
    return {name: _count(values) if values.dtype == object else np.sort(values) for name, values in drawn.items()}


def evidently(reference: Columns, current: Columns) -> set[str]:
    """Flag columns as Evidently does for references of more than 1,000 rows.

    Numeric: Wasserstein distance over the reference's standard deviation at least 0.1. Categorical: Jensen-Shannon
    distance (natural logarithm) at least 0.1. Nulls and infinities are dropped first.
    """
    return {name for name in reference if _evidently_score(reference[name], current[name]) >= EVIDENTLY_THRESHOLD}


def alibi_detect(reference: Columns, current: Columns) -> set[str]:
    """Flag columns as alibi-detect's TabularDrift does: p < 0.05 / columns.

    Numeric: two-sample Kolmogorov-Smirnov, asymptotic. Categorical: χ² of the contingency table. A column with a null
    has no p-value, and so is not flagged.
    """
    return {name for name in reference if _alibi_p_value(reference[name], current[name]) < ALIBI_LEVEL / len(reference)}


RULES: dict[str, Callable[[Columns, Columns], set[str]]] = {"Evidently": evidently, "alibi-detect": alibi_detect}


def _is_table(column: npt.NDArray[Any]) -> bool:
    return column.shape == (CATEGORIES,) and column.dtype == np.int64


def _evidently_score(reference: npt.NDArray[Any], current: npt.NDArray[Any]) -> float:
    if _is_table(reference):
        shares = [table / table.sum() for table in (reference, current)]
        return float(distance.jensenshannon(*(np.where(share > 0, share, _EMPTY_SHARE) for share in shares)))
    finite = current[np.isfinite(current)]
    return wasserstein_distance(reference, finite) / max(float(np.std(reference)), 0.001)


def _alibi_p_value(reference: npt.NDArray[Any], current: npt.NDArray[Any]) -> float:
    if _is_table(reference):
        table: FloatArray = np.stack([reference, current])[:, reference + current > 0].astype(np.float64)
        return float(stats.chi2_contingency(table)[1])
    if np.isnan(current).any():
        return float("nan")
    return kolmogorov_smirnov_p_value(reference, current)


def wasserstein_distance(first: FloatArray, second: FloatArray) -> float:
    """First Wasserstein distance of two sorted samples; scipy's function of that name takes ten times as long."""
    places = np.sort(np.concatenate([first, second]), kind="stable")
    ahead = _share_below(first, places[:-1]) - _share_below(second, places[:-1])
    return float(np.sum(np.abs(ahead) * np.diff(places)))


def kolmogorov_smirnov_p_value(first: FloatArray, second: FloatArray) -> float:
    """Two-sample test of two sorted samples, as `scipy.stats.ks_2samp(…, method="asymp")`, in a third of its time."""
    places = np.concatenate([first, second])
    statistic = float(np.abs(_share_below(first, places) - _share_below(second, places)).max())
    rows = len(first) * len(second) / (len(first) + len(second))
    return float(stats.kstwo.sf(statistic, np.round(rows)))


def _share_below(ordered: FloatArray, places: FloatArray) -> FloatArray:
    return np.searchsorted(ordered, places, side="right") / len(ordered)


def _count(values: Array) -> npt.NDArray[np.int64]:
    known = NAMES.astype(str)
    return np.bincount(np.searchsorted(known, values.astype(str)), minlength=CATEGORIES).astype(np.int64)
