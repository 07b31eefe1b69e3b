"""Holds one batch's run to its promises: a batch equals its singles, however it is joined, padded, cut or repeated."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, InferenceFailed, InvalidInput
from gateway.inference.execution import run_batch, run_isolated
from gateway.inference.model_config import Execution
from gateway.inference.session import OnnxSession, RunStop
from gateway.messages import Array
from tests.inference.stub_session import StubSession, column
from tests.support import onnx_models


@dataclass
class Request:
    """A request of a batch."""

    inputs: dict[str, Array]
    outputs: tuple[str, ...] = ()
    has_left: bool = False
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = len(next(iter(self.inputs.values())))

    def is_abandoned(self) -> bool:
        return self.has_left


def requests_of(sizes: list[int]) -> list[Request]:
    """Make one request of each size; all values differ."""
    values = iter(range(1, 1 + sum(sizes)))
    return [Request(column(*(next(values) for _ in range(size)))) for size in sizes]


def values(outcome: dict[str, Array] | GatewayError, name: str = "y") -> list[object]:
    assert isinstance(outcome, dict)
    found: list[object] = outcome[name][:, 0].tolist()
    return found


def doubled(request: Request) -> list[object]:
    found: list[object] = (request.inputs["x"][:, 0] * 2).tolist()
    return found


# --- joined and cut apart -----------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    rows_per_run=st.none() | st.integers(1, 8),
    fixed_rows=st.none() | st.integers(1, 5),
)
def test_a_batch_equals_its_singles_however_it_is_run(
    sizes: list[int], rows_per_run: int | None, fixed_rows: int | None
) -> None:
    session, requests, rows = StubSession(), requests_of(sizes), sum(sizes)
    run = run_batch(session, requests, rows, rows_per_run=rows_per_run, fixed_rows=fixed_rows)
    assert [values(outcome) for outcome in run.outcomes] == [doubled(request) for request in requests]
    sizes_run = [len(made.values) for made in session.runs]
    assert run.runs == len(sizes_run)
    if fixed_rows is not None:
        assert sizes_run == [fixed_rows] * -(-rows // fixed_rows)
    else:
        assert sum(sizes_run) == rows
        assert all(size <= (rows_per_run or rows) for size in sizes_run)
        assert len(sizes_run) == -(-rows // (rows_per_run or rows))


def test_requests_that_fit_run_once() -> None:
    session = StubSession()
    run = run_batch(session, requests_of([1, 2, 1]), 4, rows_per_run=4, fixed_rows=None)
    assert (run.runs, run.isolated, [made.values for made in session.runs]) == (1, 0, [[1, 2, 3, 4]])


def test_a_request_above_the_rows_of_a_run_is_cut_into_several_and_answered_whole() -> None:
    session = StubSession()
    run = run_batch(session, requests_of([5]), 5, rows_per_run=2, fixed_rows=None)
    assert [made.values for made in session.runs] == [[1, 2], [3, 4], [5]]
    assert values(run.outcomes[0]) == [2, 4, 6, 8, 10]


def test_padding_repeats_the_last_row_and_is_cut_off_again() -> None:
    session = StubSession()
    run = run_batch(session, requests_of([1, 2]), 3, rows_per_run=8, fixed_rows=5)
    assert [made.values for made in session.runs] == [[1, 2, 3, 3, 3]]
    assert [values(outcome) for outcome in run.outcomes] == [[2], [4, 6]]


def test_only_the_outputs_asked_for_are_computed_in_their_order() -> None:
    session = StubSession()
    requests = [Request(column(1), ("z", "y")), Request(column(2), ("z", "y"))]
    run = run_batch(session, requests, 2, rows_per_run=8, fixed_rows=None)
    assert [list(outcome) for outcome in run.outcomes if isinstance(outcome, dict)] == [["z", "y"]] * 2
    assert session.runs[0].outputs == ("z", "y")
    assert [values(outcome, "z") for outcome in run.outcomes] == [[-1], [-2]]


def test_all_outputs_are_answered_when_none_is_asked_for() -> None:
    run = run_batch(StubSession(), requests_of([1]), 1, rows_per_run=8, fixed_rows=None)
    (outcome,) = run.outcomes
    assert isinstance(outcome, dict)
    assert list(outcome) == ["y", "z"]


def test_several_inputs_and_outputs_of_several_datatypes_are_kept_apart() -> None:
    session = OnnxSession(onnx_models.several(), Execution(), name="several:1")
    random = np.random.default_rng(3)
    requests = [
        Request({"x": random.random((rows, 3), np.float32), "w": random.integers(0, 9, (rows, 1))})
        for rows in (2, 1, 4)
    ]
    together = run_batch(session, requests, 7, rows_per_run=3, fixed_rows=None).outcomes
    for request, outcome in zip(requests, together, strict=True):
        assert isinstance(outcome, dict)
        np.testing.assert_array_equal(outcome["y"], request.inputs["x"] + request.inputs["w"].astype(np.float32))
        np.testing.assert_array_equal(outcome["z"], -request.inputs["w"])


def test_strings_are_joined_and_cut_like_numbers() -> None:
    session = OnnxSession(onnx_models.identity("BYTES", (4, 1)), Execution(), name="words:1")
    requests = [Request({"x": np.array([[word] for word in words], object)}) for words in (["a", "ü"], ["longer"])]
    run = run_batch(session, requests, 3, rows_per_run=None, fixed_rows=4)
    assert [values(outcome) for outcome in run.outcomes] == [["a", "ü"], ["longer"]]


def test_a_model_without_rows_runs_as_it_is() -> None:
    session = OnnxSession(onnx_models.identity("FP32", ()), Execution(), name="scalar:1")

    class Scalar(Request):
        def __post_init__(self) -> None:
            self.rows = 1

    run = run_batch(session, [Scalar({"x": np.array(3, np.float32)})], 1, rows_per_run=None, fixed_rows=None)
    (outcome,) = run.outcomes
    assert isinstance(outcome, dict)
    assert outcome["y"] == 3


def test_the_time_of_a_run_is_told_in_its_three_parts() -> None:
    run = run_batch(StubSession(), requests_of([2, 2]), 4, rows_per_run=8, fixed_rows=None)
    assert min(run.assemble_s, run.run_s, run.split_s) > 0


# --- when it fails ------------------------------------------------------------------------------------


def test_a_failing_run_fails_as_a_whole() -> None:
    with pytest.raises(InvalidInput):
        run_batch(StubSession(), [Request(column(1)), Request(column(-1))], 2, rows_per_run=8, fixed_rows=None)


def test_run_again_alone_only_the_culprit_fails() -> None:
    session = StubSession()
    requests = [Request(column(1)), Request(column(2, -1)), Request(column(3))]
    failure = InvalidInput("as a whole")
    run = run_isolated(session, requests, rows_per_run=8, fixed_rows=None, failure=failure)
    assert values(run.outcomes[0]) == [2]
    assert isinstance(run.outcomes[1], InvalidInput)
    assert run.outcomes[1] is not failure
    assert values(run.outcomes[2]) == [6]
    assert [made.values for made in session.runs] == [[1], [2, -1], [3]]
    assert (run.isolated, run.runs) == (3, 4)
    assert run.run_s > 0


def test_a_request_that_was_alone_is_not_run_again() -> None:
    session, failure = StubSession(), InvalidInput("alone")
    run = run_isolated(session, [Request(column(1))], rows_per_run=8, fixed_rows=None, failure=failure)
    assert (run.outcomes, run.isolated, session.runs) == ([failure], 0, [])


def test_a_request_whose_caller_has_gone_is_not_run_again() -> None:
    session, failure = StubSession(), InferenceFailed("as a whole")
    requests = [Request(column(1)), Request(column(2), has_left=True)]
    run = run_isolated(session, requests, rows_per_run=8, fixed_rows=None, failure=failure)
    assert values(run.outcomes[0]) == [2]
    assert run.outcomes[1] is failure
    assert [made.values for made in session.runs] == [[1]]


def test_run_again_alone_requests_are_padded_and_cut_as_before() -> None:
    session = StubSession()
    run = run_isolated(
        session, requests_of([1, 3]), rows_per_run=None, fixed_rows=2, failure=InferenceFailed("as a whole")
    )
    assert [values(outcome) for outcome in run.outcomes] == [[2], [4, 6, 8]]
    assert [made.values for made in session.runs] == [[1, 1], [2, 3], [4, 4]]


@pytest.mark.parametrize(
    ("model", "good", "bad"),
    [
        pytest.param(onnx_models.lookup(4), np.array([1, 2]), np.array([9]), id="an index out of range"),
        pytest.param(
            onnx_models.fragile(), np.array([[1]], np.float32), np.array([[-1]], np.float32), id="an impossible shape"
        ),
    ],
)
def test_a_bad_row_of_a_real_model_fails_its_own_request_only(model: bytes, good: Array, bad: Array) -> None:
    session = OnnxSession(model, Execution(), name="fraud:3")
    requests = [Request({"x": good}), Request({"x": bad}), Request({"x": good})]
    with pytest.raises(GatewayError) as caught:
        run_batch(session, requests, sum(request.rows for request in requests), rows_per_run=8, fixed_rows=None)
    assert isinstance(caught.value, InvalidInput | InferenceFailed)
    run = run_isolated(session, requests, rows_per_run=8, fixed_rows=None, failure=caught.value)
    alone = session.run({"x": good}, ())
    for outcome in (run.outcomes[0], run.outcomes[2]):
        assert isinstance(outcome, dict)
        np.testing.assert_array_equal(outcome["y"], alone[0])
    assert isinstance(run.outcomes[1], type(caught.value))


def test_a_stopped_run_fails() -> None:
    session = OnnxSession(onnx_models.slow(1_000_000), Execution(), name="slow:1")
    stop = RunStop()
    stop.stop()
    with pytest.raises(InferenceFailed, match="terminate"):
        run_batch(session, [Request(column(1))], 1, rows_per_run=8, fixed_rows=None, stop=stop)
