"""Holds the loader to its promises: what may be READY, and which models may share a run.

Loads real models; nothing is served.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from gateway.errors import InvalidInput, InvalidModel, LoadFailed
from gateway.inference.execution import run_batch
from gateway.inference.loader import LoadedVersion, Sharing, decide_sharing, decide_size, load_version, warm_up
from gateway.inference.manifest import Golden, GoldenCase, sha256_of
from gateway.inference.model_config import Batching, Execution, ModelConfig, Outputs
from gateway.inference.repository import VersionFiles
from gateway.inference.session import OnnxSession, RunStop, Session
from gateway.inference.signature import FREE_ROWS, Signature, tensor_spec
from gateway.messages import Array, ModelVersion
from tests.inference.stub_session import SHARED, StubSession, column
from tests.support import onnx_models

KEY = ModelVersion("fraud", 3)


def case(inputs: dict[str, object], outputs: dict[str, object], tolerance: float = 1e-5) -> GoldenCase:
    return GoldenCase(inputs=inputs, outputs=outputs, tolerance=tolerance)


def load(
    model: bytes, *cases: GoldenCase, config: ModelConfig | None = None, external_folder: Path | None = None
) -> LoadedVersion:
    files = VersionFiles(
        model=model,
        sha256=sha256_of(model),
        manifest=None,
        golden=Golden(cases=list(cases)) if cases else None,
        external_folder=external_folder,
    )
    return load_version(KEY, files, config or ModelConfig())


def fault(model: bytes, *cases: GoldenCase, config: ModelConfig | None = None) -> str:
    with pytest.raises(LoadFailed) as caught:
        load(model, *cases, config=config)
    return str(caught.value)


def sharing_of(model: bytes, sample: Mapping[str, Array] | None = None, *, enabled: bool | None = None) -> Sharing:
    session = OnnxSession(model, Execution(), name=str(KEY))
    return decide_sharing(session, Batching(enabled=enabled), sample=dict(sample) if sample else None)


# --- what a loaded version is -------------------------------------------------------------------------------


def test_a_loaded_version_says_what_it_is_and_what_it_cost() -> None:
    model = onnx_models.affine()
    loaded = load(model)
    assert (loaded.key, loaded.sha256, loaded.file_bytes) == (KEY, sha256_of(model), len(model))
    assert [session.providers for session in loaded.sessions] == [("cpu",)]
    assert loaded.load_s > 0
    assert loaded.grown_bytes >= 0
    assert [loaded.run_time.predict(rows) < math.inf for rows in (1, 2, 4, 8, 16, 32, 64)] == [True] * 7


@pytest.mark.parametrize("named", [Outputs(score="z"), Outputs(label="z")])
def test_an_output_that_model_toml_names_must_exist(named: Outputs) -> None:
    with pytest.raises(LoadFailed, match=r"key 'outputs\.(score|label)': unknown 'z', expected one of y"):
        load(onnx_models.affine(), config=ModelConfig(outputs=named))
    assert load(onnx_models.affine(), config=ModelConfig(outputs=Outputs(score="y"))).config.outputs.score == "y"


def test_each_instance_is_a_session_of_its_own() -> None:
    loaded = load(onnx_models.affine(), config=ModelConfig(execution=Execution(instances=3)))
    assert len({id(session) for session in loaded.sessions}) == 3


def test_external_data_is_read_from_the_versions_directory(tmp_path: Path) -> None:
    model = onnx_models.external_data("weights.bin", tmp_path)
    golden = case({"x": [[0, 0, 0]]}, {"y": [[0, 1, 2]]})
    assert load(model, golden, external_folder=tmp_path).sharing.shares_runs


@pytest.mark.parametrize(
    ("model", "execution", "said"),
    [
        (b"no model", Execution(), "onnxruntime refuses the model: "),
        (onnx_models.zipmap(), Execution(), "options={'zipmap': False}"),
        (onnx_models.affine(), Execution(providers=("cuda",)), "is not part of the installed onnxruntime"),
    ],
)
def test_what_cannot_be_opened_fails_with_the_reason(model: bytes, execution: Execution, said: str) -> None:
    assert said in fault(model, config=ModelConfig(execution=execution))


# --- golden requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "tolerance"),
    [
        pytest.param(onnx_models.affine(), {"x": [[1, 2, 3]]}, {"y": [[3, 5, 7]]}, 0, id="exactly"),
        pytest.param(onnx_models.affine(), {"x": [[1, 2, 3]]}, {"y": [[3.01, 5, 7]]}, 0.01, id="within the tolerance"),
        pytest.param(
            onnx_models.affine(), {"x": [[1000, 2, 3]]}, {"y": [[2011, 5, 7]]}, 0.01, id="within it in proportion"
        ),
        pytest.param(onnx_models.affine(), {"x": [[None, 2, 3]]}, {"y": [[None, 5, 7]]}, 0, id="NaN is NaN"),
        pytest.param(onnx_models.affine(), {"x": [[1, 2, 3]]}, {}, 0, id="nothing expected"),
        pytest.param(onnx_models.several(), {"x": [[1, 2, 3]], "w": [[4]]}, {"z": [[-4]]}, 9, id="one of two outputs"),
        pytest.param(onnx_models.identity("BYTES"), {"x": [["a", "ü", ""]]}, {"y": [["a", "ü", ""]]}, 0, id="strings"),
        pytest.param(onnx_models.identity("BOOL", ("rows",)), {"x": [True]}, {"y": [True]}, 0, id="booleans"),
        pytest.param(onnx_models.identity("FP32", ()), {"x": 3}, {"y": 3}, 0, id="a scalar"),
        pytest.param(onnx_models.affine(rows=2), {"x": [[1, 2, 3]] * 2}, {"y": [[3, 5, 7]] * 2}, 0, id="fixed rows"),
        pytest.param(onnx_models.dynamic_axis(), {"x": [[1, 2, 3, 4]]}, {"total": [10]}, 0, id="a dynamic axis"),
        pytest.param(onnx_models.cast("FP32", "BF16"), {"x": [[1, 2, 0.3]]}, {"y": [[1, 2, 0.3]]}, 0, id="BF16"),
        pytest.param(
            onnx_models.identity("BF16"), {"x": [[1, 2.5, None]]}, {"y": [[1, 2.51, None]]}, 0.01, id="BF16 in"
        ),
    ],
)
def test_golden_answers_that_agree_let_the_version_in(
    model: bytes, inputs: dict[str, object], outputs: dict[str, object], tolerance: float
) -> None:
    load(model, case(inputs, outputs, tolerance))


GOOD = case({"x": [[1, 2, 3]]}, {"y": [[3, 5, 7]]})


@pytest.mark.parametrize(
    ("model", "bad", "said"),
    [
        pytest.param(
            onnx_models.affine(),
            case({"x": [[1, 2, 3]]}, {"y": [[3, 5, 7.1]]}),
            "golden.json: case 1: output 'y' differs by more than 1e-05",
            id="another answer",
        ),
        pytest.param(
            onnx_models.affine(),
            case({"x": [[1, 2, 3]]}, {"y": [[3, 5, None]]}),
            "golden.json: case 1: output 'y' differs by more than 1e-05",
            id="NaN expected",
        ),
        pytest.param(
            onnx_models.affine(),
            case({"x": [[1, 2, 3]]}, {"y": [[3, 5, 7]] * 2}),
            "golden.json: case 1: output 'y' has shape [1, 3], expected [2, 3]",
            id="another shape",
        ),
        pytest.param(
            onnx_models.affine(),
            case({"x": [[1, 2, 3]]}, {"z": [[1]]}),
            "golden.json: case 1: the model has no output 'z'",
            id="unknown output",
        ),
        pytest.param(
            onnx_models.affine(), case({"v": [[1]]}, {}), "golden.json: case 1: the model has no input 'v'", id="input"
        ),
        pytest.param(
            onnx_models.affine(),
            case({}, {}),
            "golden.json: case 1: missing input 'x'; expected 1 inputs (x), got 0",
            id="no input",
        ),
        pytest.param(
            onnx_models.affine(),
            case({"x": [[1, 2]]}, {}),
            "golden.json: case 1: input 'x' has shape [1, 2], expected [rows, 3]",
            id="too narrow",
        ),
        pytest.param(
            onnx_models.affine(),
            case({"x": [[1, 2, 3], [1, 2]]}, {}),
            "golden.json: case 1: 'x': not FP32 elements: ",
            id="ragged",
        ),
        pytest.param(
            onnx_models.affine(),
            case({"x": []}, {}),
            "golden.json: case 1: 'x': has 1 axes, expected 2",
            id="empty",
        ),
        pytest.param(
            onnx_models.affine(),
            case({"x": [[1, 2, 3]]}, {"y": [["3", 5, 7]]}),
            "golden.json: case 1: 'y': not FP32 elements: ",
            id="a string expected",
        ),
    ],
)
def test_a_golden_request_that_is_not_met_fails_the_version_and_names_its_case(
    model: bytes, bad: GoldenCase, said: str
) -> None:
    assert fault(model, GOOD, bad).startswith(said)


@pytest.mark.parametrize("tolerance", [0, 100])
def test_integers_and_strings_must_be_equal_whatever_the_tolerance(tolerance: float) -> None:
    wrong_number = case({"x": [[1, 2, 3]], "w": [[4]]}, {"z": [[-5]]}, tolerance)
    assert "output 'z' differs" in fault(onnx_models.several(), wrong_number)
    wrong_word = case({"x": [["a", "b", "c"]]}, {"y": [["a", "b", "d"]]}, tolerance)
    assert "output 'y' differs" in fault(onnx_models.identity("BYTES"), wrong_word)


def test_a_golden_request_that_the_model_refuses_fails_the_version() -> None:
    with pytest.raises(InvalidModel, match=r"^golden.json: case 0: fraud:3: .*out of data bounds"):
        load(onnx_models.lookup(4), case({"x": [9]}, {}))


def test_fixed_rows_must_be_met_by_a_golden_request() -> None:
    assert "input 'x' has shape [1, 3], expected [4, 3]" in fault(onnx_models.affine(rows=4), GOOD)


# --- who may share a run --------------------------------------------------------------------------------------


SHARING: dict[str, bytes] = {
    "affine": onnx_models.affine(),
    "unnamed rows": onnx_models.affine(rows=None),
    "several tensors": onnx_models.several(),
    "a dynamic axis": onnx_models.dynamic_axis(),
    "strings": onnx_models.identity("BYTES"),
    "BF16": onnx_models.cast("FP32", "BF16"),
    "FP16": onnx_models.cast("FP32", "FP16"),
    "booleans": onnx_models.identity("BOOL"),
    "an index": onnx_models.lookup(4),
    "answers that are NaN for negative values": onnx_models.log_mean(),
}


@pytest.mark.parametrize("model", SHARING.values(), ids=SHARING)
def test_independent_rows_share_a_run(model: bytes) -> None:
    assert sharing_of(model) == Sharing(shares_runs=True, reason="the self-test found rows independent")


INFLUENCE = "the self-test found that rows influence each other"
ALONE: dict[str, tuple[bytes, str]] = {
    "a mean over the rows": (onnx_models.mean_centred(), INFLUENCE),
    "a mean over unnamed rows": (onnx_models.mean_centred(rows=None), INFLUENCE),
    "a mean over fixed rows": (onnx_models.mean_centred(rows=4), INFLUENCE),
    "a mean that is NaN for negative values": (onnx_models.log_mean(centred=True), INFLUENCE),
    "a minimum over integers": (onnx_models.above_lowest("INT64"), INFLUENCE),
    "a minimum over fixed rows of integers": (onnx_models.above_lowest("INT64", rows=5), INFLUENCE),
    "a minimum over doubles": (onnx_models.above_lowest("FP64"), INFLUENCE),
    "fewer rows out than in": (onnx_models.row_filter(), INFLUENCE),
    "fixed places that differ": (onnx_models.scaled_by_place(4), INFLUENCE),
    "two fixed places that differ": (onnx_models.scaled_by_place(2), INFLUENCE),
    "an odd number of places that differ": (onnx_models.scaled_by_place(3), INFLUENCE),
    "answers that are always NaN": (
        onnx_models.always_nan(),
        "the self-test could not run: output 'y' told nothing for any input tried",
    ),
    "fixed rows that are always NaN": (
        onnx_models.always_nan(rows=3),
        "the self-test could not run: output 'y' told nothing for any input tried",
    ),
    "inputs that cannot be made up": (onnx_models.centred_lookup(), "the self-test could not run: fraud:3: "),
    "fixed rows that cannot be made up": (
        onnx_models.centred_lookup(rows=3),
        "the self-test could not run: fraud:3: ",
    ),
    "differently named rows": (
        onnx_models.identity("FP32", ("batch", 3), output_shape=("other", 3)),
        "inputs and outputs name their first axis differently; batching.enabled = true says they are rows",
    ),
    "free rows in, fixed rows out": (
        onnx_models.identity("FP32", ("rows", 3), output_shape=(1, 3)),
        "inputs and outputs have no first axis in common",
    ),
    "a scalar": (onnx_models.identity("FP32", ()), "inputs and outputs have no first axis in common"),
    "no inputs": (onnx_models.constant(), "inputs and outputs have no first axis in common"),
}


@pytest.mark.parametrize(("model", "reason"), ALONE.values(), ids=ALONE)
def test_rows_that_are_not_surely_independent_run_alone_and_say_why(model: bytes, reason: str) -> None:
    sharing = sharing_of(model)
    assert not sharing.shares_runs
    assert sharing.fixed_rows is None
    assert sharing.reason.startswith(reason)


@pytest.mark.parametrize(
    "model", [onnx_models.mean_centred(), onnx_models.mean_centred(rows=4), onnx_models.scaled_by_place(4)]
)
def test_the_configuration_does_not_overrule_the_self_test(model: bytes) -> None:
    assert sharing_of(model, enabled=True).reason == INFLUENCE


def test_the_configuration_may_say_that_differently_named_axes_are_rows() -> None:
    independent = onnx_models.identity("FP32", ("batch", 3), output_shape=("other", 3))
    assert sharing_of(independent, enabled=True).shares_runs


def test_the_configuration_may_switch_sharing_off() -> None:
    assert sharing_of(onnx_models.affine(), enabled=False) == Sharing(
        shares_runs=False, reason="switched off by batching.enabled"
    )


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
def test_independent_fixed_rows_are_padded(rows: int) -> None:
    sharing = sharing_of(onnx_models.affine(rows=rows))
    assert (sharing.shares_runs, sharing.fixed_rows) == (True, rows)
    assert sharing.reason == f"the self-test found rows independent; batches are padded to {rows} rows"


@pytest.mark.parametrize("rows", ["rows", 3])
def test_with_golden_rows_that_differ_a_model_of_rare_inputs_can_be_told(rows: int | str) -> None:
    """Made-up 0 and 1 are refused; the golden rows alone must show that the rows are centred."""
    sample = {"x": np.array([2, 5, 3])}
    assert sharing_of(onnx_models.centred_lookup(rows=rows), sample).reason == INFLUENCE


@pytest.mark.parametrize("rows", ["rows", 3])
def test_golden_rows_that_are_all_alike_tell_nothing(rows: int | str) -> None:
    """The mean of equal rows is each of them."""
    sample = {"x": np.array([4, 4, 4])}
    assert not sharing_of(onnx_models.centred_lookup(rows=rows), sample).shares_runs


def test_golden_rows_of_several_cases_are_seen_together() -> None:
    """One row a case is what many publishers write."""
    cases = [case({"x": [value]}, {}) for value in (2, 5, 3)]
    assert load(onnx_models.centred_lookup(), *cases).sharing.reason == INFLUENCE


def test_golden_cases_of_other_shapes_do_not_spoil_the_sample() -> None:
    cases = [case({"x": [[1, 2]]}, {}), case({"x": [[1, 2, 3]]}, {}), case({"x": [[3, 4]]}, {})]
    assert load(onnx_models.dynamic_axis(), *cases).sharing.shares_runs


class Counted(StubSession):
    """A stub that takes negative values and counts its runs' rows."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        return super().run({"x": abs(inputs["x"]) + 1}, outputs, stop)

    @property
    def rows(self) -> list[int]:
        return [len(run.values) for run in self.runs]


class Ragged(StubSession):
    """Forgets a row of its second output."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        y, z = super().run({"x": abs(inputs["x"])}, outputs, stop)
        return [y, z[: len(z) - 1]]


class Flat(StubSession):
    """Answers a number where the file says a column."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        return [array.sum() * np.ones(()) for array in super().run({"x": abs(inputs["x"])}, outputs, stop)]


def with_rows(session: StubSession, rows: str | int) -> StubSession:
    """Declare the first axis of a stub."""
    session.signature = Signature.of(
        [tensor_spec("x", "tensor(float)", (rows, 1), role="input")],
        [tensor_spec(name, "tensor(float)", (rows, 1), role="output") for name in ("y", "z")],
    )
    return session


class Capped(StubSession):
    """Answers the first three rows only."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        return [array[:3] for array in super().run({"x": abs(inputs["x"])}, outputs, stop)]


@pytest.mark.parametrize("rows", ["rows", 4])
@pytest.mark.parametrize("kind", [Ragged, Flat, Capped])
def test_answers_without_the_rows_of_their_request_are_never_shared(
    kind: Callable[[], StubSession], rows: str | int
) -> None:
    """What the file says of an output's shape need not be true."""
    session = with_rows(kind(), rows)
    assert decide_sharing(session, Batching(), sample=None).reason == INFLUENCE


@pytest.mark.parametrize("rows", ["rows", 4])
def test_inputs_that_are_refused_now_and_then_do_not_spoil_the_test(rows: str | int) -> None:
    """The stub refuses negative values, as a model with an index does."""
    assert decide_sharing(with_rows(StubSession(), rows), Batching(), sample=None).shares_runs


def test_a_slow_model_is_tested_no_longer_than_needed() -> None:
    slow = OnnxSession(onnx_models.slow(500_000), Execution(), name="slow:1")

    class Slow(Counted):
        def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
            slow.run({"x": np.ones((1, 1), np.float32)}, ())
            return super().run(inputs, outputs, stop)

    session = Slow()
    assert decide_sharing(session, Batching(), sample=None).shares_runs
    assert session.rows == [2, 3, 5]


def test_a_shared_run_of_every_sharing_model_equals_its_singles() -> None:
    """The promise itself, at sizes that the self-test did not try."""
    model = onnx_models.several()
    loaded = load(model)
    random = np.random.default_rng(4)

    class Part:
        def __init__(self, rows: int) -> None:
            self.inputs: dict[str, Array] = {
                "x": random.random((rows, 3), np.float32),
                "w": random.integers(0, 9, (rows, 1)),
            }
            self.rows = rows
            self.outputs: tuple[str, ...] = ()

        def is_abandoned(self) -> bool:
            return False

    parts = [Part(rows) for rows in (1, 7, 2, 30)]
    session = loaded.sessions[0]
    together = run_batch(session, parts, 40, rows_per_run=64, fixed_rows=None).outcomes
    for part, outcome in zip(parts, together, strict=True):
        assert isinstance(outcome, dict)
        for got, alone in zip(outcome.values(), session.run(part.inputs, ()), strict=True):
            np.testing.assert_array_equal(got, alone)


# --- warm-up --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_rows", "sizes"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])]
)
def test_every_instance_is_warmed_at_one_the_powers_of_two_and_max_rows(max_rows: int, sizes: list[int]) -> None:
    sessions = [Counted(), Counted()]
    run_time = warm_up(list[Session](sessions), Batching(max_rows=max_rows), SHARED, sample=None)
    for session in sessions:
        assert sorted(set(session.rows)) == sizes
    assert all(run_time.predict(rows) < math.inf for rows in range(1, max_rows + 1))


def test_a_model_that_runs_alone_is_warmed_with_one_row() -> None:
    session = Counted()
    warm_up([session], Batching(max_rows=64), Sharing(shares_runs=False, reason=""), sample=None)
    assert set(session.rows) == {1}


def test_fixed_rows_are_warmed_with_exactly_these() -> None:
    session = Counted()
    sharing = Sharing(shares_runs=True, reason="", fixed_rows=5)
    run_time = warm_up([session], Batching(max_rows=64), sharing, sample=None)
    assert set(session.rows) == {5}
    assert run_time.predict(1) < math.inf


def test_a_sample_is_cycled_to_every_size() -> None:
    session = StubSession()
    warm_up([session], Batching(max_rows=4), SHARED, sample=column(1, 2, 3))
    assert {tuple(run.values) for run in session.runs} == {(1,), (1, 2), (1, 2, 3, 1)}


def test_a_sample_without_rows_is_run_as_it_is() -> None:
    loaded = load(onnx_models.identity("FP32", ()), case({"x": 3}, {"y": 3}))
    assert loaded.run_time.predict(1) < math.inf
    assert loaded.signature.rows is None


class Small(StubSession):
    """Refuses more than three rows."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        if len(inputs["x"]) > 3:
            raise InvalidInput("fraud:3: too many rows")
        return super().run({"x": abs(inputs["x"])}, outputs, stop)


def test_a_warm_up_that_fails_on_the_publishers_own_rows_fails_the_version() -> None:
    with pytest.raises(LoadFailed, match=r"^warm-up with 4 rows failed: fraud:3: too many rows$"):
        warm_up([Small()], Batching(max_rows=8), SHARED, sample=column(1))


def test_a_warm_up_that_fails_on_made_up_rows_leaves_those_sizes_unknown() -> None:
    run_time = warm_up([Small()], Batching(max_rows=8), SHARED, sample=None)
    assert run_time.predict(2) < math.inf
    assert run_time.predict(4) == math.inf


# --- one size for all runs ------------------------------------------------------------------------------------


class Reluctant(StubSession):
    """Takes hundredths of a second to change to another number of rows, as cuDNN does; negative rows are welcome."""

    def __init__(self, provider: str = "cuda") -> None:
        super().__init__()
        self.providers = (provider,)
        self.sizes: list[int] = []

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        rows = len(inputs["x"])
        if self.sizes[-1:] != [rows]:
            threading.Event().wait(0.02)
        self.sizes.append(rows)
        return super().run({"x": abs(inputs["x"])}, outputs, stop)


def size_of(session: StubSession, sharing: Sharing = SHARED, *, max_rows: int = 8) -> Sharing:
    batching = Batching(max_rows=max_rows)
    run_time = warm_up([session], batching, sharing, sample=None)
    return decide_size(session, batching, sharing, run_time, sample=None)


def test_where_another_size_takes_long_every_run_has_the_same() -> None:
    decided = size_of(Reluctant())
    assert (decided.shares_runs, decided.fixed_rows) == (True, 8)
    assert decided.reason.startswith("for the test; batches are padded to 8 rows: another size takes ")


def test_a_padded_size_is_no_larger_than_max_rows() -> None:
    assert size_of(Reluctant(), max_rows=6).fixed_rows == 6


class Accommodating(Reluctant):
    """Takes its time for every run, whatever the last one's rows."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        self.sizes = []
        return super().run(inputs, outputs, stop)


@pytest.mark.parametrize(
    ("session", "sharing", "max_rows"),
    [
        pytest.param(Accommodating(), SHARED, 8, id="another size costs nothing"),
        pytest.param(Reluctant("cpu"), SHARED, 8, id="the processor"),
        pytest.param(Reluctant(), Sharing(shares_runs=False, reason=""), 8, id="requests run alone"),
        pytest.param(Reluctant(), SHARED, 1, id="runs of one row"),
        pytest.param(Reluctant(), Sharing(shares_runs=True, reason="", fixed_rows=4), 8, id="the file fixes the rows"),
    ],
)
def test_elsewhere_nothing_is_padded(session: StubSession, sharing: Sharing, max_rows: int) -> None:
    assert size_of(session, sharing, max_rows=max_rows) is sharing


def test_a_model_that_refuses_the_made_up_rows_keeps_its_sizes() -> None:
    session = Small()
    session.providers = ("cuda",)
    assert size_of(session) is SHARED


def test_padded_rows_are_free_for_callers() -> None:
    loaded = load(onnx_models.affine(rows=4))
    assert (loaded.signature.rows, loaded.sharing.fixed_rows) == (FREE_ROWS, 4)
    assert loaded.sessions[0].signature.rows == 4


def test_fixed_rows_that_run_alone_stay_fixed_for_callers() -> None:
    assert load(onnx_models.mean_centred(rows=4)).signature.rows == 4
