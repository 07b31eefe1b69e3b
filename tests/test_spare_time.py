"""Holds SpareTime to its promise: of a hundred callers less than one meets a run that holds callers up."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from gateway.spare_time import RESTS, Callers, SpareTime, run_delay_s

RUN_S = 1e-3


class Bench:
    """Spare time with a clock and a processor that the test turns; rests are looked at every 75 ms."""

    def __init__(self) -> None:
        self.now = 100.0
        self.delay_s = 5.0
        self.callers = Callers()
        self.over = asyncio.Event()
        self.spare_time = SpareTime(self.callers, self.over.set, clock=lambda: self.now, run_delay=lambda: self.delay_s)

    def run(self, *, waited_s: float, run_s: float = RUN_S) -> None:
        """Let a run pass, in which the loop waited for its processor."""
        run = self.spare_time.begin()
        self.now += run_s
        self.delay_s += waited_s
        self.spare_time.end(run)

    def answer(self, callers: int) -> None:
        """Answer so many callers."""
        for _ in range(callers):
            self.callers.come()
            self.callers.leave()

    async def is_over(self) -> bool:
        """Look at the rest until it was looked at twice more, or is over."""
        for _ in range(2):
            self.callers.come()  # it is never quiet
            try:
                async with asyncio.timeout(0.1):
                    await self.over.wait()
                return True
            except TimeoutError:
                continue
            finally:
                self.callers.count -= 1
        return False


@pytest.mark.parametrize(
    ("waited_s", "run_s", "rests"),
    [(0.0, RUN_S, "no"), (99e-6, RUN_S, "no"), (150e-6, RUN_S, "yes"), (150e-6, 0.1, "no"), (2e-3, 0.1, "yes")],
)
async def test_only_a_run_in_which_the_loop_waited_is_followed_by_a_rest(
    waited_s: float, run_s: float, rests: str
) -> None:
    bench = Bench()
    bench.run(waited_s=waited_s, run_s=run_s)
    assert bench.spare_time.is_resting is (rests == "yes")
    bench.spare_time.stop()
    assert not bench.spare_time.is_resting


async def test_a_rest_takes_time_and_callers() -> None:
    bench = Bench()
    bench.run(waited_s=RUN_S)
    bench.answer(RESTS)
    assert not await bench.is_over(), "no time has passed"
    bench.now += RESTS * RUN_S + 1e-6
    assert await bench.is_over()
    assert not bench.spare_time.is_resting

    bench = Bench()
    bench.run(waited_s=RUN_S)
    bench.now += RESTS * RUN_S + 1e-6
    bench.answer(RESTS - 1)
    assert not await bench.is_over(), "a caller too few"
    bench.answer(1)
    assert await bench.is_over()


async def test_a_rest_is_over_when_nobody_comes() -> None:
    bench = Bench()
    bench.run(waited_s=RUN_S)
    async with asyncio.timeout(10):
        await bench.over.wait()
    assert not bench.spare_time.is_resting


async def test_a_new_rest_takes_the_place_of_the_last() -> None:
    bench = Bench()
    bench.run(waited_s=RUN_S)
    bench.run(waited_s=10.0, run_s=10.0)
    bench.now += RESTS * RUN_S + 1e-6
    bench.answer(RESTS)
    assert not await bench.is_over(), "the first one's end"
    bench.spare_time.stop()


def test_linux_says_how_long_a_thread_waited_for_a_processor() -> None:
    """Two that want the same processor take turns."""
    allowed = os.sched_getaffinity(0)
    processor = min(allowed)
    pin = f"import os; os.sched_setaffinity(0, {{{processor}}})"
    other = subprocess.Popen([sys.executable, "-c", f"{pin}\nwhile True: pass"])
    try:
        os.sched_setaffinity(0, {processor})
        before, give_up_at = run_delay_s(), time.monotonic() + 20
        while run_delay_s() < before + 0.01:
            assert time.monotonic() < give_up_at
    finally:
        os.sched_setaffinity(0, allowed)
        other.kill()
        other.wait()
