"""The gateway's answers are onnxruntime's answers, whoever else is asking at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.e2e.oracle import Oracle, Tensors, assert_same, example_oracles
from tests.e2e.wire import AsyncConnection, binary_body, infer_path, json_body, read_outputs, request_bytes
from tests.support.server import GatewayProcess, HttpAnswer

ORACLES = example_oracles()
CALLERS = 64
MAX_ROWS = 64


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and whom it is for."""

    oracle: Oracle
    inputs: Tensors
    outputs: tuple[str, ...]
    binary: bool

    @property
    def content(self) -> bytes:
        """The request as bytes; the version is pinned, so that the oracle is the right one."""
        path = infer_path(self.oracle.model, self.oracle.version)
        if not self.binary:
            return request_bytes(path, json_body(self.inputs, outputs=self.outputs))
        body, length = binary_body(self.inputs, outputs=self.outputs)
        return request_bytes(path, body, headers={"inference-header-content-length": str(length)})

    def check(self, answer: HttpAnswer) -> None:
        """Compare an answer with what onnxruntime says to these rows alone."""
        assert answer.status == 200, answer.body
        got = read_outputs(answer)
        assert set(got) == set(self.outputs or [tensor.name for tensor in self.oracle.outputs])
        assert_same(self.oracle.answer(self.inputs), got, what=f"{self.oracle}")


@dataclass(frozen=True, slots=True)
class Work:
    """What a model version has done: requests answered, rows, runs."""

    requests: float
    rows: float
    runs: float

    @classmethod
    def of(cls, gateway: GatewayProcess, oracle: Oracle) -> Work:
        """Read it from the statistics extension."""
        path = f"/v2/models/{oracle.model}/versions/{oracle.version}/stats"
        (found,) = gateway.ask(path).json["model_stats"]
        return cls(found["inference_stats"]["success"]["count"], found["inference_count"], found["execution_count"])


def ask_together(gateway: GatewayProcess, contents: Sequence[bytes]) -> list[HttpAnswer]:
    """Send every request on a connection of its own before any answer is read."""

    async def run() -> list[HttpAnswer]:
        connections = [await AsyncConnection.open(gateway.data_address) for _ in contents]
        asked = [one.ask(content) for one, content in zip(connections, contents, strict=True)]
        answers = await asyncio.gather(*asked)
        for one in connections:
            await one.close()
        return answers

    return asyncio.run(run())


def check_together(gateway: GatewayProcess, calls: Sequence[Call]) -> None:
    """Ask all at once, and hold every answer against what its own rows get alone."""
    for call, answer in zip(calls, ask_together(gateway, [call.content for call in calls]), strict=True):
        call.check(answer)


def draw_call(oracle: Oracle, random: np.random.Generator) -> Call:
    """Draw rows, outputs and form of one request; a few have no rows at all, a few more than one run takes."""
    rows = int(random.choice([0, 1, 1, 1, 2, 3, 5, MAX_ROWS, MAX_ROWS + 7], p=[0.02, *[0.16] * 6, 0.01, 0.01]))
    names = [tensor.name for tensor in oracle.outputs]
    chosen = random.permutation(names)[: random.integers(0, len(names) + 1)]
    return Call(oracle, oracle.draw(rows, random), tuple(str(name) for name in chosen), bool(random.integers(2)))


@pytest.mark.parametrize("oracle", ORACLES, ids=repr)
@pytest.mark.parametrize("rows", [1, 2, MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS + 5])
def test_alone_every_number_of_rows_is_answered_whole(gateway: GatewayProcess, oracle: Oracle, rows: int) -> None:
    call = Call(oracle, oracle.draw(rows, np.random.default_rng(rows)), (), rows % 2 == 0)
    check_together(gateway, [call])


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_64_callers_of_all_models_at_once_get_their_own_answers(gateway: GatewayProcess, seed: int) -> None:
    random = np.random.default_rng(seed)
    calls = [draw_call(ORACLES[random.integers(len(ORACLES))], random) for _ in range(CALLERS)]
    check_together(gateway, calls)


@pytest.mark.parametrize("oracle", ORACLES, ids=repr)
def test_requests_that_arrive_together_share_runs(gateway: GatewayProcess, oracle: Oracle) -> None:
    random = np.random.default_rng(11)
    calls = [Call(oracle, oracle.draw(int(random.integers(1, 4)), random), (), False) for _ in range(CALLERS)]
    before = Work.of(gateway, oracle)
    for _ in range(3):
        check_together(gateway, calls)
    after = Work.of(gateway, oracle)
    assert after.requests - before.requests == 3 * CALLERS
    assert after.rows - before.rows == 3 * sum(len(next(iter(call.inputs.values()))) for call in calls)
    assert after.runs - before.runs < 0.8 * (after.requests - before.requests)
    labels = {"model": oracle.model, "version": str(oracle.version)}
    assert gateway.metric("gateway_batch_rows_sum", **labels) == after.rows
    assert gateway.metric("gateway_queue_rows", **labels) == 0


def test_sequences_of_different_lengths_never_meet_in_a_run(gateway: GatewayProcess) -> None:
    (oracle,) = (one for one in ORACLES if one.model == "digits_sequence")
    random = np.random.default_rng(12)
    calls = [Call(oracle, oracle.draw(1, random), (), False) for _ in range(CALLERS)]
    lengths = {call.inputs["steps"].shape[1] for call in calls}
    assert len(lengths) == 8
    released = gateway.metric("gateway_batches_total", model=oracle.model, reason="shape")
    before = Work.of(gateway, oracle)
    check_together(gateway, calls)
    after = Work.of(gateway, oracle)
    assert len(lengths) <= after.runs - before.runs < CALLERS
    assert gateway.metric("gateway_batches_total", model=oracle.model, reason="shape") > released


def test_a_model_whose_rows_influence_each_other_is_never_batched(gateway: GatewayProcess) -> None:
    """Its answers would be right one by one and wrong in company."""
    (described,) = gateway.versions("mean_centred").values()
    assert described["batching"]["shares_runs"] is False
    assert described["batching"]["reason"] == "the self-test found that rows influence each other"
    assert "dynamic_batching" not in gateway.ask("/v2/models/mean_centred/config").json
    random = np.random.default_rng(13)
    asked = [random.normal(size=(int(random.integers(1, 5)), 3)).astype(np.float32) for _ in range(CALLERS)]
    alone = gateway.metric("gateway_batches_total", model="mean_centred", reason="single")

    contents = [request_bytes(infer_path("mean_centred"), json_body({"x": rows})) for rows in asked]
    for rows, answer in zip(asked, ask_together(gateway, contents), strict=True):
        np.testing.assert_allclose(read_outputs(answer)["y"], rows - rows.mean(axis=0), rtol=1e-4, atol=1e-6)
    assert gateway.metric("gateway_batches_total", model="mean_centred", reason="single") - alone == CALLERS
    reasons = {"drained", "full", "delay", "shape", "oversize"}
    assert sum(gateway.metric("gateway_batches_total", model="mean_centred", reason=reason) for reason in reasons) == 0


@pytest.mark.parametrize("oracle", ORACLES, ids=repr)
def test_the_admin_plane_says_that_the_example_models_share_runs(gateway: GatewayProcess, oracle: Oracle) -> None:
    batching = gateway.versions(oracle.model)[oracle.version]["batching"]
    assert batching["shares_runs"] is True
    assert batching["reason"] == "the self-test found rows independent"
