"""Owns how many users a load test has at each moment: steady, ramp, burst, diurnal.

Never starts a user; a moment goes in, a number comes out, and after the end None.
"""

from __future__ import annotations

import math
from collections.abc import Callable

SHAPES: dict[str, Callable[[float], float]] = {}
"""The share of the peak, 0 to 1, at each share of the run, 0 to 1."""

BURSTS = 6
_QUIET = 0.2


def users_at(shape: str, elapsed_s: float, *, peak_users: int, duration_s: float) -> int | None:
    """Return how many users there should be, at least one, or None when the run is over.

    Args:
        shape: A key of `SHAPES`.
        elapsed_s: Since the start of the run.
    """
    if elapsed_s >= duration_s:
        return None
    share = SHAPES[shape](max(0.0, elapsed_s) / duration_s)
    return max(1, min(peak_users, math.ceil(share * peak_users - 1e-9)))


def _steady(_progress: float) -> float:
    """Keep all users all the time."""
    return 1.0


def _ramp(progress: float) -> float:
    """Rise from none to all in a straight line, to find where it bends; the last tenth has all."""
    return min(1.0, progress / 0.9)


def _burst(progress: float) -> float:
    """Keep a fifth of the users, and six times all of them for a while, to see the queue come back."""
    within = progress * BURSTS % 1.0
    return 1.0 if within >= 2 / 3 else _QUIET


def _diurnal(progress: float) -> float:
    """Squeeze a day into the run: a fifth at midnight, all at noon, a sine between."""
    return _QUIET + (1 - _QUIET) * (1 - math.cos(2 * math.pi * progress)) / 2


SHAPES.update(steady=_steady, ramp=_ramp, burst=_burst, diurnal=_diurnal)
