"""Holds the warm-up samples of a config.pbtxt to their promises: made as they are described, run before READY."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.errors import InvalidModel, LoadFailed
from gateway.inference.loader import LoadedVersion, load_version
from gateway.inference.manifest import sha256_of
from gateway.inference.repository import VersionFiles
from gateway.inference.signature import Signature, tensor_spec
from gateway.inference.triton_config import TritonModelConfig, parse_triton_config
from gateway.inference.warmup import run_samples, sample_inputs
from gateway.messages import ModelVersion
from tests.inference.stub_session import StubSession
from tests.support import onnx_models

ROWS_AND_WORDS = Signature.of(
    [
        tensor_spec("x", "tensor(float)", ("rows", "length"), role="input"),
        tensor_spec("words", "tensor(string)", ("rows", 2), role="input"),
    ],
    [tensor_spec("y", "tensor(float)", ("rows",), role="output")],
)


def read(text: str) -> TritonModelConfig:
    return parse_triton_config(text.encode(), model="fraud", where="config.pbtxt")


def sample(*, x: str = "dims: 5", words: str = "dims: 2", more: str = "batch_size: 3") -> str:
    return f"""
    max_batch_size: 8
    model_warmup {{
      name: "typical" {more}
      inputs {{ key: "x" value {{ {x} }} }}
      inputs {{ key: "words" value {{ {words} }} }}
    }}
    """


def load(model: bytes, text: str) -> LoadedVersion:
    files = VersionFiles(model=model, sha256=sha256_of(model), manifest=None, golden=None, external_folder=None)
    return load_version(ModelVersion("fraud", 3), files, read(text))


def test_a_sample_has_its_rows_and_its_dims() -> None:
    (inputs,) = sample_inputs(ROWS_AND_WORDS, read(sample(x="dims: 5 zero_data: true")))
    np.testing.assert_array_equal(inputs["x"], np.zeros((3, 5), np.float32))
    assert inputs["words"].tolist() == [["", ""]] * 3


def test_random_data_is_made_up_alike_each_time_and_words_stay_empty() -> None:
    """Triton, too, makes no random strings."""
    config = read(sample(x="dims: 5 random_data: true", words="dims: 2 random_data: true"))
    (inputs,), (again,) = sample_inputs(ROWS_AND_WORDS, config), sample_inputs(ROWS_AND_WORDS, config)
    assert inputs["x"].shape == (3, 5)
    assert len(np.unique(inputs["x"])) == 15
    np.testing.assert_array_equal(inputs["x"], again["x"])
    assert inputs["words"].tolist() == [["", ""]] * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (sample(words="dims: 3"), "input 'words' has shape [3, 3], expected [rows, 2]"),
        (sample().replace("words", "text"), "the model has no input 'text'"),
        (
            'max_batch_size: 8 model_warmup { name: "typical" inputs { key: "x" value { dims: 5 } } }',
            "missing input 'words'",
        ),
    ],
)
def test_a_sample_that_does_not_fit_is_named(text: str, expected: str) -> None:
    with pytest.raises(InvalidModel) as refused:
        sample_inputs(ROWS_AND_WORDS, read(text))
    assert str(refused.value).startswith("config.pbtxt: model_warmup 'typical': ")
    assert expected in str(refused.value)


def test_every_session_runs_every_sample_as_often_as_it_asks() -> None:
    sessions = [StubSession(), StubSession()]
    config = read(
        """
        max_batch_size: 8
        model_warmup { batch_size: 2 count: 3 inputs { key: "x" value { dims: 1 } } }
        model_warmup { inputs { key: "x" value { dims: 1 } } }
        """
    )
    run_samples(sessions, config, sample_inputs(sessions[0].signature, config), rows=None)
    for session in sessions:
        assert [run.values for run in session.runs] == [[0, 0]] * 3 + [[0]]


def test_a_model_with_fixed_rows_gets_as_many_as_it_wants() -> None:
    session = StubSession()
    config = read('max_batch_size: 8 model_warmup { inputs { key: "x" value { dims: 1 } } }')
    run_samples([session], config, sample_inputs(session.signature, config), rows=4)
    assert [run.values for run in session.runs] == [[0] * 4]


def test_a_sample_that_the_model_refuses_is_named() -> None:
    session = StubSession()  # takes nothing below 0
    config = read(
        'max_batch_size: 8 model_warmup { name: "odd" inputs { key: "x" value { dims: 1 random_data: true } } }'
    )
    inputs = [{"x": np.array([[-1]], np.float32)}]
    with pytest.raises(LoadFailed, match=r"^config\.pbtxt: model_warmup 'odd' failed: "):
        run_samples([session], config, inputs, rows=None)


# --- as part of a load ---------------------------------------------------------------------------------------


def test_a_version_whose_sample_fails_is_not_ready() -> None:
    text = """
    max_batch_size: 8
    model_warmup { name: "small" inputs { key: "x" value { dims: 1 } } }
    model_warmup { name: "wide" inputs { key: "x" value { dims: 7 } } }
    """
    model = onnx_models.identity(shape=("rows", None))
    assert load(model, text).sharing.shares_runs
    with pytest.raises(LoadFailed, match=r"config\.pbtxt: model_warmup 'wide': .* has shape \[1, 7\]"):
        load(onnx_models.identity(shape=("rows", 1)), text)


def test_a_sample_gives_free_axes_their_size_for_the_self_test() -> None:
    """Made-up tensors have a 1 there: with that, the rows of this model could not be told to be independent."""
    loaded = load(
        onnx_models.dynamic_axis(),
        'max_batch_size: 8 model_warmup { inputs { key: "x" value { dims: 40 random_data: true } } }',
    )
    assert loaded.sharing.shares_runs
    assert loaded.run_time.equivalent_rows(40) == 1


def test_a_model_is_loaded_as_its_configuration_shows_it() -> None:
    loaded = load(
        onnx_models.affine(4),
        """
        max_batch_size: 16
        input { name: "x" dims: [ 2, 2 ] reshape { shape: 4 } }
        instance_group { kind: KIND_CPU count: 2 }
        """,
    )
    assert loaded.signature.inputs[0].shape == (-1, 2, 2)
    assert len(loaded.sessions) == 2
    assert loaded.sharing.shares_runs
    assert loaded.config.batching.max_rows == 16
