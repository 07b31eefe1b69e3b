"""Runs requests of one model version that no caller waits for: alone, beside the queue, at a lower priority.

Decides nothing about when; whoever asks has seen that nobody else waits, and holds a lease until it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec

from gateway.errors import GatewayError, InferenceFailed
from gateway.inference.execution import BatchRun, run_batch
from gateway.inference.loader import LoadedVersion
from gateway.inference.session import RunStop
from gateway.messages import Array, Timings
from gateway.telemetry.metrics import Metrics

INLINE_LIMIT_S = 150e-6
"""As for callers: a thread costs 48 microseconds, and for a shorter run than this the loop can spare the time."""

_NICENESS = 5
"""A third of the processor time of a thread of callers, where both want it."""

Answer = tuple[dict[str, Array], Timings]


class SpareRequest(msgspec.Struct, frozen=True):
    """A request in arrays that nobody waits for."""

    inputs: dict[str, Array]
    rows: int
    outputs: tuple[str, ...]

    def is_abandoned(self) -> bool:
        """Say no: there is no caller who could leave."""
        return False


class SpareRuns:
    """The way to a version's session beside its queue.

    It takes no session from callers: a session runs for several threads at a time.
    """

    def __init__(self, loaded: LoadedVersion, metrics: Metrics, *, loop: asyncio.AbstractEventLoop) -> None:
        self._loaded = loaded
        self._loop = loop
        self._rows_per_run = loaded.config.batching.max_rows if loaded.sharing.shares_runs else None
        self._threads: ThreadPoolExecutor | None = None
        labels = (loaded.key.model, str(loaded.key.version))
        self._runs = metrics.counter("batches_total", *labels, "shadow")
        self._inference_duration = metrics.histogram("inference_duration_seconds", *labels)
        self._batch_rows = metrics.histogram("batch_rows", *labels)

    def run(self, inputs: dict[str, Array], rows: int, outputs: tuple[str, ...]) -> asyncio.Future[Answer]:
        """Run a request now: on the loop if that is short, else in a thread of lower priority.

        Args:
            rows: At least 1.
            outputs: The outputs to compute, all when empty.
        Returns: Resolves to outputs and timings, or raises the request's own error. Cancel it to end the run.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        request = SpareRequest(inputs, rows, outputs)
        loaded = self._loaded
        size = loaded.equivalent_rows([request], rows)
        if loaded.run_time.predict(size) < INLINE_LIMIT_S:
            run = self._run(request, None)
            if run.runs == 1 and run.run_s:
                loaded.run_time.learn(size, run.run_s)
            self._settle(request, answer, run)
            return answer
        if self._threads is None:
            name = f"spare-{loaded.key}"
            self._threads = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_lower_priority)
        stop = RunStop()
        answer.add_done_callback(lambda _: stop.stop())
        running = self._loop.run_in_executor(self._threads, self._run, request, stop)
        running.add_done_callback(lambda done: self._settle(request, answer, done.result()))
        return answer

    def close(self) -> None:
        """End the thread, if there is one."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def _run(self, request: SpareRequest, stop: RunStop | None) -> BatchRun:
        """Run one request; whatever goes wrong is its outcome."""
        try:
            return run_batch(
                self._loaded.sessions[0],
                [request],
                request.rows,
                rows_per_run=self._rows_per_run,
                fixed_rows=self._loaded.sharing.fixed_rows,
                stop=stop,
            )
        except GatewayError as exc:
            return BatchRun([exc], 1, 0.0, 0.0, 0.0)
        except Exception as exc:  # noqa: BLE001 - told to whoever asked, who logs it at most rarely
            failure = InferenceFailed(f"{self._loaded.key}: {type(exc).__name__}: {exc}")
            return BatchRun([failure], 1, 0.0, 0.0, 0.0)

    def _settle(self, request: SpareRequest, answer: asyncio.Future[Answer], run: BatchRun) -> None:
        self._runs.add()
        self._batch_rows.observe(request.rows)
        self._inference_duration.observe(run.run_s)
        if answer.done():
            return
        outcome = run.outcomes[0]
        if isinstance(outcome, dict):
            answer.set_result((outcome, Timings(0.0, run.run_s)))
        else:
            answer.set_exception(outcome)


def _lower_priority() -> None:
    """Let other threads go first; a system without priorities of threads treats all alike.

    Not by much: for a few microseconds of each run the thread holds the interpreter lock, and the event loop would wait
    with it for whatever else keeps the processor busy.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
