"""Measures how often a feature without drift is called significant, over fresh references.

Never looks at effect sizes or earlier windows: this is about the p-values alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import numpy as np

from gateway.monitoring.bins import FloatArray
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.measurement import WindowMeter
from gateway.monitoring.reference_builder import build_reference
from loadtests.calibration.kinds import KINDS, null_windows
from loadtests.calibration.results import NullRate

LEVELS = (0.05, 0.01)
SIZES = ((200, 10_000), (1_000, 10_000), (5_000, 50_000))
"""Rows of a window and of its reference: at most a tenth."""


def null_rates(seed: int, *, references: int, windows: int, say: Callable[[str], None]) -> list[NullRate]:
    """Measure all kinds and sizes."""
    found = []
    for rows, reference_rows in SIZES:
        p_values = np.stack(
            [
                _p_values(np.random.default_rng([seed, rows, number]), rows, reference_rows, windows)
                for number in range(references)
            ]
        )
        say(f"seed {seed}: false alarms at {rows} rows")
        for level in LEVELS:
            rates: FloatArray = (p_values <= level).mean(axis=2)
            for index, kind in enumerate(KINDS):
                of_kind = rates[:, index]
                low, high = np.quantile(of_kind, [0.05, 0.95])
                found.append(
                    NullRate(
                        seed=seed,
                        kind=kind.name,
                        rows=rows,
                        reference_rows=reference_rows,
                        level=level,
                        mean=float(of_kind.mean()),
                        low=float(low),
                        high=float(high),
                        standard_error=float(of_kind.std(ddof=1) / np.sqrt(references)),
                        windows=windows,
                        references=references,
                    )
                )
    return found


def _p_values(rng: np.random.Generator, rows: int, reference_rows: int, windows: int) -> FloatArray:
    """Judge the windows of one fresh reference; shape (kinds, windows).

    All windows go through the meter at once, as if each were a feature of its own: the statistics and their null laws
    are those of the running gateway, feature by feature.
    """
    reference = build_reference({kind.name: kind.draw(rng, reference_rows) for kind in KINDS}, {})
    layout = CountLayout(reference.features)
    counts = null_windows(rng, list(KINDS), layout, rows, windows)
    copies = CountLayout(
        [
            msgspec.structs.replace(feature, name=f"{feature.name} {window}")
            for feature in reference.features
            for window in range(windows)
        ]
    )
    bounds = [*layout.starts.tolist(), layout.cells]
    cells = [counts[:, start:end].ravel() for start, end in itertools.pairwise(bounds)]
    meter = WindowMeter(copies, copies.reference_counts(reference_rows))
    p_value = meter.measure(np.concatenate([[rows], *cells])).p_value
    return p_value.reshape(len(KINDS), windows)
