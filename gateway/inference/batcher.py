"""Lets requests that arrive together share a run of one model version: holds its queue, timers and threads.

Decides nothing itself: RowQueue says who runs together, RunTime whether the loop can spare the time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
import numpy as np

from gateway.errors import DeadlineExceeded, GatewayError, InferenceFailed, InvalidInput, ShuttingDown
from gateway.inference.batch_series import BatchSeries
from gateway.inference.execution import BatchRun, run_batch, run_isolated
from gateway.inference.gathering import Gathering
from gateway.inference.loader import LoadedVersion
from gateway.inference.row_queue import Batch, RowQueue
from gateway.inference.session import RunStop, Session, usable_cpus
from gateway.inference.signature import NUMPY_TYPES
from gateway.inference.spare_runs import SpareRuns
from gateway.inference.statistics import Statistics
from gateway.messages import Array, Tensors, Timings
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

INLINE_LIMIT_S = 150e-6
"""A thread costs 48 microseconds and a loop that is held delays everybody: below this the loop runs it itself."""

LONE_INLINE_LIMIT_S = 3e-3
"""The same where there is one processor: a thread there runs nothing at the same time, it only lets others overtake."""

Answer = tuple[dict[str, Array], Timings]
Observe = Callable[[Tensors, Tensors, int], None]
"""Takes inputs, outputs and their rows, which nobody writes to afterwards; of a whole batch where it can be."""


class QueuedRequest(msgspec.Struct, frozen=True):
    """One caller's request in the queue of one version.

    Attributes:
        deadline: When its run must have begun. answer_by: When it must be answered; the same but for a queue timeout.
    """

    inputs: dict[str, Array]
    rows: int
    outputs: tuple[str, ...]
    group: Hashable
    deadline: float
    arrived_at: float
    answer: asyncio.Future[Answer]
    answer_by: float

    def is_abandoned(self) -> bool:
        """Tell whether its caller has gone."""
        return self.answer.done()


@dataclass(eq=False, slots=True)
class _Running:
    batch: Batch[QueuedRequest]
    session: Session
    started_at: float
    stop: RunStop = field(default_factory=RunStop)


class Batcher:
    """The only way to a version's sessions. All times are `time.monotonic()` seconds."""

    def __init__(
        self,
        loaded: LoadedVersion,
        metrics: Metrics,
        *,
        loop: asyncio.AbstractEventLoop,
        observe: Observe | None = None,
        gathering: Gathering | None = None,
        cpus: int | None = None,
    ) -> None:
        """Make the way to a version's sessions.

        Args:
            observe: Is given the rows of requests that were answered.
            gathering: Of all versions of the process; its own when absent.
            cpus: Processors that this process may keep busy; found out when absent.
        """
        self._observe = observe
        key, batching, sharing = loaded.key, loaded.config.batching, loaded.sharing
        is_lone = (cpus or usable_cpus()) == 1 and loaded.sessions[0].providers == ("cpu",)
        self._inline_limit_s = LONE_INLINE_LIMIT_S if is_lone else INLINE_LIMIT_S
        self._name = str(key)
        self._loaded = loaded
        self._loop = loop
        self._signature = loaded.signature
        self._run_time = loaded.run_time
        self._rows_per_run = batching.max_rows if sharing.shares_runs else None
        self._fixed_rows = sharing.fixed_rows
        max_rows = sharing.fixed_rows or min(batching.max_rows, loaded.run_time.efficient_rows())
        self._full_rows = max_rows if sharing.shares_runs else 0
        self._queue: RowQueue[QueuedRequest] = RowQueue(
            name=self._name,
            max_rows=max_rows,
            max_queue_rows=batching.max_queue_rows,
            max_queue_delay_s=batching.max_queue_delay_ms / 1000,
            shares_runs=sharing.shares_runs,
            preferred_rows=batching.preferred_rows,
            max_queue_requests=batching.max_queue_requests,
        )
        self._queue_timeout_s = batching.queue_timeout_ms / 1000
        self._idle: list[Session] = list(loaded.sessions)
        self._running: set[_Running] = set()
        self._threads = ThreadPoolExecutor(len(loaded.sessions), thread_name_prefix=f"run-{self._name}")
        self._flush_is_due = False
        self._gathering = gathering or Gathering()
        self._delay_timer: asyncio.TimerHandle | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._deadline_at = float("inf")
        self._drained: asyncio.Future[None] | None = None
        self._leases = 0
        self.spare = SpareRuns(loaded, metrics, loop=loop)
        self.statistics = Statistics()
        self._series = BatchSeries(metrics, key)

    @property
    def queued_rows(self) -> int:
        """Rows waiting for a run."""
        return self._queue.rows

    def submit(
        self, inputs: dict[str, Array], rows: int, outputs: tuple[str, ...], deadline: float
    ) -> asyncio.Future[Answer]:
        """Queue a request that fits the signature.

        Returns: Resolves to outputs and timings, or raises the request's own error. Cancel it to give up.
        Raises:
            InvalidInput: an input is empty, but not for want of rows.
            TooLarge, Overloaded: the queue has no room.
        """
        if not rows or (not self._signature.is_static and any(not array.size for array in inputs.values())):
            return self._answer_empty(rows, outputs)
        group: Hashable = outputs or None
        if not self._signature.is_static:
            group = (outputs, *(inputs[spec.name].shape[1:] for spec in self._signature.inputs))
        answer: asyncio.Future[Answer] = self._loop.create_future()
        now = time.monotonic()
        begin_by = min(deadline, now + self._queue_timeout_s) if self._queue_timeout_s else deadline
        self._queue.put(QueuedRequest(inputs, rows, outputs, group, begin_by, now, answer, deadline))
        if begin_by < self._deadline_at:
            self._arm_deadline(begin_by)
        if self._idle:
            if not self._flush_is_due:
                self._flush_is_due = True
                self._gathering.wait(self._loop, self._flush, enough_rows=self._full_rows)
            self._gathering.arrive(rows)
        return answer

    def _answer_empty(self, rows: int, outputs: tuple[str, ...]) -> asyncio.Future[Answer]:
        """Answer no rows with no rows, without a run: some operators end the whole process on empty tensors."""
        if rows or self._signature.rows is None:
            raise InvalidInput(f"{self._name}: an input is empty, expected at least one element in each")
        specs = self._signature.output_by_name
        empty: dict[str, Array] = {
            name: np.empty((0, *(max(size, 0) for size in specs[name].shape[1:])), NUMPY_TYPES[specs[name].datatype])
            for name in outputs or specs
        }
        answer: asyncio.Future[Answer] = self._loop.create_future()
        answer.set_result((empty, Timings(0.0, 0.0)))
        return answer

    def acquire(self) -> None:
        """Keep the version alive for a request that has chosen it, until release()."""
        self._leases += 1

    def release(self) -> None:
        """Let go of the version."""
        self._leases -= 1
        if self._drained is not None:
            self._settle_drain()

    async def drain(self) -> None:
        """Wait until everybody who chose this version is answered, and end the threads."""
        if self._drained is None:
            self._drained = self._loop.create_future()
        self._settle_drain()
        await asyncio.shield(self._drained)
        for timer in (self._deadline_timer, self._delay_timer):
            if timer is not None:
                timer.cancel()
        self._threads.shutdown(wait=False)
        self.spare.close()

    def abort(self) -> None:
        """Answer everybody at once that the server is stopping, and end the runs in progress."""
        for running in self._running:
            running.stop.stop()
        for request in [*self._queue, *(request for running in self._running for request in running.batch.requests)]:
            if not request.answer.done():
                request.answer.set_exception(ShuttingDown(f"{self._name}: the server is stopping"))
        self._flush()

    def _flush(self) -> None:
        """Start what is due. Runs hold the loop as long as one run may; the next waits behind other callbacks."""
        self._flush_is_due = False
        now = time.monotonic()
        if self._deadline_at <= now:  # the queue drops whoever is too late by now, and then nobody would answer them
            self._settle_expired(now)
        left_s = self._inline_limit_s
        while self._idle:
            batch = self._queue.next_batch(now)
            if batch is None:
                break
            run_s = self._run_time.predict(self._loaded.equivalent_rows(batch.requests, batch.rows))
            if run_s >= self._inline_limit_s:
                self._run_in_thread(batch)
                continue
            self._run_on_loop(batch)
            left_s -= run_s
            if left_s < run_s and not self._queue.is_empty:
                self._flush_is_due = True
                self._loop.call_soon(self._flush)
                break
        if not self._queue.is_empty and not self._flush_is_due and self._idle:
            self._arm_delay()
        self._settle_drain()

    def _run_on_loop(self, batch: Batch[QueuedRequest]) -> None:
        started_at = time.monotonic()
        try:
            run = run_batch(
                self._idle[-1],
                batch.requests,
                batch.rows,
                rows_per_run=self._rows_per_run,
                fixed_rows=self._fixed_rows,
            )
        except GatewayError as exc:
            if len(batch.requests) > 1:
                self._run_in_thread(batch, failure=exc)
                return
            run = BatchRun([exc], 1, 0.0, 0.0, 0.0)
        except Exception as exc:  # noqa: BLE001 - logged there, told to the callers
            run = self._crashed(batch, exc)
        self._settle(batch, run, started_at)

    def _run_in_thread(self, batch: Batch[QueuedRequest], *, failure: GatewayError | None = None) -> None:
        running = _Running(batch, self._idle.pop(), time.monotonic())
        self._running.add(running)
        for request in batch.requests:
            request.answer.add_done_callback(lambda _: self._stop_if_unwanted(running))
        future = self._loop.run_in_executor(self._threads, self._run_guarded, running, failure)
        future.add_done_callback(lambda done: self._finish(running, done))

    def _run_guarded(self, running: _Running, failure: GatewayError | None) -> BatchRun:
        """Run a batch in a thread; when it fails as a whole, once more one by one."""
        requests = running.batch.requests
        try:
            if failure is None:
                return run_batch(
                    running.session,
                    requests,
                    running.batch.rows,
                    rows_per_run=self._rows_per_run,
                    fixed_rows=self._fixed_rows,
                    stop=running.stop,
                )
        except GatewayError as exc:
            failure = exc
        return run_isolated(
            running.session,
            requests,
            rows_per_run=self._rows_per_run,
            fixed_rows=self._fixed_rows,
            failure=failure,
            stop=running.stop,
        )

    def _finish(self, running: _Running, done: asyncio.Future[BatchRun]) -> None:
        self._running.discard(running)
        self._idle.append(running.session)
        error = done.exception()
        run = done.result() if error is None else self._crashed(running.batch, error)
        self._settle(running.batch, run, running.started_at)
        self._flush()

    def _crashed(self, batch: Batch[QueuedRequest], error: BaseException) -> BatchRun:
        """Answer a batch that failed with none of our errors: memory, or a fault of ours; the callers must not hang."""
        log.error("run_crashed", exc_info=error, extra={"model_version": self._name})
        failure = InferenceFailed(f"{self._name}: {type(error).__name__}: {error}")
        return BatchRun([failure] * len(batch.requests), 0, 0.0, 0.0, 0.0)

    def _settle(self, batch: Batch[QueuedRequest], run: BatchRun, started_at: float) -> None:
        statistics = self.statistics
        series = self._series
        observe_delay = series.queue_delay.observe
        run_s = run.run_s
        answered = told = 0
        waited_s = 0.0
        for request, outcome in zip(batch.requests, run.outcomes, strict=True):
            queue_s = started_at - request.arrived_at
            observe_delay(queue_s)
            answer = request.answer
            if isinstance(outcome, dict):
                answered += 1
                waited_s += queue_s
                if not answer.done():
                    told += 1
                    answer.set_result((outcome, Timings(queue_s, run_s)))
            else:
                statistics.fail.add(queue_s + run_s)
                if not answer.done():
                    answer.set_exception(outcome)
        if told and self._observe is not None:
            if run.shared is not None and told == len(batch.requests):
                self._observe(*run.shared, batch.rows)
            else:
                self._observe_singly(batch, run, self._observe)
        series.count(batch.reason)
        if run.isolated:
            series.count("isolated", run.isolated)
        series.rows.observe(batch.rows)
        series.inference_duration.observe(run_s)
        if answered:
            if run.runs == 1:
                self._run_time.learn(self._loaded.equivalent_rows(batch.requests, batch.rows), run_s)
            statistics.last_at = time.time()
            statistics.count_batch(
                requests=answered,
                queue_s=waited_s,
                rows=batch.rows,
                runs=run.runs,
                assemble_s=run.assemble_s,
                run_s=run_s,
                split_s=run.split_s,
            )

    @staticmethod
    def _observe_singly(batch: Batch[QueuedRequest], run: BatchRun, observe: Observe) -> None:
        """Give the rows of those who were answered, and not of those who had left."""
        for request, outcome in zip(batch.requests, run.outcomes, strict=True):
            if isinstance(outcome, dict) and not request.answer.cancelled() and request.answer.exception() is None:
                observe(request.inputs, outcome, request.rows)

    def _stop_if_unwanted(self, running: _Running) -> None:
        if running in self._running and all(request.is_abandoned() for request in running.batch.requests):
            running.stop.stop()

    def _arm_delay(self) -> None:
        release_at = self._queue.release_at()
        if release_at is not None:
            if self._delay_timer is not None:
                self._delay_timer.cancel()
            self._delay_timer = self._loop.call_later(max(0.0, release_at - time.monotonic()), self._flush)

    def _arm_deadline(self, deadline: float) -> None:
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._deadline_at = deadline
        self._deadline_timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._expire)

    def _expire(self) -> None:
        """Answer everybody who is too late, and use the room."""
        self._settle_expired(time.monotonic())
        self._flush()

    def _settle_expired(self, now: float) -> None:
        """Answer everybody whose deadline has passed, queued or running; then wait for the next deadline."""
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._deadline_timer = None
        self._deadline_at = float("inf")
        earliest = float("inf")
        running = [request for one in self._running for request in one.batch.requests]
        for where, deadlines in (
            ("in the queue", [(request, request.deadline) for request in self._queue]),
            ("while running", [(request, request.answer_by) for request in running]),
        ):
            for request, deadline in deadlines:
                if request.answer.done():
                    continue
                if deadline <= now:
                    waited_ms = (now - request.arrived_at) * 1000
                    request.answer.set_exception(
                        DeadlineExceeded(f"{self._name}: the deadline passed after {waited_ms:.0f} ms {where}")
                    )
                else:
                    earliest = min(earliest, deadline)
        if earliest < float("inf"):
            self._arm_deadline(earliest)

    def _settle_drain(self) -> None:
        if self._drained is None or self._drained.done():
            return
        if not self._leases and not self._running and all(request.is_abandoned() for request in self._queue):
            self._drained.set_result(None)
