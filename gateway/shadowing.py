"""Shadows: asks model versions what callers asked, in the time that no caller needs, and compares the answers.

Never delays a caller: nothing of it starts while one waits, and its failures are counted, not raised.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from random import random
from typing import Literal, Protocol

import numpy as np

from gateway.inference.registry import ServedVersion
from gateway.inference.signature import Signature
from gateway.inference.spare_runs import Answer
from gateway.messages import Array, ModelVersion, Tensors, Timings
from gateway.routing.comparison import Comparison, failed_comparison
from gateway.routing.published import PublishedRoute
from gateway.shadow_lane import Offered, ShadowAgreement, ShadowLane
from gateway.spare_time import Callers, SpareTime, run_delay_s
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

RUN_LIMIT_S = 30.0
"""A shadow's run that takes longer is ended, and counts as an error."""

LOG_INTERVAL_S = 60.0
_LARGE_ELEMENTS = 20_000
"""Answers with more values than these are compared off the loop."""
_SPARED_BYTES = 4096
"""So much more than its own size a waiting output may keep in memory; it is not worth a copy."""


class Observer(Protocol):
    """Takes the rows of answered requests; never raises and never waits."""

    def record(
        self, key: ModelVersion, role: Literal["primary", "shadow"], inputs: Tensors, outputs: Tensors, rows: int
    ) -> None:
        """Take the rows of one request after it was answered; the arrays must not be written to afterwards."""


class Shadowing:
    """Runs the shadows of all routes, one step a turn of the loop: a run begins, or an answer is compared.

    A shadow whose runs take a thread is left out while SpareTime rests.

    Attributes:
        callers: To be kept by whoever queues requests.
        observer: Is told of the rows that a shadow answered.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        run_limit_s: float = RUN_LIMIT_S,
        run_delay: Callable[[], float] = run_delay_s,
    ) -> None:
        """Begin without a shadow.

        Args:
            run_delay: See gateway.spare_time.run_delay_s.
        """
        self.callers = Callers()
        self._spare_time = SpareTime(self.callers, self._look, clock=clock, run_delay=run_delay)
        self.observer: Observer | None = None
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._run_limit_s = run_limit_s
        self._lanes: dict[tuple[str, str, ModelVersion], ShadowLane] = {}
        self._turns: deque[ShadowLane] = deque()
        self._answered: deque[tuple[ShadowLane, Offered, asyncio.Future[Answer]]] = deque()
        self._running: set[asyncio.Future[Answer]] = set()
        self._step_is_due = False
        self._is_stopping = False
        self._next_log_at: dict[tuple[str, str], float] = {}
        self._comparers = ThreadPoolExecutor(1, thread_name_prefix="compare")

    # --- which shadows there are -----------------------------------------------------------------------

    def publish(self, routes: Mapping[str, PublishedRoute]) -> None:
        """Take the routes in force; a shadow whose model version stays keeps its queue and its agreement."""
        before = self._lanes
        self._lanes = {}
        for name, published in routes.items():
            for shadow in published.route.shadows:
                key = (name, shadow.name, shadow.model_version)
                lane = before.get(key) or ShadowLane(name, shadow, self._metrics)
                lane.shadow = shadow
                self._lanes[key] = lane
        for key, lane in before.items():
            if key not in self._lanes:
                lane.is_open = False
                lane.empty("stopping")
        self._turns = deque(self._lanes.values())
        kept = {(route, name) for route, name, _ in self._lanes}
        for route, name in {(route, name) for route, name, _ in before} - kept:
            self._metrics.forget_labels(route=route, shadow=name)

    def lanes(
        self,
        published: PublishedRoute,
        served: Callable[[ModelVersion], ServedVersion | None],
        primary: Signature | None,
    ) -> tuple[ShadowLane, ...]:
        """Return the shadows of a route in its order, with the versions that are READY behind them now.

        Args:
            primary: What the route's callers send; None while no variant is READY.
        """
        lanes = tuple(
            self._lanes[published.route.name, shadow.name, shadow.model_version] for shadow in published.route.shadows
        )
        for lane in lanes:
            lane.serve_with(served(lane.key), primary)
        return lanes

    def agreements(self, route: str) -> list[ShadowAgreement]:
        """Show how far each shadow of a route agrees with the answers that callers got on this replica."""
        return [lane.report() for (name, _, _), lane in self._lanes.items() if name == route]

    # --- requests --------------------------------------------------------------------------------------

    def offer(
        self,
        lanes: tuple[ShadowLane, ...],
        published: PublishedRoute,
        key: bytes | None,
        *,
        inputs: dict[str, Array],
        rows: int,
        outputs: dict[str, Array],
        timings: Timings,
        request_id: bytes,
    ) -> None:
        """Let the shadows of a route have a request that is answered, each its own sample.

        Args:
            key: The caller's routing key, which decides the sample; None draws.
            outputs: What the caller got.
        """
        if not rows:
            return
        splitter = published.splitter
        offered: Offered | None = None
        for index, lane in enumerate(lanes):
            if not (splitter.is_sampled(index, key) if key else splitter.is_sampled_at(index, random())):
                continue
            refusal = "stopping" if self._is_stopping else lane.refusal(outputs)
            if refusal is None and lane.is_full:  # said before anything is made for it
                refusal = "queue_full"
            if refusal is not None:
                lane.drop(refusal)
                continue
            if offered is None:
                outputs = _by_themselves(outputs)
                size_bytes = _size_bytes(inputs.values()) + _size_bytes(outputs.values())
                offered = Offered(
                    inputs,
                    rows,
                    outputs,
                    request_id,
                    timings.inference_s,
                    size_bytes,
                    self._clock(),
                    self._wall_clock(),
                )
            if lane.is_open:
                lane.put(offered)
        if offered is not None:
            self._look()

    async def stop(self) -> None:
        """Drop what waits and end what runs."""
        self._is_stopping = True
        self.callers.on_none = None
        for lane in self._lanes.values():
            lane.empty("stopping")
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._spare_time.stop()
        for lane, _, _ in self._answered:
            lane.drop("stopping")
        self._answered.clear()
        self._comparers.shutdown(wait=False, cancel_futures=True)

    # --- one step at a time ----------------------------------------------------------------------------

    def _look(self) -> None:
        """Go on at the next turn of the loop, or when the last caller is answered."""
        if self._step_is_due or self._is_stopping:
            return
        if self.callers.count:
            self.callers.on_none = self._look
            return
        self.callers.on_none = None
        self._step_is_due = True
        asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        """Do one short thing, if no caller waits; then let the loop look after its sockets."""
        self._step_is_due = False
        if self._is_stopping:
            return
        if self.callers.count:
            self._look()
        elif self._answered:
            self._compare(*self._answered.popleft())
            self._look()
        else:
            resting = self._spare_time.is_resting
            lane = next((lane for lane in self._turns if lane.is_waiting and not (resting and lane.is_slow)), None)
            if lane is not None:
                self._turns.remove(lane)  # behind the others from now on
                self._turns.append(lane)
                self._begin(lane)
                self._look()

    def _begin(self, lane: ShadowLane) -> None:
        """Run the oldest request of a shadow."""
        offered = lane.take(self._clock())
        served = lane.served
        if offered is None or served is None:
            return
        lane.is_busy = True
        batcher = served.batcher
        batcher.acquire()
        run = self._spare_time.begin() if lane.is_slow else None
        answer = batcher.spare.run(offered.inputs, offered.rows, lane.wanted(offered.outputs))
        lane.is_slow = not answer.done()
        limit = asyncio.get_running_loop().call_later(self._run_limit_s, answer.cancel)
        self._running.add(answer)

        def end(_: asyncio.Future[Answer]) -> None:
            limit.cancel()
            self._running.discard(answer)
            batcher.release()
            if run is not None:
                self._spare_time.end(run)
            self._answered.append((lane, offered, answer))
            self._look()

        answer.add_done_callback(end)

    def _compare(self, lane: ShadowLane, offered: Offered, answer: asyncio.Future[Answer]) -> None:
        """Compare one answer; a large one off the loop."""
        failure = TimeoutError("the run took too long") if answer.cancelled() else answer.exception()
        if failure is not None:
            self._tell_rarely(lane, failure)
            self._count(lane, offered, failed_comparison(str(failure)), None)
            return
        outputs, timings = answer.result()
        if self.observer is not None:
            self.observer.record(lane.key, "shadow", offered.inputs, outputs, offered.rows)
        if sum(array.size for array in outputs.values()) <= _LARGE_ELEMENTS:
            self._count(lane, offered, _compared(lane, offered, outputs), timings.inference_s)
            return
        comparing = asyncio.get_running_loop().run_in_executor(self._comparers, _compared, lane, offered, outputs)

        def end(done: asyncio.Future[Comparison]) -> None:
            if not done.cancelled():
                self._count(lane, offered, done.result(), timings.inference_s)

        comparing.add_done_callback(end)

    def _count(self, lane: ShadowLane, offered: Offered, comparison: Comparison, run_s: float | None) -> None:
        lane.count(comparison, offered, run_s)
        lane.is_busy = False
        self._look()

    def _tell_rarely(self, lane: ShadowLane, failure: BaseException) -> None:
        """Log a failure at most once a minute for each shadow: they are counted, and a bad version has many."""
        now = self._clock()
        key = (lane.route, lane.shadow.name)
        if now < self._next_log_at.get(key, 0.0):
            return
        self._next_log_at[key] = now + LOG_INTERVAL_S
        facts = {"route": lane.route, "shadow": lane.shadow.name, "model_version": str(lane.key)}
        log.warning("shadow_failed", extra=facts | {"reason": str(failure)})


def _compared(lane: ShadowLane, offered: Offered, outputs: Tensors) -> Comparison:
    """Compare; what cannot even be compared is an error of the shadow's."""
    try:
        return lane.compare(offered, outputs)
    except Exception as exc:  # noqa: BLE001 - a model may answer anything; callers must never notice
        return failed_comparison(f"the answers cannot be compared: {exc}")


def _by_themselves(outputs: dict[str, Array]) -> dict[str, Array]:
    """Cut outputs off the batch of other callers' that they are a small piece of: it would stay in memory with them."""
    if all(
        not isinstance(array.base, np.ndarray) or array.base.nbytes - array.nbytes <= _SPARED_BYTES
        for array in outputs.values()
    ):
        return outputs
    return {name: array.copy() for name, array in outputs.items()}


def _size_bytes(arrays: Iterable[Array]) -> int:
    return sum(array.nbytes for array in arrays)
