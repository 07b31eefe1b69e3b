"""Holds the batcher to its promises: who shares a run, who is left in peace, and that everybody is answered.

Waits for events, never for time to pass; a held session lets go only when told.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Protocol, TypeVar, Unpack

import numpy as np
import pytest

from gateway.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidInput,
    Overloaded,
    ShuttingDown,
    TooLarge,
)
from gateway.inference.batcher import INLINE_LIMIT_S, LONE_INLINE_LIMIT_S, Answer, Batcher, Observe
from gateway.inference.loader import Sharing
from gateway.inference.model_config import Execution
from gateway.inference.run_time import RunTime
from gateway.inference.session import OnnxSession, Session
from gateway.messages import Array, Tensors
from gateway.telemetry.metrics import Metrics
from tests.inference.stub_session import ALONE, CRASHES, KEY, PATIENCE_S, Settings, StubSession, column, loaded_version
from tests.support import onnx_models

T = TypeVar("T")

QUICK_S = INLINE_LIMIT_S / 10
NEVER = float("inf")
LABELS = (KEY.model, str(KEY.version))


class MakeBatcher(Protocol):
    """Makes a batcher of these sessions."""

    def __call__(
        self, *sessions: Session, cpus: int = 2, observe: Observe | None = None, **settings: Unpack[Settings]
    ) -> Batcher:
        """See loaded_version()."""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def make_batcher(metrics: Metrics) -> AsyncIterator[MakeBatcher]:
    """Return a maker of batchers that are emptied and ended with the test."""
    async with AsyncExitStack() as stack:

        def make(
            *sessions: Session, cpus: int = 2, observe: Observe | None = None, **settings: Unpack[Settings]
        ) -> Batcher:
            loaded = loaded_version(*sessions, **settings)
            batcher = Batcher(loaded, metrics, loop=asyncio.get_running_loop(), observe=observe, cpus=cpus)
            stack.push_async_callback(batcher.drain)
            for session in sessions:
                if isinstance(session, StubSession):
                    stack.callback(session.may_finish.set)
            return batcher

        yield make


def submit(
    batcher: Batcher, *values: float, outputs: tuple[str, ...] = ("y",), deadline: float = NEVER
) -> asyncio.Future[Answer]:
    return batcher.submit(column(*values), len(values), outputs, deadline)


async def soon(awaitable: Awaitable[T]) -> T:
    """Wait for what must come, but not for ever."""
    return await asyncio.wait_for(awaitable, PATIENCE_S)


async def answered(answer: asyncio.Future[Answer], name: str = "y") -> list[float]:
    outputs, _ = await soon(answer)
    found: list[float] = outputs[name][:, 0].tolist()
    return found


async def entered(session: StubSession) -> None:
    """Wait until the session is in its next run."""
    assert await asyncio.to_thread(session.entered.acquire, timeout=PATIENCE_S)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    ends_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends_at
        await asyncio.sleep(0)


def run_threads() -> list[str]:
    """Return the threads that runs have, also those of an earlier test that are just ending."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(f"run-{KEY}")]


def ran(session: StubSession) -> list[list[float]]:
    return [run.values for run in session.runs]


def batches(metrics: Metrics, reason: str) -> int:
    return metrics.counter("batches_total", *LABELS, reason).value


# --- who shares a run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_what_arrives_in_one_turn_of_the_loop_is_one_run(
    make_batcher: MakeBatcher, metrics: Metrics, run_s: float
) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s)
    answers = [submit(batcher, 1), submit(batcher, 2, 3), submit(batcher, 4)]
    assert batcher.queued_rows == 4
    assert [await answered(answer) for answer in answers] == [[2], [4, 6], [8]]
    assert ran(session) == [[1, 2, 3, 4]]
    assert (batches(metrics, "drained"), batcher.queued_rows) == (1, 0)


async def test_while_a_run_is_under_way_the_next_batch_forms(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session)
    first = submit(batcher, 1)
    await entered(session)
    late = [submit(batcher, value) for value in (2, 3, 4)]
    session.may_finish.set()
    assert await answered(first) == [2]
    assert [await answered(answer) for answer in late] == [[4], [6], [8]]
    assert ran(session) == [[1], [2, 3, 4]]


async def test_a_batch_holds_at_most_max_rows(make_batcher: MakeBatcher, metrics: Metrics) -> None:
    session = StubSession()
    batcher = make_batcher(session, max_rows=4)
    answers = [submit(batcher, value, value) for value in range(5)]
    await soon(asyncio.gather(*answers))
    assert ran(session) == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4]]
    assert (batches(metrics, "full"), batches(metrics, "drained")) == (2, 1)


async def test_a_request_above_max_rows_is_answered_whole(make_batcher: MakeBatcher, metrics: Metrics) -> None:
    session = StubSession()
    batcher = make_batcher(session, max_rows=4)
    assert await answered(submit(batcher, *range(10))) == [2 * value for value in range(10)]
    assert [len(values) for values in ran(session)] == [4, 4, 2]
    assert batches(metrics, "oversize") == 1


async def test_requests_for_different_outputs_do_not_share_a_run(make_batcher: MakeBatcher, metrics: Metrics) -> None:
    session = StubSession()
    batcher = make_batcher(session)
    answers = [submit(batcher, 1, outputs=("y",)), submit(batcher, 2, outputs=("z",)), submit(batcher, 3, outputs=())]
    assert [sorted((await soon(answer))[0]) for answer in answers] == [["y"], ["z"], ["y", "z"]]
    assert [run.outputs for run in session.runs] == [("y",), ("z",), ()]
    assert batches(metrics, "shape") == 2


async def test_a_model_that_shares_no_runs_gets_each_request_alone(make_batcher: MakeBatcher, metrics: Metrics) -> None:
    session = StubSession()
    batcher = make_batcher(session, sharing=ALONE, max_queue_delay_ms=60_000.0)
    answers = [submit(batcher, 1), submit(batcher, *range(20)), submit(batcher, 3)]
    await soon(asyncio.gather(*answers))
    assert ran(session) == [[1], [float(value) for value in range(20)], [3]]
    assert batches(metrics, "single") == 3


async def test_fixed_rows_are_filled_and_cut(make_batcher: MakeBatcher, metrics: Metrics) -> None:
    session = StubSession()
    batcher = make_batcher(session, sharing=Sharing(shares_runs=True, reason="", fixed_rows=3))
    assert [await answered(answer) for answer in [submit(batcher, 1), submit(batcher, 2)]] == [[2], [4]]
    assert await answered(submit(batcher, 1, 2, 3, 4)) == [2, 4, 6, 8]
    assert ran(session) == [[1, 2, 2], [1, 2, 3], [4, 4, 4]]


def two_free_axes(w: int, x: int) -> dict[str, Array]:
    """Return inputs of one row, x and w of any length, named in the order a client happened to send."""
    return {"w": np.full((1, w), 1, np.float32), "x": np.full((1, x), 2, np.float32)}


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_only_requests_of_one_shape_share_a_run_in_whatever_order_their_inputs_came(
    make_batcher: MakeBatcher, run_s: float
) -> None:
    model = onnx_models.side_by_side(("rows", "n"), ("rows", "m"))
    batcher = make_batcher(OnnxSession(model, Execution(), name=str(KEY)), run_s=run_s)
    turned = dict(reversed(two_free_axes(2, 3).items()))
    sent = [two_free_axes(2, 3), turned, two_free_axes(3, 2), two_free_axes(2, 3)]
    answers = [batcher.submit(inputs, 1, (), NEVER) for inputs in sent]
    for inputs, answer in zip(sent, answers, strict=True):
        outputs, _ = await soon(answer)
        np.testing.assert_array_equal(outputs["p"], inputs["x"])
        np.testing.assert_array_equal(outputs["q"], inputs["w"])
    assert batcher.statistics.runs == 2


async def test_a_real_model_answers_many_callers_as_it_answers_one(make_batcher: MakeBatcher) -> None:
    session = OnnxSession(onnx_models.affine(), Execution(), name=str(KEY))
    random = np.random.default_rng(5)
    sent = [random.random((rows, 3), np.float32) for rows in random.integers(1, 5, 64)]
    for run_s in (QUICK_S, 1.0):
        batcher = make_batcher(session, run_s=run_s, max_queue_rows=1000)
        answers = [batcher.submit({"x": x}, len(x), (), NEVER) for x in sent]
        for x, (outputs, _) in zip(sent, await soon(asyncio.gather(*answers)), strict=True):
            np.testing.assert_array_equal(outputs["y"], session.run({"x": x}, ())[0])
        assert batcher.statistics.runs < len(sent)


# --- on the loop, or in a thread ------------------------------------------------------------------------------


@pytest.mark.parametrize(("run_s", "on_loop"), [(QUICK_S, True), (INLINE_LIMIT_S * 1.01, False)])
async def test_a_short_run_holds_the_loop_and_a_long_one_a_thread(
    make_batcher: MakeBatcher, run_s: float, *, on_loop: bool
) -> None:
    session = StubSession()
    await soon(submit(make_batcher(session, run_s=run_s), 1))
    assert [run.on_loop for run in session.runs] == [on_loop]


@pytest.mark.parametrize(
    ("run_s", "provider", "on_loop"),
    [
        (INLINE_LIMIT_S * 1.01, "cpu", True),
        (LONE_INLINE_LIMIT_S * 1.01, "cpu", False),
        (INLINE_LIMIT_S * 1.01, "cuda", False),
    ],
)
async def test_on_a_lone_processor_a_thread_is_worth_it_for_long_runs_and_other_devices(
    make_batcher: MakeBatcher, run_s: float, provider: str, *, on_loop: bool
) -> None:
    session = StubSession()
    session.providers = (provider,)
    await soon(submit(make_batcher(session, run_s=run_s, cpus=1), 1))
    assert [run.on_loop for run in session.runs] == [on_loop]


async def test_a_run_of_unknown_length_goes_to_a_thread_and_to_the_loop_once_it_was_short(
    make_batcher: MakeBatcher,
) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=NEVER)
    for _ in range(2):
        await soon(submit(batcher, 1))
    assert [run.on_loop for run in session.runs] == [False, True]


@pytest.mark.parametrize(("run_s", "before_the_turn"), [(INLINE_LIMIT_S * 0.6, 1), (INLINE_LIMIT_S * 0.4, 2)])
async def test_the_loop_turns_when_runs_held_it_as_long_as_one_may(
    make_batcher: MakeBatcher, run_s: float, before_the_turn: int
) -> None:
    """What was read from a socket meanwhile must not wait for all the queue."""
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s)
    answers = [submit(batcher, value, outputs=outputs) for value, outputs in enumerate((("y",), ("z",), ("y", "z")))]
    await until(lambda: bool(session.runs))
    assert len(session.runs) == before_the_turn
    await soon(asyncio.gather(*answers))
    assert len(session.runs) == 3


@pytest.mark.parametrize(
    ("turns", "max_rows", "runs"),
    [
        pytest.param((2, 1, 2), 8, [5], id="each turn brings more"),
        pytest.param((2, 0, 1), 8, [2, 1], id="a turn brings nobody"),
        pytest.param((1, 1), 8, [1, 1], id="a lone one starts at once"),
        pytest.param((2, 1), 2, [2, 1], id="the run is full"),
        pytest.param((2, 0, 0, 1, 1), 8, [2, 2], id="one of several comes back first"),
    ],
)
async def test_requests_that_keep_coming_share_the_run(
    make_batcher: MakeBatcher, turns: tuple[int, ...], max_rows: int, runs: list[int]
) -> None:
    """Turn after turn of the loop more are read, while the first ones wait: for as long as there are more."""
    session = StubSession()
    batcher = make_batcher(session, run_s=QUICK_S, max_rows=max_rows)
    answers: list[asyncio.Future[Answer]] = []
    for arriving in turns:
        answers += [submit(batcher, 1) for _ in range(arriving)]
        await asyncio.sleep(0)
    await soon(asyncio.gather(*answers))
    assert [len(run.values) for run in session.runs] == runs


@pytest.mark.parametrize(
    ("requests", "length", "on_loop"), [(1, 16, True), (1, 4000, False), (2, 16, False), (2, 8, True)]
)
async def test_longer_requests_count_as_more_rows(
    make_batcher: MakeBatcher, requests: int, length: int, *, on_loop: bool
) -> None:
    """A thousand times the elements must not run on the loop because they are one row."""
    session = OnnxSession(onnx_models.dynamic_axis(), Execution(), name=str(KEY))
    batcher = make_batcher(session, run_s=INLINE_LIMIT_S / 4, max_rows=8)
    await until(lambda: not run_threads())
    sent = [{"x": np.ones((1, length), np.float32)} for _ in range(requests)]
    await soon(asyncio.gather(*(batcher.submit(inputs, 1, (), NEVER) for inputs in sent)))
    assert bool(run_threads()) != on_loop


async def test_a_padded_run_is_expected_to_take_what_a_padded_run_takes(make_batcher: MakeBatcher) -> None:
    session = StubSession()
    sharing = Sharing(shares_runs=True, reason="", fixed_rows=8)
    batcher = make_batcher(session, sharing=sharing, run_s=INLINE_LIMIT_S / 2, max_rows=1)
    await soon(submit(batcher, *range(8)))
    await soon(submit(batcher, *range(24)))
    assert [run.on_loop for run in session.runs] == [True, False, False, False]


async def test_instances_run_at_the_same_time(make_batcher: MakeBatcher) -> None:
    sessions = [StubSession(held=True), StubSession(held=True)]
    batcher = make_batcher(*sessions, max_rows=1)
    answers = [submit(batcher, value) for value in (1, 2, 3)]
    for session in sessions:
        await entered(session)
    assert batcher.queued_rows == 1
    for session in sessions:
        session.may_finish.set()
    assert [await answered(answer) for answer in answers] == [[2], [4], [6]]


# --- callers that go ----------------------------------------------------------------------------------------


async def test_a_cancelled_caller_does_not_disturb_its_batch(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session)
    stays, goes, stays_too = (submit(batcher, value) for value in (1, 2, 3))
    await entered(session)
    goes.cancel()
    await asyncio.sleep(0)
    session.may_finish.set()
    assert [await answered(stays), await answered(stays_too)] == [[2], [6]]
    assert goes.cancelled()
    assert ran(session) == [[1, 2, 3]]
    assert not session.stopped.is_set()


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_a_caller_gone_before_the_batch_forms_is_in_no_run(make_batcher: MakeBatcher, run_s: float) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s)
    goes, stays = submit(batcher, 1), submit(batcher, 2)
    goes.cancel()
    assert await answered(stays) == [4]
    assert ran(session) == [[2]]


async def test_a_run_that_nobody_waits_for_is_ended(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session)
    answers = [submit(batcher, 1), submit(batcher, 2)]
    await entered(session)
    waiting = submit(batcher, 3)
    for answer in answers:
        answer.cancel()
    assert await asyncio.to_thread(session.stopped.wait, PATIENCE_S)
    session.may_finish.set()
    assert await answered(waiting) == [6]
    assert ran(session) == [[1, 2], [3]]


async def test_a_real_run_that_nobody_waits_for_is_ended(make_batcher: MakeBatcher) -> None:
    session = OnnxSession(onnx_models.slow_on_demand(), Execution(), name=str(KEY))
    batcher = make_batcher(session)
    endless = submit(batcher, 1e9)
    await until(lambda: batcher.queued_rows == 0)
    endless.cancel()
    assert await answered(submit(batcher, 1)) == [1]


# --- deadlines ------------------------------------------------------------------------------------------------


async def test_a_deadline_in_the_queue_is_answered_when_it_passes(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session)
    first = submit(batcher, 1)
    await entered(session)
    deadline = time.monotonic() + 0.05
    late, patient = submit(batcher, 2, deadline=deadline), submit(batcher, 3, deadline=deadline + 100)
    with pytest.raises(DeadlineExceeded, match=r"^fraud:3: the deadline passed after \d+ ms in the queue$"):
        await soon(late)
    assert 0 <= time.monotonic() - deadline < 2
    session.may_finish.set()
    assert [await answered(first), await answered(patient)] == [[2], [6]]
    assert ran(session) == [[1], [3]]


async def test_a_deadline_passed_while_running_is_answered_when_it_passes_and_the_others_later(
    make_batcher: MakeBatcher,
) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session)
    deadline = time.monotonic() + 0.05
    late, patient = submit(batcher, 1, deadline=deadline), submit(batcher, 2)
    await entered(session)
    with pytest.raises(DeadlineExceeded, match=r"ms while running$"):
        await soon(late)
    assert 0 <= time.monotonic() - deadline < 2
    assert not session.stopped.is_set()
    session.may_finish.set()
    assert await answered(patient) == [4]


async def test_a_run_whose_last_deadline_passed_is_ended(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session)
    deadline = time.monotonic() + 0.05
    answers = [submit(batcher, 1, deadline=deadline), submit(batcher, 2, deadline=deadline + 0.01)]
    for answer in answers:
        with pytest.raises(DeadlineExceeded):
            await soon(answer)
    assert await asyncio.to_thread(session.stopped.wait, PATIENCE_S)


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_a_deadline_that_has_passed_already_is_answered_too(make_batcher: MakeBatcher, run_s: float) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s)
    late, patient = submit(batcher, 1, deadline=time.monotonic() - 1), submit(batcher, 2)
    with pytest.raises(DeadlineExceeded):
        await soon(late)
    assert await answered(patient) == [4]
    assert ran(session) == [[2]]


async def test_a_deadline_that_passes_while_the_loop_is_held_is_answered_too(make_batcher: MakeBatcher) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=QUICK_S)
    deadline = time.monotonic() + 0.002
    late = submit(batcher, 1, deadline=deadline)
    while time.monotonic() <= deadline:
        pass
    with pytest.raises(DeadlineExceeded):
        await soon(late)
    assert ran(session) == []


async def test_each_of_many_deadlines_is_kept_in_whatever_order_they_came(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session)
    held = submit(batcher, 0)
    await entered(session)
    start = time.monotonic()
    late = {after_s: submit(batcher, 1, deadline=start + after_s) for after_s in (0.06, 0.02, 0.04)}
    over: list[float] = []
    for after_s, answer in late.items():
        answer.add_done_callback(lambda _, after_s=after_s: over.append(after_s))  # type: ignore[misc]  # bound now
    results = await soon(asyncio.gather(*late.values(), return_exceptions=True))
    assert all(isinstance(result, DeadlineExceeded) for result in results)
    assert over == [0.02, 0.04, 0.06]
    assert not held.done()


async def test_a_queue_timeout_ends_the_wait_for_a_run_and_not_the_run(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session, queue_timeout_ms=100.0)
    running = submit(batcher, 1)
    await entered(session)
    late = submit(batcher, 2)
    with pytest.raises(DeadlineExceeded, match=r"ms in the queue$"):
        await soon(late)
    session.may_finish.set()
    assert await answered(running) == [2]
    assert ran(session) == [[1]]


async def test_a_deadline_before_the_queue_timeout_holds(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session, queue_timeout_ms=3_600_000.0)
    late = submit(batcher, 1, deadline=time.monotonic() + 0.02)
    with pytest.raises(DeadlineExceeded):
        await soon(late)


# --- the bound ----------------------------------------------------------------------------------------------


async def test_rows_beyond_the_queue_are_refused_at_once(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session, max_rows=4, max_queue_rows=4)
    first = submit(batcher, 1)
    await entered(session)
    waiting = submit(batcher, 2, 3, 4)
    with pytest.raises(Overloaded, match=r"^fraud:3: queue holds 3 of 4 rows$"):
        await submit(batcher, 5, 6)
    with pytest.raises(TooLarge):
        await submit(batcher, *range(5))
    session.may_finish.set()
    assert [await answered(first), await answered(waiting)] == [[2], [4, 6, 8]]
    assert await answered(submit(batcher, 5, 6)) == [10, 12]


# --- runs that fail -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_one_bad_request_fails_alone_and_everybody_runs_again_just_once(
    make_batcher: MakeBatcher, metrics: Metrics, run_s: float
) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s)
    good, bad, good_too = submit(batcher, 1), submit(batcher, -2), submit(batcher, 3)
    with pytest.raises(InvalidInput):
        await soon(bad)
    assert [await answered(good), await answered(good_too)] == [[2], [6]]
    assert ran(session) == [[1, -2, 3], [1], [-2], [3]]
    assert (batches(metrics, "drained"), batches(metrics, "isolated")) == (1, 3)
    assert (batcher.statistics.success.count, batcher.statistics.fail.count) == (2, 1)


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_a_bad_request_that_was_alone_is_not_run_again(
    make_batcher: MakeBatcher, metrics: Metrics, run_s: float
) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s)
    with pytest.raises(InvalidInput):
        await soon(submit(batcher, -1))
    assert ran(session) == [[-1]]
    assert (batcher.statistics.success.count, batcher.statistics.fail.count) == (0, 1)
    assert batches(metrics, "isolated") == 0
    assert await answered(submit(batcher, 1)) == [2]


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_a_fault_that_is_not_foreseen_is_answered_logged_and_survived(
    make_batcher: MakeBatcher, caplog: pytest.LogCaptureFixture, run_s: float
) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s)
    answers = [submit(batcher, 1), submit(batcher, CRASHES)]
    for answer in answers:
        with pytest.raises(InferenceFailed, match=r"^fraud:3: ZeroDivisionError: a fault of ours$"):
            await soon(answer)
    assert await answered(submit(batcher, 3)) == [6]
    assert [record.message for record in caplog.records] == ["run_crashed"]


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_a_bad_row_of_a_real_model_fails_its_own_request_only(make_batcher: MakeBatcher, run_s: float) -> None:
    batcher = make_batcher(OnnxSession(onnx_models.lookup(4), Execution(), name=str(KEY)), run_s=run_s)
    answers = [batcher.submit({"x": np.array([index])}, 1, (), NEVER) for index in (1, 9, 2)]
    results = await soon(asyncio.gather(*answers, return_exceptions=True))
    assert isinstance(results[1], InvalidInput)
    assert [result[0]["y"].tolist() for result in results if isinstance(result, tuple)] == [[10.0], [20.0]]


# --- the delay ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_with_a_delay_a_request_waits_for_company_until_the_batch_is_full(
    make_batcher: MakeBatcher, metrics: Metrics, run_s: float
) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s, max_rows=2, max_queue_delay_ms=60_000.0)
    first = submit(batcher, 1)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (ran(session), first.done()) == ([], False)
    second = submit(batcher, 2)
    assert [await answered(first), await answered(second)] == [[2], [4]]
    assert ran(session) == [[1, 2]]
    assert batches(metrics, "full") == 1


@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_with_a_delay_a_request_that_stays_alone_runs_when_it_is_over(
    make_batcher: MakeBatcher, metrics: Metrics, run_s: float
) -> None:
    session = StubSession()
    batcher = make_batcher(session, run_s=run_s, max_queue_delay_ms=30.0)
    start = time.monotonic()
    _, timings = await soon(submit(batcher, 1))
    assert 0.03 <= time.monotonic() - start < 2
    assert timings.queue_s >= 0.03
    assert batches(metrics, "delay") == 1


async def test_a_deadline_may_pass_while_waiting_for_company(make_batcher: MakeBatcher) -> None:
    session = StubSession()
    batcher = make_batcher(session, max_queue_delay_ms=60_000.0)
    late, patient = submit(batcher, 1, deadline=time.monotonic() + 0.02), submit(batcher, 2)
    with pytest.raises(DeadlineExceeded):
        await soon(late)
    patient.cancel()
    assert ran(session) == []
    await soon(batcher.drain())


# --- no rows ------------------------------------------------------------------------------------------------


async def test_no_rows_are_answered_with_no_rows_and_without_a_run(make_batcher: MakeBatcher) -> None:
    session = OnnxSession(onnx_models.several(), Execution(), name=str(KEY))
    batcher = make_batcher(session)
    inputs: dict[str, Array] = {"x": np.empty((0, 3), np.float32), "w": np.empty((0, 1), np.int64)}
    outputs, timings = await soon(batcher.submit(inputs, 0, (), NEVER))
    assert {name: (array.shape, str(array.dtype)) for name, array in outputs.items()} == {
        "y": ((0, 3), "float32"),
        "z": ((0, 1), "int64"),
    }
    assert (timings.queue_s, timings.inference_s, batcher.statistics.runs) == (0, 0, 0)
    outputs, _ = await soon(batcher.submit(inputs, 0, ("z",), NEVER))
    assert list(outputs) == ["z"]


@pytest.mark.parametrize(
    ("model", "shape", "rows"),
    [
        pytest.param(onnx_models.dynamic_axis(), (2, 0), 2, id="rows without elements"),
        pytest.param(onnx_models.identity("FP32", ("length",), output_shape=(3,)), (0,), 1, id="a model without rows"),
    ],
)
async def test_an_input_that_is_empty_otherwise_is_refused(
    make_batcher: MakeBatcher, model: bytes, shape: tuple[int, ...], rows: int
) -> None:
    """Some operators end the whole process on empty tensors."""
    batcher = make_batcher(OnnxSession(model, Execution(), name=str(KEY)))
    with pytest.raises(InvalidInput, match=r"^fraud:3: an input is empty, expected at least one element in each$"):
        await batcher.submit({"x": np.empty(shape, np.float32)}, rows, (), NEVER)


# --- the end ------------------------------------------------------------------------------------------------


async def test_an_idle_version_is_drained_at_once(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(StubSession())
    await soon(batcher.drain())
    await soon(batcher.drain())


async def test_a_version_is_drained_when_its_last_request_is_answered(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session, max_rows=1)
    answers = [submit(batcher, 1), submit(batcher, 2)]
    await entered(session)
    drained = asyncio.ensure_future(batcher.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    session.may_finish.set()
    await soon(drained)
    assert [await answered(answer) for answer in answers] == [[2], [4]]


async def test_a_version_is_not_drained_during_a_run_even_if_nobody_waits_for_it(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session)
    answer = submit(batcher, 1)
    await entered(session)
    drained = asyncio.ensure_future(batcher.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    answer.cancel()
    await soon(drained)
    assert session.stopped.is_set()


async def test_a_version_is_not_drained_while_somebody_has_chosen_it(make_batcher: MakeBatcher) -> None:
    session = StubSession()
    batcher = make_batcher(session)
    batcher.acquire()
    batcher.acquire()
    drained = asyncio.ensure_future(batcher.drain())
    await asyncio.sleep(0)
    batcher.release()
    assert await answered(submit(batcher, 1)) == [2]
    assert not drained.done()
    batcher.release()
    await soon(drained)


async def test_whoever_stops_waiting_for_the_drain_does_not_stop_it(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(StubSession())
    batcher.acquire()
    impatient, patient = asyncio.ensure_future(batcher.drain()), asyncio.ensure_future(batcher.drain())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    assert not patient.done()
    batcher.release()
    await soon(patient)


async def test_a_drained_version_leaves_no_thread(make_batcher: MakeBatcher) -> None:
    await until(lambda: not run_threads())
    batcher = make_batcher(StubSession(), StubSession(), max_rows=1)
    await soon(asyncio.gather(*(submit(batcher, value) for value in (1, 2))))
    assert run_threads()
    await soon(batcher.drain())
    await until(lambda: not run_threads())


@pytest.mark.parametrize("max_queue_delay_ms", [0.0, 60_000.0])
async def test_a_drained_version_leaves_no_memory(max_queue_delay_ms: float) -> None:
    """A timer for an hour from now would keep the sessions for an hour."""

    async def use_and_drain() -> weakref.ref[Session]:
        session = StubSession()
        loaded = loaded_version(session, max_rows=2, max_queue_delay_ms=max_queue_delay_ms)
        batcher = Batcher(loaded, Metrics(), loop=asyncio.get_running_loop())
        deadline = time.monotonic() + 3600
        await soon(submit(batcher, 1, 2, deadline=deadline))
        gone = submit(batcher, 3, deadline=deadline)
        await asyncio.sleep(0)
        gone.cancel()
        await soon(batcher.drain())
        return weakref.ref(session)

    session = await use_and_drain()
    await until(lambda: gc.collect() >= 0 and session() is None)


async def test_a_version_that_is_released_goes_on_serving(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(StubSession())
    batcher.acquire()
    batcher.release()
    assert await answered(submit(batcher, 1)) == [2]


async def test_an_abort_answers_everybody_and_ends_the_runs(make_batcher: MakeBatcher) -> None:
    session = StubSession(held=True)
    batcher = make_batcher(session, max_rows=1)
    answers = [submit(batcher, 1), submit(batcher, 2)]
    await entered(session)
    gone = submit(batcher, 3)
    gone.cancel()
    batcher.abort()
    for answer in answers:
        with pytest.raises(ShuttingDown, match=r"^fraud:3: "):
            await soon(answer)
    assert await asyncio.to_thread(session.stopped.wait, PATIENCE_S)
    await soon(batcher.drain())
    assert ran(session) == [[1]]


# --- what is counted ------------------------------------------------------------------------------------------


async def test_each_batch_is_counted_in_the_series_and_in_the_statistics(
    make_batcher: MakeBatcher, metrics: Metrics
) -> None:
    batcher = make_batcher(StubSession())
    answers = [submit(batcher, 1), submit(batcher, 2, 3)]
    timings = [(await soon(answer))[1] for answer in answers]
    await soon(submit(batcher, 4))
    assert metrics.histogram("batch_rows", *LABELS).sum == 4
    assert sum(metrics.histogram("queue_delay_seconds", *LABELS).counts) == 3
    assert sum(metrics.histogram("inference_duration_seconds", *LABELS).counts) == 2
    statistics = batcher.statistics
    assert (statistics.rows, statistics.runs, statistics.success.count, statistics.queue.count) == (4, 2, 3, 3)
    assert sorted(statistics.batches) == [1, 3]
    assert abs(statistics.last_at - time.time()) < 60
    assert timings[0].inference_s == timings[1].inference_s > 0
    assert min(timing.queue_s for timing in timings) > 0


async def test_what_a_run_took_is_learned(make_batcher: MakeBatcher) -> None:
    loaded = loaded_version(StubSession(), run_s=1.0)
    batcher = Batcher(loaded, Metrics(), loop=asyncio.get_running_loop())
    assert isinstance(loaded.run_time, RunTime)
    await soon(submit(batcher, 1))
    assert loaded.run_time.predict(1) < 0.95
    await soon(batcher.drain())


# --- who is told of the rows ----------------------------------------------------------------------------------


class Told:
    """An observer that remembers each call: inputs, outputs, rows."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[float], list[float], int]] = []

    def __call__(self, inputs: Tensors, outputs: Tensors, rows: int) -> None:
        """Remember."""
        self.calls.append((inputs["x"].ravel().tolist(), outputs["y"].ravel().tolist(), rows))


@pytest.mark.parametrize("run_s", [QUICK_S, NEVER])
async def test_the_rows_of_a_batch_are_told_at_once(make_batcher: MakeBatcher, run_s: float) -> None:
    told = Told()
    batcher = make_batcher(StubSession(), observe=told, run_s=run_s)
    await soon(asyncio.gather(submit(batcher, 1, 2), submit(batcher, 3)))
    await soon(submit(batcher, 4))
    assert told.calls == [([1, 2, 3], [2, 4, 6], 3), ([4], [8], 1)]


async def test_of_a_batch_that_somebody_left_only_the_rows_of_the_others_are_told(make_batcher: MakeBatcher) -> None:
    """The one who left while it ran got no answer, nor did the one whose deadline passed."""
    session, told = StubSession(held=True), Told()
    batcher = make_batcher(session, observe=told)
    stays, leaves, late = submit(batcher, 1), submit(batcher, 2), submit(batcher, 3, deadline=time.monotonic() + 0.05)
    await entered(session)
    leaves.cancel()
    with pytest.raises(DeadlineExceeded):
        await soon(late)
    session.may_finish.set()
    await soon(stays)
    assert told.calls == [([1], [2], 1)]


async def test_of_a_batch_that_failed_the_rows_of_the_innocent_are_told(make_batcher: MakeBatcher) -> None:
    told = Told()
    batcher = make_batcher(StubSession(), observe=told, run_s=QUICK_S)
    answers = [submit(batcher, value) for value in (1, -1, 2)]
    await soon(asyncio.gather(*answers, return_exceptions=True))
    assert told.calls == [([1], [2], 1), ([2], [4], 1)]


async def test_rows_that_were_refused_are_not_told(make_batcher: MakeBatcher) -> None:
    told = Told()
    with pytest.raises(InvalidInput):
        await soon(submit(make_batcher(StubSession(), observe=told), -1))
    assert not told.calls
