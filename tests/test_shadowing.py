"""Holds shadows to their promises: counted exactly, never in a caller's way, dropped first, and never noticed."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from gateway.inference.batcher import INLINE_LIMIT_S
from gateway.inference.model_config import Outputs
from gateway.inference.session import RunStop
from gateway.inference.signature import Signature, tensor_spec
from gateway.messages import Array, ModelVersion, Tensors, Timings
from gateway.routing.route import WHOLE_BP, Shadow
from gateway.shadow_lane import MAX_AGE_S, MAX_REQUESTS, ShadowAgreement
from tests.inference.stub_session import CRASHES, StubSession
from tests.routing.routes import publish, route_of
from tests.support.split_plane import SplitPlane, split_plane

QUICK_S = INLINE_LIMIT_S / 10
SLOW_S = 1.0
FLIPPED = 5.0
"""From this value on the other session answers something else."""


class Other(StubSession):
    """Answers as the stub does, but from FLIPPED on one more."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        """Compute `outputs`."""
        return [array + (inputs["x"] >= FLIPPED) for array in super().run(inputs, outputs, stop)]


class Crashing(StubSession):
    """Fails every run."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        """Fail."""
        super().run(inputs, outputs, stop)
        raise ZeroDivisionError("a fault of the shadow's own")


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, list[float], list[float]]] = []

    def record(self, key: ModelVersion, role: str, inputs: Tensors, outputs: Tensors, rows: int) -> None:
        """Remember."""
        assert rows == len(inputs["x"])
        self.seen.append((str(key), role, inputs["x"].ravel().tolist(), outputs["y"].ravel().tolist()))


def shadow(version: int = 3, name: str = "next", sample_bp: int = WHOLE_BP) -> Shadow:
    return Shadow(name=name, model="fraud", version=version, sample_bp=sample_bp)


def agreement(plane: SplitPlane, name: str = "next") -> ShadowAgreement:
    (found,) = [found for found in plane.shadowing.agreements("fraud") if found.name == name]
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - looks from outside, where there is no event to wait for
            await asyncio.sleep(0)


async def until_compared(plane: SplitPlane, count: int, name: str = "next") -> dict[str, int]:
    await until(lambda: sum(agreement(plane, name).requests.values()) >= count)
    return agreement(plane, name).requests


async def in_a_run(session: StubSession) -> None:
    assert await asyncio.to_thread(session.entered.acquire, timeout=10)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SplitPlane]:
    """Serve fraud:1 and fraud:2, both quick; fraud:3 is for the test to serve."""
    async with split_plane(tmp_path) as made:
        made.serve(1, run_s=QUICK_S)
        made.serve(2, run_s=QUICK_S)
        yield made


# --- what is compared --------------------------------------------------------------------------------


@pytest.mark.parametrize("run_s", [QUICK_S, SLOW_S])
async def test_every_answer_is_compared_and_counted_once(plane: SplitPlane, run_s: float) -> None:
    plane.serve(3, Other(), run_s=run_s)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    answers = [await plane.ask(value, headers={"x-request-id": f"id-{value:g}"}) for value in range(10)]
    assert [answer.json["outputs"][0]["data"] for answer in answers] == [[2 * value] for value in range(10)]
    assert await until_compared(plane, 10) == {"match": 5, "mismatch": 5, "error": 0}
    labels = {"route": "fraud", "shadow": "next"}
    assert plane.counted("shadow_requests_total", **labels, result="match") == 5
    assert plane.counted("shadow_requests_total", **labels, result="mismatch") == 5
    assert plane.counted("shadow_disagreement_total", **labels) == 5
    assert plane.counted("shadow_difference_count", **labels) == 10
    assert plane.counted("shadow_difference_sum", **labels) == 5
    assert plane.counted("shadow_dropped_total") == 0
    assert plane.counted("requests_total") == 10
    assert plane.counted("batches_total", version="3", reason="shadow") == 10
    worst = agreement(plane).summary["worst"]
    assert isinstance(worst, list)
    assert {request["request_id"] for request in worst} == {f"id-{value}" for value in range(5, 10)}


async def test_only_the_outputs_that_the_caller_asked_for_are_run(plane: SplitPlane) -> None:
    session = plane.serve(3, run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [4]}
    body = msgspec.json.encode({"inputs": [tensor], "outputs": [{"name": "z"}]})
    await plane.exchange.answer("POST", "/v2/models/fraud/infer", [], body)
    assert (await until_compared(plane, 1))["match"] == 1
    assert [run.outputs for run in session.runs] == [("z",)]


class TwoScores(StubSession):
    """Answers two outputs of two columns; the second one tips over for the `tipped`."""

    def __init__(self, *, tipped: bool = False) -> None:
        super().__init__()
        outputs = [tensor_spec(name, "tensor(float)", ("rows", 2), role="output") for name in ("first", "second")]
        self.signature = Signature.of([tensor_spec("x", "tensor(float)", ("rows", 1), role="input")], outputs)
        self._second = [1.0, 0.0] if tipped else [0.0, 1.0]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        """Compute `outputs`."""
        rows = len(inputs["x"])
        scores = {"first": [[0.0, 1.0]] * rows, "second": [self._second] * rows}
        return [np.array(scores[name], np.float32) for name in outputs or ("first", "second")]


@pytest.mark.parametrize(
    ("named", "flips"), [(Outputs(), 0), (Outputs(score="second"), 3), (Outputs(label="second"), 3)]
)
async def test_the_predicted_class_is_where_model_toml_says(plane: SplitPlane, named: Outputs, flips: int) -> None:
    plane.serve(1, TwoScores(), run_s=QUICK_S)
    plane.serve(3, TwoScores(tipped=True), run_s=QUICK_S, outputs=named)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(1, 2, 3)
    assert (await until_compared(plane, 1))["mismatch"] == 1
    assert agreement(plane).summary["class_flips"] == flips


async def test_the_rows_a_shadow_answered_are_observed_as_a_shadows(plane: SplitPlane) -> None:
    recorder = Recorder()
    plane.observer = plane.shadowing.observer = recorder
    plane.serve(1, run_s=QUICK_S)
    plane.serve(3, Other(), run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(7, 8)
    await until_compared(plane, 1)
    assert recorder.seen == [
        ("fraud:1", "primary", [7, 8], [14, 16]),
        ("fraud:3", "shadow", [7, 8], [15, 17]),
    ]


async def test_what_waits_keeps_no_other_callers_answers_in_memory(plane: SplitPlane) -> None:
    """A sampled answer may be one row of a batch of many; the bound on bytes would know nothing of the others."""
    plane.serve(3, run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    endpoint = plane.dataplane.endpoint("fraud", None)
    assert endpoint.published is not None
    batch: Array = np.zeros((64, 1_000), np.float32)
    forgotten = weakref.ref(batch)
    plane.shadowing.callers.come()
    plane.shadowing.offer(
        endpoint.shadows,
        endpoint.published,
        None,
        inputs={"x": np.ones((1, 1), np.float32)},
        rows=1,
        outputs={"y": batch[:1]},
        timings=Timings(0.0, 0.0),
        request_id=b"one",
    )
    del batch
    assert endpoint.shadows[0].is_waiting
    assert forgotten() is None
    plane.shadowing.callers.leave()


async def test_a_refused_request_is_neither_observed_nor_shadowed(plane: SplitPlane) -> None:
    recorder = Recorder()
    plane.observer = recorder
    plane.serve(1, run_s=QUICK_S)
    session = plane.serve(3, run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    assert [(await plane.ask(value)).status for value in (-1, CRASHES)] == [400, 500]
    assert (await plane.ask(1)).status == 200
    await until_compared(plane, 1)
    assert [run.values for run in session.runs] == [[1]]
    assert len(recorder.seen) == 1


async def test_pinned_and_overridden_requests_have_no_shadow(plane: SplitPlane) -> None:
    session = plane.serve(3, run_s=QUICK_S)
    plane.publish(route_of(10_000, 0, shadows=(shadow(),)))
    await plane.ask(1, version=1)
    await plane.ask(2, headers={"x-gateway-variant": "b"})
    await plane.ask(3, headers={"x-routing-key": "k"})
    await until_compared(plane, 1)
    assert [run.values for run in session.runs] == [[3]]


async def test_a_fallback_is_compared_with_what_the_caller_got(plane: SplitPlane) -> None:
    plane.serve(2, Crashing(), run_s=QUICK_S)
    plane.serve(3, run_s=QUICK_S)
    plane.publish(route_of(0, 10_000, shadows=(shadow(),)))
    assert (await plane.ask(1)).headers["x-gateway-assigned-by"] == "fallback"
    assert (await until_compared(plane, 1))["match"] == 1


async def test_a_sample_by_key_is_the_splitters_and_independent_of_the_variant(plane: SplitPlane) -> None:
    session = plane.serve(3, run_s=QUICK_S)
    route = route_of(5000, 5000, shadows=(shadow(sample_bp=4000),))
    plane.publish(route)
    splitter = publish(route).splitter
    for number in range(100):
        await plane.ask(number + 100, headers={"x-routing-key": f"customer-{number}"})
    sampled = [float(number) for number in range(100) if splitter.is_sampled(0, f"customer-{number}")]
    await until_compared(plane, len(sampled))
    assert [run.values for run in session.runs] == [[number + 100] for number in sampled]
    variants = {splitter.variant_of(f"customer-{number:g}") for number in sampled}
    assert variants == {0, 1}


async def test_without_a_key_the_sample_is_drawn(plane: SplitPlane) -> None:
    plane.serve(3, run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(sample_bp=5000), shadow(1, "all"))))
    for _ in range(200):
        await plane.ask(1)
    await until_compared(plane, 200, "all")
    compared = sum(agreement(plane).requests.values())
    assert 60 < compared < 140  # six standard deviations


# --- in nobody's way ------------------------------------------------------------------------------------


async def test_no_run_starts_while_a_caller_waits(plane: SplitPlane) -> None:
    """On any version's queue, and the wait for the last caller is no polling."""
    session = plane.serve(3, run_s=QUICK_S)
    held = plane.serve(4, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    waiting = asyncio.create_task(plane.ask(1, version=4))
    await in_a_run(held)
    for value in range(5):
        assert (await plane.ask(value)).status == 200
    for _ in range(50):
        await asyncio.sleep(0)
    assert session.runs == []
    assert plane.shadowing.callers.on_none is not None
    held.may_finish.set()
    await waiting
    assert (await until_compared(plane, 5))["match"] == 5


async def test_a_caller_who_leaves_does_not_block_the_shadows_for_good(plane: SplitPlane) -> None:
    plane.serve(3, run_s=QUICK_S)
    held = plane.serve(4, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    leaving = asyncio.create_task(plane.ask(1, version=4))
    await in_a_run(held)
    await plane.ask(1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await until_compared(plane, 1))["match"] == 1


async def test_a_slow_shadow_holds_up_neither_callers_nor_other_shadows(plane: SplitPlane) -> None:
    """Callers of the very version that it runs go on as well: a session runs for several at a time."""
    slow = plane.serve(3, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(), shadow(2, "quick"))))
    await plane.ask(1)
    await in_a_run(slow)
    assert [(await plane.ask(value)).status for value in range(20)] == [200] * 20
    assert (await until_compared(plane, 21, "quick"))["match"] == 21
    pinned = asyncio.create_task(plane.ask(1, version=3))
    await in_a_run(slow)
    slow.may_finish.set()
    assert (await pinned).status == 200
    assert (await until_compared(plane, 21))["match"] == 21


async def test_a_shadow_that_held_callers_up_rests_and_others_go_on(plane: SplitPlane) -> None:
    """It goes on when nobody has come for a while; meanwhile its queue keeps what was sampled."""
    slow = plane.serve(3, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(), shadow(2, "quick"))))
    await plane.ask(1)
    await in_a_run(slow)
    slow.may_finish.set()
    await until_compared(plane, 1)  # from now on it is known to be slow
    slow.may_finish.clear()
    await plane.ask(2)
    await in_a_run(slow)
    plane.run_delay_s += 1.0
    slow.may_finish.set()
    await until_compared(plane, 2)
    for value in range(20):
        await plane.ask(value)
    assert (await until_compared(plane, 22, "quick"))["match"] == 22
    assert len(slow.runs) == 2
    assert (await until_compared(plane, 22))["match"] == 22


async def test_long_runs_are_off_the_loop_and_short_ones_on_it(plane: SplitPlane) -> None:
    long, short = plane.serve(3, run_s=SLOW_S), plane.serve(4, run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(3, "long"), shadow(4, "short"))))
    await plane.ask(1)
    await until_compared(plane, 1, "long")
    await until_compared(plane, 1, "short")
    assert ([run.on_loop for run in long.runs], [run.on_loop for run in short.runs]) == ([False], [True])


async def test_a_run_that_takes_too_long_is_ended_and_counts_as_an_error(plane: SplitPlane) -> None:
    held = plane.serve(3, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(1)
    assert (await until_compared(plane, 1))["error"] == 1
    await until(held.stopped.is_set)


async def test_a_crashing_shadow_is_counted_not_noticed_and_logged_once_a_minute(
    plane: SplitPlane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.serve(3, Crashing(), run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    with caplog.at_level(logging.WARNING):
        assert [(await plane.ask(value)).status for value in range(20)] == [200] * 20
        assert await until_compared(plane, 20) == {"match": 0, "mismatch": 0, "error": 20}
        assert [record.message for record in caplog.records] == ["shadow_failed"]
        plane.ahead_s = 61
        await plane.ask(1)
        await until_compared(plane, 21)
    assert [record.message for record in caplog.records] == ["shadow_failed"] * 2
    assert plane.counted("requests_total", code="200") == 21
    assert plane.counted("shadow_disagreement_total") == 0


async def test_a_shadow_that_refuses_the_values_is_an_error_too(plane: SplitPlane) -> None:
    """What is wrong for the shadow was right for the primary."""

    class Proud(StubSession):
        def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
            return super().run({"x": -inputs["x"]}, outputs, stop)

    plane.serve(3, Proud(), run_s=SLOW_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(1)
    assert (await until_compared(plane, 1))["error"] == 1


async def test_answers_that_cannot_be_compared_are_errors(plane: SplitPlane) -> None:
    class Odd(StubSession):
        def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
            return [np.full(array.shape, "text", object) for array in super().run(inputs, outputs, stop)]

    plane.serve(3, Odd(), run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(1)
    requests = await until_compared(plane, 1)
    assert requests["match"] == 0


async def test_a_large_answer_is_compared_off_the_loop_all_the_same(plane: SplitPlane) -> None:
    plane.serve(1, run_s=QUICK_S, max_queue_rows=50_000)
    plane.serve(3, Other(), run_s=QUICK_S, max_rows=50_000, max_queue_rows=50_000)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    assert (await plane.ask(*range(100, 30_100))).status == 200
    assert await until_compared(plane, 1) == {"match": 0, "mismatch": 1, "error": 0}


# --- what is dropped ---------------------------------------------------------------------------------------


def dropped(plane: SplitPlane) -> dict[str, int]:
    counted = {
        reason: int(plane.counted("shadow_dropped_total", route="fraud", shadow="next", reason=reason))
        for reason in ("queue_full", "too_old", "not_ready", "incompatible", "stopping")
    }
    shown = agreement(plane).dropped
    assert {reason: count for reason, count in counted.items() if count} == shown
    return shown


async def test_a_full_queue_drops_and_counts(plane: SplitPlane) -> None:
    held = plane.serve(3, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(0)
    await in_a_run(held)
    for _ in range(MAX_REQUESTS + 10):
        assert (await plane.ask(1)).status == 200
    assert dropped(plane) == {"queue_full": 10}
    held.may_finish.set()
    await until_compared(plane, 2)
    await plane.ask(1)
    assert dropped(plane) == {"queue_full": 10}


async def test_what_waited_too_long_is_dropped(plane: SplitPlane) -> None:
    held = plane.serve(3, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(0)
    await in_a_run(held)
    for _ in range(3):
        await plane.ask(1)
    plane.ahead_s = MAX_AGE_S + 1
    await plane.ask(2)
    held.may_finish.set()
    await until_compared(plane, 2)
    assert dropped(plane) == {"too_old": 3}
    assert [run.values for run in held.runs] == [[0], [2]]


async def test_a_version_that_is_not_ready_is_not_asked(plane: SplitPlane) -> None:
    """Neither what comes now nor what waited for it; and it is asked again once it is READY."""
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(1)
    assert dropped(plane) == {"not_ready": 1}
    held = plane.serve(3, StubSession(held=True))
    await plane.ask(2)
    await in_a_run(held)
    await plane.ask(3)
    draining = asyncio.create_task(plane.batcher(3).drain())
    plane.withdraw(3)
    await asyncio.sleep(0)
    assert not draining.done()
    held.may_finish.set()
    await draining
    await until_compared(plane, 1)
    await until(lambda: dropped(plane) == {"not_ready": 2})


async def test_a_version_that_takes_other_inputs_is_not_asked(plane: SplitPlane) -> None:
    class Wide(StubSession):
        def __init__(self) -> None:
            super().__init__()
            outputs = [tensor_spec("y", "tensor(float)", ("rows", 1), role="output")]
            self.signature = Signature.of([tensor_spec("x", "tensor(float)", ("rows", 2), role="input")], outputs)

    plane.serve(3, Wide(), run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(1)
    assert dropped(plane) == {"incompatible": 1}


async def test_an_answer_without_a_common_output_is_not_compared(plane: SplitPlane) -> None:
    class Narrow(StubSession):
        def __init__(self) -> None:
            super().__init__()
            spec = tensor_spec("x", "tensor(float)", ("rows", 1), role="input")
            self.signature = Signature.of([spec], [tensor_spec("y", "tensor(float)", ("rows", 1), role="output")])

    session = plane.serve(3, Narrow(), run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [4]}
    body = msgspec.json.encode({"inputs": [tensor], "outputs": [{"name": "z"}]})
    await plane.exchange.answer("POST", "/v2/models/fraud/infer", [], body)
    assert dropped(plane) == {"incompatible": 1}
    await plane.ask(1)
    assert (await until_compared(plane, 1))["match"] == 1
    assert [run.outputs for run in session.runs] == [("y",)]


async def test_a_stopping_gateway_drops_what_waits_and_ends_what_runs(plane: SplitPlane) -> None:
    held = plane.serve(3, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    for value in range(4):
        await plane.ask(value)
    await in_a_run(held)
    await plane.shadowing.stop()
    assert dropped(plane) == {"stopping": 4}
    assert (await plane.ask(1)).status == 200
    assert dropped(plane) == {"stopping": 5}


# --- shadows that come and go ---------------------------------------------------------------------------------


async def test_an_agreement_stays_over_revisions_that_leave_the_shadows_version(plane: SplitPlane) -> None:
    plane.serve(3, run_s=QUICK_S)
    plane.serve(4, run_s=QUICK_S)
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(1)
    await until_compared(plane, 1)
    plane.publish(route_of(5000, 5000, shadows=(shadow(sample_bp=5000),)))
    assert agreement(plane).requests["match"] == 1
    plane.publish(route_of(10_000, shadows=(shadow(4),)))
    assert agreement(plane).requests["match"] == 0
    assert agreement(plane).version == 4


async def test_nothing_is_left_of_a_shadow_that_is_gone(plane: SplitPlane) -> None:
    """Also not when one of its runs was still under way."""
    held = plane.serve(3, StubSession(held=True))
    plane.publish(route_of(10_000, shadows=(shadow(),)))
    await plane.ask(1)
    await in_a_run(held)
    await plane.ask(2)
    plane.publish(route_of(10_000))
    held.may_finish.set()
    await plane.batcher(3).drain()
    for _ in range(10):
        await asyncio.sleep(0)
    assert plane.shadowing.agreements("fraud") == []
    assert 'shadow="next"' not in plane.metrics.exposition().decode()
    assert len(held.runs) == 1
