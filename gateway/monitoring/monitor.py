"""The monitor: all that the gateway needs of monitoring, from the rows of a request to the report on them.

Never awaited by a request: `record` only keeps references, everything else happens in tasks of its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.errors import InvalidReference, StoreUnavailable, UnknownModel
from gateway.messages import ModelVersion, Tensors
from gateway.monitoring.backoff import Backoff
from gateway.monitoring.evaluator import judge_window
from gateway.monitoring.flusher import Flusher
from gateway.monitoring.gauges import Sample
from gateway.monitoring.prediction_comparison import ComparisonReport, compare_predictions
from gateway.monitoring.recordings import ROLES, Recordings, Role
from gateway.monitoring.report import NO_REFERENCE, Report, report_bins, report_version, report_window, rfc3339
from gateway.monitoring.result import Baseline, WindowResult
from gateway.monitoring.schedule import FLUSH_INTERVAL_S
from gateway.monitoring.watch import SeriesWatch, measure_window
from gateway.monitoring.webhook import Webhook, change_event
from gateway.monitoring.yardstick import Yardstick
from gateway.store.windows import HISTORY_WINDOWS, WindowStore

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_STEP_S = 0.25
MAX_JITTER_S = 0.5
LAST_FLUSH_S = 2.0


class Monitor:
    """Records, flushes, decides and reports for all versions of one replica."""

    def __init__(
        self,
        store: WindowStore,
        *,
        webhook: Webhook | None = None,
        wall_clock: Callable[[], float] = time.time,
        observe_flush_s: Callable[[float], None] = lambda _: None,
        seed: int | None = None,
    ) -> None:
        """Watch nothing yet.

        Args:
            store: Shared by all replicas, or of this process alone.
            webhook: Told when a version's state changes; started and stopped with the monitor.
            wall_clock: Seconds since the epoch; buckets and windows are named by it.
            observe_flush_s: Told how long each flush took, in seconds: `store_flush_duration_seconds`.
            seed: Of the jitter between replicas.
        """
        self._store = store
        self._webhook = webhook
        self._wall_clock = wall_clock
        self._jitter = random.Random(seed)
        self._recordings = Recordings()
        self._flusher = Flusher(store, observe_s=observe_flush_s, seed=seed)
        self._look_backoff = Backoff(seed=seed)
        self._yardsticks: dict[ModelVersion, Yardstick | None] = {}
        self._reasons: dict[ModelVersion, str] = {}
        self._watches: dict[ModelVersion, dict[Role, SeriesWatch]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._measuring = ThreadPoolExecutor(1, thread_name_prefix="drift")

    # --- what is watched ------------------------------------------------------------------------------

    def watch(self, key: ModelVersion, yardstick: Yardstick | None, *, reason: str = NO_REFERENCE) -> None:
        """Begin to watch a version that was loaded; without a yardstick it is known, and nothing is counted.

        Args:
            yardstick: `Yardstick(body of reference.json, options)`, made off the event loop.
            reason: Why there is none, for the report.
        """
        self._yardsticks[key] = yardstick
        self._reasons[key] = reason
        self._watches.pop(key, None)
        self._recordings.begin(key, yardstick)
        if yardstick is not None and yardstick.options.enabled:
            jitter_s = self._jitter.uniform(0.0, MAX_JITTER_S)
            self._watches[key] = {
                role: SeriesWatch(key, role, yardstick, self._store, run=self._measure, jitter_s=jitter_s)
                for role in ROLES
            }

    def forget(self, key: ModelVersion) -> None:
        """Stop watching a version that is unloaded; what was counted of it is still flushed."""
        self._yardsticks.pop(key, None)
        self._reasons.pop(key, None)
        self._watches.pop(key, None)
        self._recordings.end(key)

    def compare(self, pairs: Iterable[tuple[ModelVersion, ModelVersion]]) -> None:
        """Count predictions of versions on other versions' edges, from now on these pairs and no others.

        Args:
            pairs: (variant, first variant of its route); a version is not compared with itself.
        """
        self._recordings.compare(pairs)

    def record(self, key: ModelVersion, role: Role, inputs: Tensors, outputs: Tensors, rows: int) -> None:
        """Take the rows of a request, or of a batch, after it was answered; about a microsecond, and never raises.

        Args:
            key: The version that answered.
            role: "primary" for a caller's answer, "shadow" for a shadow's.
            inputs: Tensors by name, first axis rows; they must not be written to afterwards.
            outputs: Likewise; those that were not computed are absent.
            rows: Rows of each.
        """
        self._recordings.record(key, role, inputs, outputs, rows, self._wall_clock())

    # --- tasks ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to flush every second and to decide windows as they fall due."""
        self._recordings.loop = asyncio.get_running_loop()
        if self._webhook is not None:
            self._webhook.start()
        self._tasks = [
            asyncio.create_task(self._repeat(self.flush, FLUSH_INTERVAL_S), name="monitoring-flush"),
            asyncio.create_task(self._repeat(self.evaluate, LOOK_STEP_S), name="monitoring-evaluate"),
        ]

    async def stop(self) -> None:
        """Flush what is left, within 2 s, and end every task and thread."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._recordings.loop = None
        try:
            async with asyncio.timeout(LAST_FLUSH_S):
                while await self.flush(retry=True):
                    pass
        except TimeoutError:
            pass
        if lost := self._recordings.waiting_rows():
            log.warning("rows_not_flushed", extra={"rows": lost})
        if self._webhook is not None:
            await self._webhook.stop()
        self._measuring.shutdown(wait=False, cancel_futures=True)

    async def flush(self, *, retry: bool = False) -> bool:
        """Carry what was recorded to the store, as far as it takes it now.

        Args:
            retry: Whether to try although an earlier failure asks to wait.
        Returns: Whether more waits and the store takes it.
        """
        now_s = self._wall_clock()
        return await self._flusher.flush(await self._recordings.carry(now_s), now_s, retry=retry)

    async def evaluate(self) -> None:
        """Decide what is due and take note of what other replicas decided."""
        now_s = self._wall_clock()
        if self._look_backoff.is_waiting(now_s):
            return
        for watch in self.watches:
            try:
                found = await watch.look(now_s)
            except StoreUnavailable:
                self._look_backoff.fail(now_s)
                return
            except Exception:
                # One version's fault must not end the watch over the others.
                log.exception("window_not_decided", extra={"model": str(watch.key), "role": watch.traffic})
                continue
            self._look_backoff.succeed()
            if self._webhook is not None:
                for news in found:
                    self._webhook.offer(change_event(watch, news))

    # --- what is known --------------------------------------------------------------------------------

    def reports(self) -> list[Report]:
        """Report on every version, without features; on its shadow rows only where a window of them was decided."""
        return [
            self._report(key, role, features=False)
            for role in ROLES
            for key in sorted(self._yardsticks)
            if role == "primary" or self._current(key, role) is not None
        ]

    async def report(
        self, model: str, version: int, role: Role = "primary", *, history: int | None = None, bins: bool = False
    ) -> Report | None:
        """Report on the last decided window of a version.

        Args:
            history: How many earlier windows to list, at most 500; None leaves the list out.
            bins: Whether to add the counts of the window and of the reference.
        Returns: None when no such version is loaded.
        Raises: StoreUnavailable: the history or the counts could not be read.
        """
        key = ModelVersion(model, version)
        if key not in self._yardsticks:
            return None
        watch = self._watches.get(key, {}).get(role)
        report = self._report(key, role)
        current = watch.current if watch else None
        if bins and watch is not None and current is not None:
            counts = await self._store.read(watch.series, current.start_s, current.end_s)
            report = report.with_bins(report_bins(watch.yardstick, counts))
        if history is None:
            return report
        if watch is None or current is None:
            return report.with_history([])
        earlier = await watch.history(min(history + 1, HISTORY_WINDOWS))
        earlier = [result for result in earlier if result.start_s < current.start_s][:history]
        yardstick = watch.yardstick
        return report.with_history(
            await self._measure(lambda: [report_window(yardstick, result) for result in earlier])
        )

    async def sliding(self, model: str, version: int, role: Role = "primary", *, bins: bool = False) -> Report | None:
        """Measure the latest complete buckets, as many as a window has; for display, it never decides.

        Args:
            bins: Whether to add the counts of the window and of the reference.
        Returns: None when no such version is watched; the window's attempt is 0.
        Raises: StoreUnavailable: no answer.
        """
        key = ModelVersion(model, version)
        watch = self._watches.get(key, {}).get(role)
        if watch is None:
            return None
        yardstick = watch.yardstick
        start, end = yardstick.schedule.last_complete(self._wall_clock())
        counts = await self._store.read(watch.series, start, end)
        result = await measure_window(
            yardstick, self._measure, lambda: judge_window(counts, start, yardstick, attempt=0)
        )
        report = report_version(key, role, yardstick, result)
        return report.with_bins(report_bins(yardstick, counts)) if bins else report

    async def comparison(self, first: ModelVersion, others: Sequence[ModelVersion]) -> ComparisonReport:
        """Compare what versions predict in the latest complete buckets, on the first version's edges.

        Args:
            others: Those given to `compare` with this first; of any other nothing is known.
        Raises:
            InvalidReference: the first version has none, so that there are no edges.
            StoreUnavailable: no answer.
        """
        yardstick = self._yardsticks.get(first)
        if yardstick is None:
            raise InvalidReference(f"{first}: no reference, expected one whose edges the predictions are counted on")
        start, end = yardstick.schedule.last_complete(self._wall_clock())
        own = await self._store.read(yardstick.series(first, "primary"), start, end)
        counts = {
            other: await self._store.read(yardstick.series(other, "comparison"), start, end)
            for other in others
            if other != first
        }
        predictions = await self._measure(lambda: compare_predictions(yardstick, first, own, counts))
        return ComparisonReport(start=rfc3339(start), end=rfc3339(end), predictions=predictions)

    async def declare_baseline(
        self, model: str, version: int, role: Role = "primary", *, from_s: float, to_s: float
    ) -> Baseline:
        """Declare the windows of a period in control: later ones are ranked against them, on every replica.

        Args:
            from_s, to_s: Seconds since the epoch; windows that lie in between count.
        Raises:
            UnknownModel: no such version is watched.
            InsufficientBaseline: fewer than 200 windows with enough rows.
            StoreUnavailable: no answer.
        """
        watch = self._watches.get(ModelVersion(model, version), {}).get(role)
        if watch is None:
            raise UnknownModel(f"{model}:{version} is not loaded or has no reference, so it has no windows")
        return await watch.declare_baseline(math.ceil(from_s), math.floor(to_s), self._wall_clock())

    # --- what the metrics read ------------------------------------------------------------------------

    @property
    def watches(self) -> list[SeriesWatch]:
        """What `gauges.py` reads."""
        return [watch for watches in self._watches.values() for watch in watches.values()]

    def seen_rows(self, role: Role) -> list[Sample]:
        """Read `monitoring_rows_total{model,version}`, or `monitoring_shadow_rows_total` for the shadow."""
        seen = self._recordings.seen_rows(role)
        return [((key.model, str(key.version)), float(rows)) for key, rows in seen.items()]

    def dropped_rows(self) -> list[Sample]:
        """Read `monitoring_dropped_rows_total{reason}`."""
        return [((reason,), float(rows)) for reason, rows in self._recordings.dropped_rows().items()]

    def store_up(self) -> list[Sample]:
        """Read what the monitor knows of `store_up`: whether the last flush was answered; nothing before the first."""
        return [] if self._flusher.is_up is None else [((), float(self._flusher.is_up))]

    def flush_errors(self) -> list[Sample]:
        """Read `store_flush_errors_total`."""
        return [((), float(self._flusher.errors))]

    @property
    def waiting_rows(self) -> int:
        """Count the rows that no store has acknowledged yet."""
        return self._recordings.waiting_rows()

    # --- small things ---------------------------------------------------------------------------------

    def _current(self, key: ModelVersion, role: Role) -> WindowResult | None:
        watch = self._watches.get(key, {}).get(role)
        return watch.current if watch else None

    def _report(self, key: ModelVersion, role: Role, *, features: bool = True) -> Report:
        watch = self._watches.get(key, {}).get(role)
        return report_version(
            key,
            role,
            self._yardsticks[key],
            watch.current if watch else None,
            baseline=watch.baseline if watch else None,
            features=features,
            reason=self._reasons[key],
        )

    async def _repeat(self, step: Callable[[], Awaitable[object]], interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await step()
            except Exception:
                # It is tried again: monitoring must not end with one fault.
                log.exception("monitoring_step_failed")

    async def _measure(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._measuring, work)
