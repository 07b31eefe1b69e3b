"""Holds the session to its promises: every datatype, the providers asked for and no other, errors named by their cause.

Opens real models in onnxruntime, on the CPU.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from gateway.errors import GatewayError, InferenceFailed, InvalidInput, InvalidModel, LoadFailed
from gateway.inference.model_config import Execution, Option, Provider
from gateway.inference.session import OnnxSession, resolve_providers, usable_cpus
from gateway.inference.signature import NUMPY_TYPES
from gateway.messages import Array
from tests.support import onnx_models
from tests.support.ended_run import end_a_run


def opened(model: bytes, execution: Execution | None = None) -> OnnxSession:
    return OnnxSession(model, execution or Execution(), name="fraud:3")


def load_fault(model: bytes, execution: Execution | None = None) -> str:
    with pytest.raises(LoadFailed) as caught:
        opened(model, execution)
    return str(caught.value)


def values_of(datatype: str) -> Array:
    """Return values at the edges of a datatype, two rows of three."""
    if datatype == "BYTES":
        return np.array([["", "a", "größe"], ["\n", "x" * 10_000, "😀"]], object)
    dtype = np.dtype(NUMPY_TYPES[datatype])
    if dtype == np.bool_:
        return np.array([[True, False, True], [False, False, True]])
    if dtype.kind == "f":
        return np.array([[0, np.finfo(dtype).max, np.finfo(dtype).tiny], [-0.0, np.inf, np.nan]], dtype)
    return np.array([[0, np.iinfo(dtype).max, np.iinfo(dtype).min], [1, 2, 3]], dtype)


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", onnx_models.DATATYPES)
def test_every_datatype_goes_in_and_comes_out_as_it_was(datatype: str) -> None:
    session = opened(onnx_models.identity(datatype))
    values = values_of(datatype)
    (got,) = session.run({"x": values}, ())
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, values)
    assert session.signature.inputs[0].datatype == session.signature.outputs[0].datatype == datatype


def test_outputs_come_in_the_order_asked_for_and_in_the_files_own_when_none_is() -> None:
    session = opened(onnx_models.several())
    inputs = {"x": np.ones((2, 3), np.float32), "w": np.array([[1], [2]])}
    y, z = session.run(inputs, ())
    assert (y.shape, z.tolist()) == ((2, 3), [[-1], [-2]])
    turned = session.run(inputs, ("z", "y"))
    np.testing.assert_array_equal(turned[0], z)
    np.testing.assert_array_equal(turned[1], y)
    (alone,) = session.run(inputs, ("z",))
    np.testing.assert_array_equal(alone, z)


@pytest.mark.parametrize("datatype", ["FP32", "BF16"])
def test_arrays_that_lie_otherwise_in_memory_are_read_right(datatype: str) -> None:
    session = opened(onnx_models.identity(datatype))
    whole = np.arange(24).reshape(4, 6).astype(NUMPY_TYPES[datatype])
    for view in (whole[::2, ::2], whole.T[:2, 1:4], np.asfortranarray(whole[:2, :3])):
        np.testing.assert_array_equal(session.run({"x": view}, ())[0], view)


def test_bfloat16_that_the_model_computes_comes_out_in_bits() -> None:
    values = np.array([[1.0, -2.5, 3.14159], [0, np.inf, 1e-3]], np.float32)
    (got,) = opened(onnx_models.cast("FP32", "BF16")).run({"x": values}, ())
    np.testing.assert_array_equal(got, values.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_bfloat16_that_the_model_reads_is_taken_for_its_bits() -> None:
    bits = np.array([[0x3F80, 0xC020, 0x7F80]], np.uint16)
    (got,) = opened(onnx_models.cast("BF16", "FP32")).run({"x": bits}, ())
    assert got.tolist() == [[1.0, -2.5, np.inf]]


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 1, 1)])
def test_bfloat16_of_any_size_comes_out_whole(shape: tuple[int, ...]) -> None:
    session = opened(onnx_models.identity("BF16", tuple(f"axis{number}" for number, _ in enumerate(shape))))
    (got,) = session.run({"x": np.full(shape, 0x3F80, np.uint16)}, ())
    assert got.shape == shape
    assert got.dtype == np.uint16
    assert (got == 0x3F80).all()


def test_a_scalar_stays_a_scalar() -> None:
    (got,) = opened(onnx_models.identity("FP32", ())).run({"x": np.array(3, np.float32)}, ())
    assert got.shape == ()
    assert got == 3


def test_bfloat16_answers_do_not_change_when_the_next_run_writes() -> None:
    session = opened(onnx_models.identity("BF16"))
    first = session.run({"x": np.full((2, 3), 1, np.uint16)}, ())[0]
    session.run({"x": np.full((2, 3), 2, np.uint16)}, ())
    assert (first == 1).all()


def test_external_data_is_read_from_the_versions_directory(tmp_path: Path) -> None:
    model = onnx_models.external_data("parts/weights.bin", tmp_path)
    session = OnnxSession(model, Execution(), name="fraud:3", external_folder=tmp_path)
    assert session.run({"x": np.zeros((1, 3), np.float32)}, ())[0].tolist() == [[0, 1, 2]]


def test_one_session_may_run_in_several_threads_at_once() -> None:
    session = opened(onnx_models.affine())
    wrong: list[int] = []

    def work(number: int) -> None:
        x = np.full((4, 3), number, np.float32)
        answers = [session.run({"x": x}, ())[0] for _ in range(50)]
        wrong.extend(number for answer in answers if (answer != 2 * number + 1).any())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- runs that fail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "values", "error", "said"),
    [
        pytest.param(
            onnx_models.lookup(4), np.array([9]), InvalidInput, "out of data bounds", id="an index out of range"
        ),
        pytest.param(
            onnx_models.affine(), np.ones((2, 4), np.float32), InvalidInput, "invalid dimensions", id="another shape"
        ),
        pytest.param(onnx_models.affine(), np.ones((2, 3)), InvalidInput, "data type", id="another datatype"),
        pytest.param(
            onnx_models.fragile(), -np.ones((1, 1), np.float32), InferenceFailed, "Reshape", id="an impossible shape"
        ),
    ],
)
def test_a_failing_run_says_whose_fault_it_is_in_one_line(
    model: bytes, values: Array, error: type[GatewayError], said: str
) -> None:
    with pytest.raises(error) as caught:
        opened(model).run({"x": values}, ())
    text = str(caught.value)
    assert text.startswith("fraud:3: ")
    assert said in text
    assert text.isprintable()
    assert len(text) < 600


def test_a_failing_bfloat16_run_is_named_too() -> None:
    with pytest.raises(InvalidInput, match=r"^fraud:3: "):
        opened(onnx_models.identity("BF16")).run({"x": np.ones((2, 4), np.uint16)}, ())


def test_a_run_under_way_can_be_ended() -> None:
    session = opened(onnx_models.slow_on_demand())
    assert "terminate" in end_a_run(session, after_s=0.05)


# --- files that are no models -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, onnx_models.affine()[:-20]])
def test_bytes_that_are_no_model_are_refused_in_one_line(content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    text = load_fault(content)
    assert text.startswith("onnxruntime refuses the model: ")
    assert text.isprintable()
    assert capfd.readouterr() == ("", "")


def test_an_output_that_is_no_tensor_is_refused_with_its_repair() -> None:
    with pytest.raises(InvalidModel, match=r"output 'probabilities' is seq\(map.*options=\{'zipmap': False\}.*publish"):
        opened(onnx_models.zipmap())
    with pytest.raises(InvalidModel, match=r"output 'y' is seq\(tensor\(float\)\), expected a tensor$"):
        opened(onnx_models.sequence_output())


# --- execution providers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["cpu", "CPU", "CPUExecutionProvider"])
def test_a_provider_goes_by_its_short_name_or_by_its_own(asked: str) -> None:
    assert opened(onnx_models.affine(), Execution(providers=(asked,))).providers == ("cpu",)


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    text = load_fault(onnx_models.affine(), Execution(providers=("cudda",)))
    assert text.startswith("unknown execution provider 'cudda', expected one of ")
    assert {"cpu", "cuda", "openvino", "tensorrt"} <= set(text.partition("one of ")[2].split(", "))


@pytest.mark.parametrize("providers", [("cuda",), ("cuda", "cpu"), ("cpu", "tensorrt")])
def test_a_provider_that_is_not_installed_is_refused_with_what_is_even_beside_the_cpu(
    providers: tuple[str, ...],
) -> None:
    text = load_fault(onnx_models.affine(), Execution(providers=providers))
    assert "is not part of the installed onnxruntime, which offers azure, cpu" in text


def test_an_operator_the_provider_lacks_does_not_slip_to_the_cpu(capfd: pytest.CaptureFixture[str]) -> None:
    """A provider of every CPU build, `azure`, runs no operator of ours itself."""
    text = load_fault(onnx_models.affine(), Execution(providers=("azure",)))
    assert text == (
        "execution provider 'azure' does not run Add, Mul of this model; 'cpu' at the end of execution.providers would"
    )
    assert capfd.readouterr() == ("", "")


def test_providers_are_told_in_the_order_asked_for_with_their_options_in_words() -> None:
    options: dict[str, Option] = {"arena": False, "threads": 3, "share": 0.5, "name": "x"}
    asked = Execution(providers=("azure", Provider(name="cpu", options=options)))
    assert resolve_providers(asked) == [
        ("AzureExecutionProvider", {}),
        ("CPUExecutionProvider", {"arena": "False", "threads": "3", "share": "0.5", "name": "x"}),
    ]
    assert opened(onnx_models.affine(), asked).providers == ("azure", "cpu")


# --- session options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"graph_optimization_level": "ORT_ENABLE_BASIC"},
        {"execution_mode": "ORT_PARALLEL"},
        {"enable_mem_pattern": False, "inter_op_num_threads": 2},
        {"session.intra_op.allow_spinning": True},
        {"session.set_denormal_as_zero": 1, "session.force_spinning_stop": "0"},
    ],
)
def test_session_options_reach_onnxruntime_by_the_names_it_has_for_them(options: dict[str, Option]) -> None:
    session = opened(onnx_models.affine(), Execution(session_options=options))
    assert session.run({"x": np.zeros((1, 3), np.float32)}, ())[0].tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("value", [True, 1, "1"], ids=["boolean", "number", "string"])
def test_true_is_a_yes_for_onnxruntimes_entries(value: Option) -> None:
    """It reads "1" and takes anything else, "True" too, for a no: this entry turned on refuses a model on the CPU."""
    options: dict[str, Option] = {"session.disable_cpu_ep_fallback": value}
    text = load_fault(onnx_models.affine(), Execution(session_options=options))
    assert "fallback" in text


def test_false_is_a_no_for_onnxruntimes_entries() -> None:
    options: dict[str, Option] = {"session.disable_cpu_ep_fallback": False}
    assert opened(onnx_models.affine(), Execution(session_options=options)).providers == ("cpu",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nope": 1}, "session_options: onnxruntime has no session option 'nope'"),
        ({"_private": 1}, "onnxruntime has no session option '_private'"),
        ({"__class__": 1}, "onnxruntime has no session option '__class__'"),
        ({"graph_optimization_level": "FAST"}, "session_options.graph_optimization_level: onnxruntime does not take"),
        ({"graph_optimization_level": 3}, "session_options.graph_optimization_level: onnxruntime does not take 3"),
        ({"enable_mem_pattern": "no"}, "session_options.enable_mem_pattern: onnxruntime does not take 'no'"),
        ({"log_severity_level": 1 << 40}, "session_options.log_severity_level: onnxruntime does not take"),
        ({"log_severity_level": 99}, "onnxruntime refuses the model: "),
        ({"session." + "x" * 2000: 1}, "session_options: onnxruntime does not take the entry 'session.xxx"),
    ],
)
def test_a_session_option_that_has_no_effect_is_refused_by_name(
    options: dict[str, Option], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said in load_fault(onnx_models.affine(), Execution(session_options=options))
    assert capfd.readouterr() == ("", "")


# --- threads ------------------------------------------------------------------------------------------------


def test_more_threads_than_processors_are_cut_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    opened(onnx_models.affine(), Execution(intra_op_threads=10_000))
    (record,) = [record for record in caplog.records if record.message == "threads_capped"]
    assert vars(record)["usable"] == usable_cpus()


@pytest.mark.parametrize("threads", [0, 1])
def test_all_processors_or_one_thread_are_nothing_to_report(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        opened(onnx_models.affine(), Execution(intra_op_threads=threads))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("1 100000", 1),
        ("max 100000", None),
        ("100000000 100000", None),
        ("0 100000", None),
        ("100000 0", None),
        ("100000", None),
        ("", None),
    ],
)
def test_the_quota_of_the_control_group_bounds_the_processors(
    tmp_path: Path, cpu_max: str, expected: int | None
) -> None:
    unbounded = usable_cpus(tmp_path / "missing")
    (tmp_path / "cpu.max").write_text(f"{cpu_max}\n")
    assert usable_cpus(tmp_path) == (expected or unbounded)


@pytest.mark.parametrize(("quota", "expected"), [("100000", 1), ("20000", 1), ("-1", None), ("100000000", None)])
def test_the_older_control_groups_bound_them_too(tmp_path: Path, quota: str, expected: int | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == (expected or usable_cpus(tmp_path / "missing"))


def test_a_share_of_a_processor_counts_as_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000")
    assert usable_cpus(tmp_path) == min(2, usable_cpus(tmp_path / "missing"))


def test_at_least_one_processor_is_usable() -> None:
    assert usable_cpus() >= 1


@pytest.mark.parametrize(
    "execution",
    [
        Execution(session_options={"optimized_model_filepath": "elsewhere.onnx"}),
        Execution(session_options={"enable_profiling": True}),
        Execution(session_options={"register_custom_ops_library": "evil.so"}),
        Execution(session_options={"session.optimized_model_external_initializers_file_name": "elsewhere"}),
        Execution(providers=(Provider(name="cpu", options={"trt_extra_plugin_lib_paths": "evil.so"}),)),
    ],
)
def test_options_that_touch_files_are_not_the_publishers_to_set(execution: Execution, tmp_path: Path) -> None:
    """A model.toml is published like a model; it must not make the server write or load anything."""
    assert "names a file or a library" in load_fault(onnx_models.affine(), execution)
