"""Data quality of a window: shares of rows that are null, non-finite, out of range or unseen.

Never judges a distribution: a fault in one row of a hundred moves none, and is found here.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from gateway.monitoring.bins import BoolArray, Counts, FloatArray
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.multiplicity import benjamini_hochberg
from gateway.monitoring.reference import CategoricalFeature

Check = Literal["null", "non_finite", "out_of_range", "unseen"]
CHECKS: tuple[Check, ...] = get_args(Check)

FLOOR = 0.01
FALSE_DISCOVERY_RATE = 0.01


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The quality of one window; arrays of shape (checks, features), checks in the order of `CHECKS`.

    Attributes:
        ratios: Share of the feature's rows, float64; NaN where a check does not apply or there are no rows.
        p_values: Of an increase over the reference's own rate, float64; 1 below the floor, NaN like the ratios.
        faults: Where the increase is significant and at least one percentage point, bool.
    """

    ratios: FloatArray
    p_values: FloatArray
    faults: BoolArray


class QualityMeter:
    """Holds the rates of one reference against those of its windows."""

    def __init__(self, layout: CountLayout, reference: Counts) -> None:
        """Lay out the reference's own rates.

        Args:
            layout: Of the counts that will be measured.
            reference: `layout.reference_counts`, int64, shape (cells,).
        """
        self._layout = layout
        self._reference = _tally(layout, reference)
        self._reference_rows = layout.feature_rows(reference)
        # The reference has seen all its categories; what it would not have seen must be estimated.
        self._reference[CHECKS.index("unseen")] = [
            feature.unseen if isinstance(feature, CategoricalFeature) else 0 for feature in layout.features
        ]
        numeric = layout.numeric
        self._applies: BoolArray = np.stack([np.ones_like(numeric), numeric, numeric, ~numeric])

    def measure(self, counts: Counts) -> Quality:
        """Measure one window.

        Args:
            counts: Its merged counts, int64, shape (cells,) of the layout.
        Raises: WindowMismatch: the counts are not of this layout.
        """
        found, rows = _tally(self._layout, counts), self._layout.feature_rows(counts)
        applies = self._applies & (rows > 0)
        ratios = np.divide(found, rows, out=np.full(found.shape, np.nan), where=applies)
        own = self._reference / np.maximum(self._reference_rows, 1)
        # A difference of exactly one point may lose its last bit.
        increased = applies & (ratios - own >= FLOOR * (1 - 1e-9))
        p_values = np.where(applies, 1.0, np.nan)
        for check, feature in np.argwhere(increased).tolist():
            p_values[check, feature] = fisher_p_value(
                int(found[check, feature]),
                int(rows[feature]),
                int(self._reference[check, feature]),
                int(self._reference_rows[feature]),
            )
        rejected = benjamini_hochberg(p_values.ravel(), FALSE_DISCOVERY_RATE).reshape(p_values.shape)
        return Quality(ratios=ratios, p_values=p_values, faults=rejected & increased)


def fisher_p_value(found: int, rows: int, reference_found: int, reference_rows: int) -> float:
    """Test for a higher rate in the window than in the reference, exactly.

    Args:
        found: Rows of the window with the fault.
        rows: Rows of the window.
        reference_found: Rows of the reference with the fault.
        reference_rows: Rows of the reference.
    Returns: P(X ≥ found) when the faulty rows of both fall into the window at random.
    Source: Fisher's exact test, one-sided (Fisher 1935).
    """
    from scipy.special import betaln  # on first use: it is slow to import

    def log_choose(total: int, chosen: npt.NDArray[np.int64] | int) -> FloatArray:
        return np.asarray(-np.log1p(total) - betaln(np.subtract(total, chosen) + 1, np.add(chosen, 1)))

    faulty = found + reference_found
    faultless = rows + reference_rows - faulty
    possible = np.arange(found, min(rows, faulty) + 1)
    logs = log_choose(faulty, possible) + log_choose(faultless, rows - possible)
    return float(min(1.0, np.exp(logs - log_choose(rows + reference_rows, rows)).sum()))


def _tally(layout: CountLayout, counts: Counts) -> Counts:
    """Count the rows of each check; int64, shape (checks, features)."""
    return np.stack([getattr(layout, check)(counts) for check in CHECKS])
