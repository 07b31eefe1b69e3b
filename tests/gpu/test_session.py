"""Holds sessions on CUDA to what sessions on the processor promise, and to clear refusals where they cannot."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest

from gateway.errors import InferenceFailed, InvalidInput, LoadFailed
from gateway.inference.loader import LoadedVersion, load_version
from gateway.inference.manifest import sha256_of
from gateway.inference.model_config import Batching, Execution, ModelConfig, Option, Provider
from gateway.inference.repository import VersionFiles
from gateway.inference.session import OnnxSession
from gateway.messages import Array, ModelVersion
from loadtests.bench import models as bench
from tests.inference.test_session import values_of
from tests.support import onnx_models
from tests.support.ended_run import end_a_run
from tests.support.server import EXAMPLE_MODELS

CUDA = Execution(providers=("cuda",))
BOTH = Execution(providers=("cuda", "cpu"))
MLP = bench.mlp().SerializeToString()
CNN = bench.cnn().SerializeToString()
INPUTS = {MLP: ("features", (512,)), CNN: ("image", (3, 64, 64))}
EACH = pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])


def opened(model: bytes, execution: Execution = CUDA) -> OnnxSession:
    return OnnxSession(model, execution, name="fraud:3")


def with_options(**options: Option) -> Execution:
    return Execution(providers=(Provider(name="cuda", options=options),))


def load_fault(model: bytes, execution: Execution = CUDA) -> str:
    with pytest.raises(LoadFailed) as caught:
        opened(model, execution)
    return str(caught.value)


def drawn(model: bytes, rows: int) -> dict[str, Array]:
    name, shape = INPUTS[model]
    return {name: np.random.default_rng(rows).standard_normal((rows, *shape), dtype=np.float32)}


def loaded(model: bytes, batching: Batching = Batching()) -> LoadedVersion:  # noqa: B008 - frozen
    files = VersionFiles(model=model, sha256=sha256_of(model), manifest=None, golden=None, external_folder=None)
    return load_version(ModelVersion("fraud", 3), files, ModelConfig(execution=CUDA, batching=batching))


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", [name for name in onnx_models.DATATYPES if name != "BYTES"])
def test_every_datatype_goes_to_the_device_and_comes_back(datatype: str) -> None:
    values = values_of(datatype)
    (got,) = opened(onnx_models.identity(datatype)).run({"x": values}, ())
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, values)


def test_bfloat16_that_the_device_computes_comes_out_in_bits() -> None:
    values = np.array([[1.0, -2.5, 3.14159], [0, np.inf, 1e-3]], np.float32)
    (got,) = opened(onnx_models.cast("FP32", "BF16")).run({"x": values}, ())
    np.testing.assert_array_equal(got, values.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_half_precision_is_computed_on_the_device() -> None:
    values = np.array([[1.0, -2.5, 65504.0], [0.1, 1e-3, 6e-8]], np.float32)
    (got,) = opened(onnx_models.cast("FP32", "FP16")).run({"x": values}, ())
    np.testing.assert_array_equal(got, values.astype(np.float16))


@EACH
@pytest.mark.parametrize("rows", [1, 2, 5, 64])
def test_floats_agree_with_the_processors_to_the_last_bits(model: bytes, rows: int) -> None:
    """With TF32, onnxruntime's default on CUDA, they do so to three digits only."""
    inputs = drawn(model, rows)
    (wanted,) = opened(model, Execution()).run(inputs, ())
    (got,) = opened(model).run(inputs, ())
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_a_model_may_ask_for_tf32() -> None:
    assert opened(MLP, with_options(use_tf32=1)).run(drawn(MLP, 64), ())[0].shape == (64, 10)


def test_outputs_come_in_the_order_asked_for() -> None:
    session = opened(onnx_models.several(), BOTH)
    inputs = {"x": np.ones((2, 3), np.float32), "w": np.array([[1], [2]])}
    z, y = session.run(inputs, ("z", "y"))
    assert (y.tolist(), z.tolist()) == ([[2, 2, 2], [3, 3, 3]], [[-1], [-2]])
    (alone,) = session.run(inputs, ("z",))
    np.testing.assert_array_equal(alone, z)


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 1, 1)])
@pytest.mark.parametrize("datatype", ["FP32", "BF16"])
def test_scalars_and_no_rows_stay_what_they_are(datatype: str, shape: tuple[int, ...]) -> None:
    session = opened(onnx_models.identity(datatype, tuple(f"axis{number}" for number, _ in enumerate(shape))))
    dtype = np.uint16 if datatype == "BF16" else np.float32
    (got,) = session.run({"x": np.ones(shape, dtype)}, ())
    assert got.shape == shape


def test_one_session_may_run_in_several_threads_at_once() -> None:
    session = opened(MLP)
    wanted = {rows: session.run(drawn(MLP, rows), ())[0] for rows in (1, 2, 5, 8)}
    wrong: list[int] = []

    def work(rows: int) -> None:
        answers = [session.run(drawn(MLP, rows), ())[0] for _ in range(50)]
        wrong.extend(rows for answer in answers if not np.allclose(answer, wanted[rows], rtol=1e-5, atol=1e-6))

    threads = [threading.Thread(target=work, args=(rows,)) for rows in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- sharing runs -------------------------------------------------------------------------------------------


def test_convolutions_are_padded_to_one_size_and_answer_the_same() -> None:
    """Whenever the rows change cuDNN searches its algorithms anew: 33 ms for these three convolutions."""
    version = loaded(CNN)
    assert version.sharing.shares_runs
    assert version.sharing.fixed_rows in {8, 16, 32, 64}
    assert "batches are padded" in version.sharing.reason


def test_perceptrons_share_runs_of_any_size() -> None:
    version = loaded(MLP)
    assert version.sharing.shares_runs
    assert version.sharing.fixed_rows is None


def test_max_rows_bounds_the_padding() -> None:
    assert loaded(CNN, Batching(max_rows=4)).sharing.fixed_rows == 4


# --- runs that fail or end ------------------------------------------------------------------------------------


def test_a_run_under_way_can_be_ended() -> None:
    session = opened(onnx_models.slow_on_demand(), BOTH)
    assert "terminate" in end_a_run(session, after_s=0.2)
    assert session.run({"x": np.array([[3]], np.float32)}, ())[0].tolist() == [[3]]


def test_inputs_that_do_not_fit_are_the_callers_fault_here_too() -> None:
    with pytest.raises(InvalidInput, match=r"^fraud:3: .*invalid dimensions"):
        opened(onnx_models.affine()).run({"x": np.ones((2, 4), np.float32)}, ())


def test_a_run_beyond_the_memory_limit_fails_alone() -> None:
    session = opened(onnx_models.affine(), with_options(gpu_mem_limit=8 << 20))
    few = {"x": np.ones((8, 3), np.float32)}
    session.run(few, ())
    with pytest.raises(InferenceFailed, match=r"^fraud:3: .*Available memory of \d+ is smaller"):
        session.run({"x": np.ones((2_000_000, 3), np.float32)}, ())
    assert session.run(few, ())[0].tolist() == [[3, 3, 3]] * 8


# --- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "operators"),
    [
        ("breast_cancer/1", "LinearClassifier, Scaler"),
        ("breast_cancer/2", "TreeEnsembleClassifier"),
        ("penguins/1", "Imputer, LinearClassifier, Normalizer, OneHotEncoder, Scaler"),
    ],
)
def test_what_cuda_lacks_is_named_and_does_not_slip_to_the_cpu(version: str, operators: str) -> None:
    model = (EXAMPLE_MODELS / version / "model.onnx").read_bytes()
    assert load_fault(model) == (
        f"execution provider 'cuda' does not run {operators} of this model; "
        "'cpu' at the end of execution.providers would"
    )
    assert opened(model, BOTH).providers == ("cuda", "cpu")


def test_strings_stay_on_the_cpu() -> None:
    model = onnx_models.identity("BYTES")
    assert "does not run Identity of this model" in load_fault(model)
    values = values_of("BYTES")
    np.testing.assert_array_equal(opened(model, BOTH).run({"x": values}, ())[0], values)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device_id": 99}, "Invalid device ID: 99, must be between 0"),
        ({"gpu_mem_limits": 1}, 'Unknown provider option: "gpu_mem_limits"'),
        ({"cudnn_conv_algo_search": "FAST"}, 'Failed to parse provider option "cudnn_conv_algo_search"'),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(options: dict[str, Option], said: str) -> None:
    text = load_fault(onnx_models.affine(), with_options(**options))
    assert said in text
    assert "/onnxruntime_src" not in text


def test_weights_beyond_the_memory_limit_are_refused() -> None:
    assert "is smaller than requested bytes" in load_fault(MLP, with_options(gpu_mem_limit=1000))


def test_tensorrt_without_its_libraries_is_refused_even_before_cuda() -> None:
    if "TensorRT" not in (said := load_fault(onnx_models.affine(), Execution(providers=("tensorrt", "cuda", "cpu")))):
        pytest.fail(said)
