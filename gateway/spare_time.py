"""Says when a process can spare the time for what no caller waits for, and whether that time was really spare.

Runs nothing itself; whoever has something to run asks here, and tells how long it took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.busy_poll import BusyPoll

_SCHEDSTAT = Path("/proc/thread-self/schedstat")

_NOTICED_S = 100e-6
_NOTICED_SHARE = 0.01
"""The loop waits for a processor now and then; only more than both of these, of a run's time, counts."""

RESTS = 200
"""A run that held callers up is followed by a rest as long as so many runs, and until so many callers are answered:
of a hundred callers then, less than one meets such a run, and the p99 does not see it."""

_QUIET_RUNS = 75
_QUIET_LIMIT_S = 1.0
"""Nobody can be held up where nobody comes: a rest ends early after so many runs' time, or a second, without a caller.
With callers at random moments that is rare enough for the same hundredth: run / (75 runs · e) = 0.5 %."""


class Callers:
    """How many callers wait for an answer of this process.

    Attributes:
        count: Those who wait now. answered: Those who did, since the start.
        on_none: Called when the last one is answered, if somebody waits for that.
    """

    __slots__ = ("_busy_poll", "answered", "count", "on_none")

    def __init__(self) -> None:
        self._busy_poll = BusyPoll()
        self.count = 0
        self.answered = 0
        self.on_none: Callable[[], None] | None = None

    def come(self) -> None:
        """Count a caller who waits from now on."""
        if not self.count:
            self._busy_poll.asked()
        self.count += 1

    def leave(self) -> None:
        """Count a caller who is answered, or has gone."""
        self.count -= 1
        self.answered += 1
        if not self.count:
            self._busy_poll.quiet(self.answered)
            if self.on_none is not None:
                self.on_none()


def run_delay_s() -> float:
    """Return how long this thread was ready to run and got no processor, so far: Linux counts it (sched-stats.rst).

    Returns: Seconds; 0 where nobody counts.
    """
    try:
        return int(_SCHEDSTAT.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):  # another system, or a kernel that does not count
        return 0.0


class LongRun(msgspec.Struct, frozen=True):
    """A run in a thread, beside the loop: when it began, and how long the loop had waited for processors until then."""

    began_at: float
    delay_s: float


class SpareTime:
    """Lets long runs begin, unless the last one held callers up not long ago. Lives on the loop's thread.

    Attributes:
        is_resting: Whether no long run may begin.
    """

    def __init__(
        self,
        callers: Callers,
        on_over: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        run_delay: Callable[[], float] = run_delay_s,
    ) -> None:
        """Begin with time to spare.

        Args:
            on_over: Called when a rest is over.
            run_delay: See run_delay_s.
        """
        self.is_resting = False
        self._callers = callers
        self._on_over = on_over
        self._clock = clock
        self._run_delay = run_delay
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> LongRun:
        """Note that a run begins in a thread."""
        return LongRun(self._clock(), self._run_delay())

    def end(self, run: LongRun) -> None:
        """Note that it is over, and rest if the loop had to wait for a processor meanwhile."""
        now = self._clock()
        run_s = now - run.began_at
        if self._run_delay() - run.delay_s <= max(_NOTICED_S, _NOTICED_SHARE * run_s):
            return
        self.is_resting = True
        quiet_s = min(_QUIET_RUNS * run_s, _QUIET_LIMIT_S)
        self._look_again(now + RESTS * run_s, self._callers.answered + RESTS, quiet_s)

    def stop(self) -> None:
        """End every rest without a word."""
        if self._timer is not None:
            self._timer.cancel()
        self.is_resting = False

    def _look_again(self, ends_at: float, ends_after: int, quiet_s: float) -> None:
        """Look whether the rest is over once there was time for quiet."""
        if self._timer is not None:
            self._timer.cancel()
        seen = self._callers.answered

        def look() -> None:
            callers = self._callers
            is_quiet = callers.answered == seen and not callers.count
            if is_quiet or (self._clock() >= ends_at and callers.answered >= ends_after):
                self.is_resting = False
                self._on_over()
            else:
                self._look_again(ends_at, ends_after, quiet_s)

        self._timer = asyncio.get_running_loop().call_later(quiet_s, look)
