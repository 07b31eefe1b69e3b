"""The watch over one series: looks at the store, has due windows decided, keeps the latest results at hand.

Holds no policy: `evaluator.py` chooses and judges. Never runs a measurement on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from gateway.messages import ModelVersion
from gateway.monitoring.calibration import Calibration
from gateway.monitoring.evaluator import is_news, judge_window, learn_baseline, next_window, place_before
from gateway.monitoring.result import (
    Baseline,
    WindowResult,
    decode_baseline,
    decode_result,
    encode,
)
from gateway.monitoring.schedule import FLUSH_INTERVAL_S, SETTLE_S
from gateway.monitoring.yardstick import Yardstick
from gateway.store.windows import HISTORY_WINDOWS, CountSeries, ResultHead, Survey, Traffic, WindowStore

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_INTERVAL_S = 2.0
IDLE_LOOK_INTERVAL_S = 10.0


class RunInThread(Protocol):
    """Runs work in a thread; what it is given takes milliseconds, so that it can end between two pieces."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Return what the work returned."""


async def measure_window(yardstick: Yardstick, run: RunInThread, judge: Callable[[], WindowResult]) -> WindowResult:
    """Judge a window on a yardstick in a thread, after what is made once for all windows, piece by piece."""
    while await run(yardstick.meter.prepare):
        pass
    return await run(judge)


class News(msgspec.Struct, frozen=True):
    """A result that changes what the outside was told last."""

    result: WindowResult
    previous: WindowResult | None


class SeriesWatch:
    """One version in one role, as this replica sees it.

    Attributes:
        current: The last decided window's result, whoever decided it.
        baseline: The windows declared in control.
    """

    def __init__(
        self,
        key: ModelVersion,
        traffic: Traffic,
        yardstick: Yardstick,
        store: WindowStore,
        *,
        run: RunInThread,
        jitter_s: float = 0.0,
    ) -> None:
        """Know nothing yet.

        Args:
            run: Runs a measurement in a thread.
            jitter_s: How much later than others this replica looks, so that mostly one replica decides.
        """
        self.key = key
        self.traffic: Traffic = traffic
        self.yardstick = yardstick
        self.series: CountSeries = yardstick.series(key, traffic)
        self._store = store
        self._run = run
        self._jitter_s = jitter_s
        self._next_look_s = 0.0
        self._results: dict[int, WindowResult] = {}
        self._fetched: dict[int, int] = {}
        self._news: list[News] = []
        self._in_doubt: tuple[ResultHead, News] | None = None
        self._baseline_body: bytes | None = None
        self._calibration: Calibration | None = None
        self.current: WindowResult | None = None
        self.baseline: Baseline | None = None

    async def look(self, now_s: float) -> list[News]:
        """Decide what is due, if it is time to look.

        Args:
            now_s: Seconds since the epoch.
        Returns: What is new, oldest window first.
        Raises: StoreUnavailable: no answer; looked again at the next call, which also tells what was new before.
        """
        # A clock that was set back must not hold the watch back for as long.
        if now_s < self._next_look_s <= now_s + 2 * IDLE_LOOK_INTERVAL_S:
            return []
        survey = await self._survey()
        self._settle_doubt(survey)
        while (start := next_window(survey, self.yardstick.schedule, now_s)) is not None:
            result = await self._decide(start, survey, now_s)
            # Counts may be gone that the survey still knows of: it is decided on what is left, and not again and again.
            head = msgspec.structs.replace(result.head, rows=max(result.rows, survey.landed[start]))
            news = News(result, self._results.get(result.after[0]))
            self._in_doubt = (head, news)
            is_taken = await self._store.put_result(self.series, start, head, encode(result))
            self._in_doubt = None
            if is_taken:
                self._results[start] = result
                self._fetched[start] = head.attempt
                survey.results[start] = head
                self._note(news)
            else:
                before, survey = survey, await self._survey()
                if survey == before:
                    break
        self.current = self._results[max(self._results)] if self._results else None
        self._next_look_s = self._look_after(now_s, busy=bool(survey.landed))
        found, self._news = self._news, []
        return found

    async def history(self, limit: int) -> list[WindowResult]:
        """List results, newest window first, at most 500.

        Raises: StoreUnavailable: no answer.
        """
        bodies = await self._store.results(self.series, limit)
        # Half a second for 500 windows of 256 features.
        return await self._run(lambda: [found for body in bodies if (found := self._read_result(body)) is not None])

    async def declare_baseline(self, from_s: int, to_s: int, now_s: float) -> Baseline:
        """Calibrate on the windows of a period, from now on and on every replica.

        Raises:
            InsufficientBaseline: fewer than 200 windows with enough rows lie in it.
            StoreUnavailable: no answer.
        """
        results = await self.history(HISTORY_WINDOWS)
        min_rows = self.yardstick.options.min_rows
        baseline = await self._run(
            lambda: learn_baseline(results, from_s=from_s, to_s=to_s, min_rows=min_rows, now_s=now_s)
        )
        await self._store.put_baseline(self.series, encode(baseline))
        return baseline

    def _settle_doubt(self, survey: Survey) -> None:
        """Find out whether a result was taken although no answer came.

        Another replica may have decided just the same: then both tell of it, under one id.
        """
        if self._in_doubt is not None:
            (head, news), self._in_doubt = self._in_doubt, None
            if survey.results.get(news.result.start_s) == head:
                self._note(news)

    def _note(self, news: News) -> None:
        if is_news(news.result, news.previous):
            self._news.append(news)

    async def _survey(self) -> Survey:
        """Look at the store, and fetch what was decided elsewhere."""
        survey = await self._store.survey(self.series)
        if survey.baseline != self._baseline_body:
            self._take_baseline(survey.baseline)
        self._results = {start: self._results[start] for start in survey.results if start in self._results}
        attempts = {start: head.attempt for start, head in survey.results.items()}
        if attempts.items() - self._fetched.items():
            for body in await self._store.results(self.series, len(attempts)):
                result = self._read_result(body)
                if result is not None:
                    self._results[result.start_s] = result
        # What cannot be read is not fetched again.
        self._fetched = attempts
        return survey

    async def _decide(self, start: int, survey: Survey, now_s: float) -> WindowResult:
        end = start + self.series.window_s
        counts = await self._store.read(self.series, start, end)
        after = place_before(survey, start)
        head = survey.results.get(start)
        return await measure_window(
            self.yardstick,
            self._run,
            lambda: judge_window(
                counts,
                start,
                self.yardstick,
                after=after,
                previous=self._results.get(after[0]),
                replaced=self._results.get(start),
                attempt=head.attempt + 1 if head else 1,
                calibration=self._calibration,
                now_s=now_s,
            ),
        )

    def _look_after(self, now_s: float, *, busy: bool) -> float:
        """Choose when to look next: when the window that runs now is due, and in between for late rows."""
        schedule = self.yardstick.schedule
        settled_s = FLUSH_INTERVAL_S + SETTLE_S
        due_s = ((now_s - settled_s) // schedule.window_s + 1) * schedule.window_s + settled_s
        # Late rows of long windows can wait a little: each look is a call for every version and role.
        busy_s = min(max(LOOK_INTERVAL_S, schedule.window_s / 60), IDLE_LOOK_INTERVAL_S)
        return min(due_s, now_s + (busy_s if busy else IDLE_LOOK_INTERVAL_S)) + self._jitter_s

    def _take_baseline(self, body: bytes | None) -> None:
        self._baseline_body = body
        self.baseline = self._calibration = None
        if body is None:
            return
        try:
            self.baseline = decode_baseline(body)
        except msgspec.MsgspecError as exc:
            log.warning("baseline_unreadable", extra={"model": str(self.key), "reason": str(exc)})
            return
        self._calibration = self.baseline.calibration

    def _read_result(self, body: bytes) -> WindowResult | None:
        try:
            result = decode_result(body)
        except msgspec.MsgspecError as exc:
            log.warning("window_result_unreadable", extra={"model": str(self.key), "reason": str(exc)})
            return None
        return result if len(result.features) == len(self.yardstick.reference.features) else None
