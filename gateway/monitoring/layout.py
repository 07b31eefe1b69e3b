"""The layout of one flat vector of counts: which cell belongs to which feature.

Never counts and never judges; a vector without its reference's hash means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.errors import WindowMismatch
from gateway.monitoring.bins import BoolArray, Counts
from gateway.monitoring.reference import CategoricalFeature, Feature, NumericFeature

ROWS_CELL = 0


class CountLayout:
    """Where each feature's counts stand in a vector of int64.

    Cell 0 counts rows. Then come, feature by feature,
    numeric: -Inf, the bins in order, +Inf, NaN; categorical: the listed values, other, unseen, null.

    Attributes:
        features: In the order of the cells.
        starts: First cell of each feature, int64, shape (features,).
        cells: Length of the vector.
        bins: Columns of the count matrices: bins of the largest feature, at least 1.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        # Each kind has three cells beside its bins or values.
        lengths = np.array([len(feature.counts) + 3 for feature in self.features], dtype=np.int64)
        bounds = 1 + np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        self.starts: Counts = bounds[:-1]
        self.cells = int(bounds[-1])
        self.numeric: BoolArray = np.array(
            [isinstance(feature, NumericFeature) for feature in self.features], dtype=bool
        )
        self._last: Counts = bounds[1:] - 1
        # A categorical feature's other and unseen rows are one bin of the statistics: which of the two a rare
        # category is depends on the reference's luck, not on the traffic.
        self._bins: Counts = lengths - np.where(self.numeric, 3, 2)
        self.bins = int(self._bins.max(initial=1))
        first = np.where(self.numeric, self.starts + 1, self.starts)
        column = np.arange(self.bins)
        self._present: BoolArray = column < self._bins[:, None]
        self._gather: Counts = np.where(self._present, first[:, None] + column, 0)

    def bin_counts(self, counts: Counts) -> Counts:
        """Take out the rows per bin that the statistics compare.

        Args:
            counts: int64, shape (cells,).
        Returns: int64, shape (features, bins), zero beyond a feature's last bin; null and non-finite rows are in none.
        Raises: WindowMismatch: the vector is not of this layout.
        """
        self._check(counts)
        matrix = np.where(self._present, counts[self._gather], 0)
        categorical = np.flatnonzero(~self.numeric)
        matrix[categorical, self._bins[categorical] - 1] += counts[self._last[categorical] - 1]
        return matrix

    def feature_rows(self, counts: Counts) -> Counts:
        """Count each feature's rows, with or without a value; int64, shape (features,).

        Fewer than the window's rows where callers did not ask for an output.
        """
        self._check(counts)
        return np.add.reduceat(counts, self.starts) if self.starts.size else np.zeros(0, np.int64)

    def null(self, counts: Counts) -> Counts:
        """Count each feature's rows without a value; int64, shape (features,)."""
        self._check(counts)
        return counts[self._last]

    def non_finite(self, counts: Counts) -> Counts:
        """Count each numeric feature's +Inf and -Inf rows; int64, shape (features,)."""
        self._check(counts)
        return np.where(self.numeric, counts[self.starts] + counts[self._last - 1], 0)

    def out_of_range(self, counts: Counts) -> Counts:
        """Count each numeric feature's rows in its two outermost bins; int64, shape (features,)."""
        self._check(counts)
        outer = counts[self.starts + 1] + counts[self._last - 2]
        return np.where(self.numeric & (self._bins > 1), outer, 0)

    def unseen(self, counts: Counts) -> Counts:
        """Count each categorical feature's rows with a category the reference lacks; int64, shape (features,)."""
        self._check(counts)
        return np.where(self.numeric, 0, counts[self._last - 1])

    def reference_counts(self, rows: int) -> Counts:
        """Write the reference's own counts in this layout, as if its rows had been a window.

        Args:
            rows: Rows of the reference data.
        """
        counts = np.zeros(self.cells, np.int64)
        counts[ROWS_CELL] = rows
        for start, feature in zip(self.starts.tolist(), self.features, strict=True):
            size = len(feature.counts)
            if isinstance(feature, CategoricalFeature):
                counts[start : start + size + 3] = [*feature.counts, feature.other, 0, feature.null]
            else:
                counts[start : start + size + 3] = [feature.non_finite, *feature.counts, 0, feature.null]
        return counts

    def _check(self, counts: Counts) -> None:
        if counts.shape != (self.cells,):
            raise WindowMismatch(f"counts have shape {counts.shape}, expected ({self.cells},) for this reference")
