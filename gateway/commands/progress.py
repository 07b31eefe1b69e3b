"""A progress bar on standard error, where that is a terminal; else nothing.

Counts nothing and wraps nothing: it is told how far the work is.
"""

from __future__ import annotations

import sys
import time

_WIDTH = 32
_INTERVAL_S = 0.1


class ProgressBar:
    """One bar, drawn anew at most ten times a second and wiped out at the end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_shown = sys.stderr.isatty()
        self._drawn_at_s = float("-inf")

    def __call__(self, done: int, total: int) -> None:
        """Show that so much is done."""
        now_s = time.monotonic()
        if not self._is_shown or (done < total and now_s - self._drawn_at_s < _INTERVAL_S):
            return
        self._drawn_at_s = now_s
        filled = _WIDTH * done // max(total, 1)
        bar = "█" * filled + "░" * (_WIDTH - filled)
        text = f"{self._what} {bar} {done:,} of {total:,} rows"
        sys.stderr.write(f"\r{text}" if done < total else f"\r{' ' * len(text)}\r")
        sys.stderr.flush()
