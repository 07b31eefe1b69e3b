"""Keeps the event loop awake for a caller who asks again at once; all others find it asleep, and cost what they did.

A processor that fell asleep takes as long to wake up as a small model takes to answer, and its caches are cold. So
where a lone caller came within a moment of the last answer several times in a row, the loop looks for the next request
without sleeping, for that moment. Linux calls it busy polling. Requests at random moments do not set it off, nor do
callers who come together: those had better gather while the loop sleeps, to share a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

_GAP_S = 250e-6
"""From the last answer to the next request, with the time that writing the one and reading the other take. So long
the loop is kept awake at most after an answer, too."""

_STREAK = 8
"""So many short gaps in a row. At random moments, at a third of the capacity, one request in thousands finds it so."""

_CREDIT = 2 * _STREAK
"""So many are remembered; a longer gap takes away _STREAK of them, so that one hitch does not put the loop to sleep."""


class BusyPoll:
    """Decides after an answer whether the loop stays awake; lives on the loop's thread.

    Attributes:
        is_polling: Whether the loop is kept awake now.
    """

    __slots__ = ("_answered", "_clock", "_quiet_at", "_streak", "_until", "is_polling")

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._answered = 0
        self._quiet_at = 0.0
        self._until = 0.0
        self._streak = 0
        self.is_polling = False

    def asked(self) -> None:
        """Note a request where none was under way."""
        if self._clock() - self._quiet_at < _GAP_S:
            self._streak = min(self._streak + 1, _CREDIT)
        else:
            self._streak = max(self._streak - _STREAK, 0)

    def quiet(self, answered: int) -> None:
        """Note that none is under way any more.

        Args:
            answered: Callers since the start.
        """
        is_alone = answered == self._answered + 1
        self._answered = answered
        if not is_alone:
            self._streak = 0
            return
        self._quiet_at = self._clock()
        if self._streak >= _STREAK:
            self._until = self._quiet_at + _GAP_S
            if not self.is_polling:
                self.is_polling = True
                self._turn()

    def _turn(self) -> None:
        if self._clock() < self._until:
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self.is_polling = False
