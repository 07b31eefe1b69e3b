"""Holds a model to what its config.pbtxt shows of it: names, shapes, and tensors that change theirs on the way."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from gateway.errors import InferenceFailed, InvalidModel
from gateway.inference.declared_session import declared_session
from gateway.inference.model_config import Execution
from gateway.inference.session import OnnxSession, Session
from gateway.inference.signature import FREE_ROWS
from gateway.inference.triton_config import parse_triton_config
from tests.support import onnx_models


def declared(model: bytes, text: str) -> Session:
    config = parse_triton_config(text.encode(), model="fraud", where="config.pbtxt")
    return declared_session(OnnxSession(model, Execution(), name="fraud:3"), config)


def fault(model: bytes, text: str) -> str:
    with pytest.raises(InvalidModel) as refused:
        declared(model, text)
    return str(refused.value)


def shapes(session: Session) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.shape for spec in (*session.signature.inputs, *session.signature.outputs)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "max_batch_size: 4",
        'max_batch_size: 4 input { name: "x" }',
        'max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 3 } output { name: "y" dims: 3 }',
        'max_batch_size: 0 input { name: "x" data_type: TYPE_FP32 dims: [ -1, 3 ] }',
    ],
)
def test_a_configuration_that_says_what_the_file_says_costs_nothing(text: str) -> None:
    assert isinstance(declared(onnx_models.affine(), text), OnnxSession)


# --- reshape -----------------------------------------------------------------------------------------------------


def test_tensors_are_reshaped_on_the_way_in_and_out() -> None:
    session = declared(
        onnx_models.affine(4),
        """
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } }
        output { name: "y" data_type: TYPE_FP32 dims: [ 4, 1 ] reshape { shape: [ 4 ] } }
        """,
    )
    assert shapes(session) == {"x": (FREE_ROWS, 2, 2), "y": (FREE_ROWS, 4, 1)}
    assert session.signature.same_rows_axis
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    (y,) = session.run({"x": x}, ())
    np.testing.assert_array_equal(y, 2 * x.reshape(3, 4, 1) + 1)


def test_an_axis_of_one_may_stand_for_none() -> None:
    """Triton's own example: it takes no empty dims, so that [rows] is declared as 1 and reshaped to nothing."""
    session = declared(
        onnx_models.lookup(),
        """
        max_batch_size: 8
        input { name: "x" data_type: TYPE_INT64 dims: 1 reshape { shape: [ ] } }
        output { name: "y" data_type: TYPE_FP32 dims: 1 reshape { shape: [ ] } }
        """,
    )
    assert shapes(session) == {"x": (FREE_ROWS, 1), "y": (FREE_ROWS, 1)}
    (y,) = session.run({"x": np.array([[2], [1]])}, ["y"])
    np.testing.assert_array_equal(y, [[20], [10]])


def test_free_axes_are_carried_over_in_order() -> None:
    session = declared(
        onnx_models.dynamic_axis(),
        """
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 1, -1 ] reshape { shape: [ -1 ] } }
        output [ { name: "y" dims: [ -1, 1 ] reshape { shape: [ -1 ] } }, { name: "total" } ]
        """,
    )
    assert shapes(session) == {"x": (FREE_ROWS, 1, -1), "y": (FREE_ROWS, -1, 1), "total": (FREE_ROWS,)}
    y, total = session.run({"x": np.ones((2, 1, 5), np.float32)}, ())
    assert (y.shape, total.tolist()) == ((2, 5, 1), [5, 5])


def test_without_rows_the_whole_shape_is_changed() -> None:
    session = declared(
        onnx_models.identity(shape=(2, 3)),
        """
        max_batch_size: 0
        input { name: "x" data_type: TYPE_FP32 dims: 6 reshape { shape: [ 2, 3 ] } }
        """,
    )
    assert shapes(session) == {"x": (6,), "y": (2, 3)}
    (y,) = session.run({"x": np.arange(6, dtype=np.float32)}, ())
    np.testing.assert_array_equal(y, [[0, 1, 2], [3, 4, 5]])


def test_an_output_of_an_undeclared_shape_is_a_failed_run() -> None:
    """The file promises three columns, and keeps its word only for some rows."""
    model = onnx_models.identity(shape=("rows", None), output_shape=("rows", None))
    session = declared(
        model, 'max_batch_size: 8 output { name: "y" data_type: TYPE_FP32 dims: [ 3, 1 ] reshape { shape: [ 3 ] } }'
    )
    assert session.run({"x": np.zeros((2, 3), np.float32)}, ())[0].shape == (2, 3, 1)
    with pytest.raises(InferenceFailed, match=r"output has not the shape that config\.pbtxt gives it"):
        session.run({"x": np.zeros((2, 4), np.float32)}, ())


# --- narrower than the file ------------------------------------------------------------------------------------


def test_only_declared_outputs_are_answered_in_the_declared_order() -> None:
    both = declared(onnx_models.several(), 'max_batch_size: 4 output [ { name: "z" }, { name: "y" } ]')
    assert [spec.name for spec in both.signature.outputs] == ["z", "y"]
    x, w = np.ones((1, 3), np.float32), np.array([[2]])
    z, y = both.run({"x": x, "w": w}, ())
    assert (z.tolist(), y.tolist()) == ([[-2]], [[3, 3, 3]])
    one = declared(onnx_models.several(), 'max_batch_size: 4 output { name: "z" }')
    assert [spec.name for spec in one.signature.outputs] == ["z"]
    assert [array.tolist() for array in one.run({"x": x, "w": w}, ())] == [[[-2]]]


def test_a_free_axis_may_be_declared_narrower() -> None:
    session = declared(
        onnx_models.dynamic_axis(),
        'max_batch_size: 4 input { name: "x" dims: 5 } output [ { name: "y" dims: 5 }, { name: "total" } ]',
    )
    assert shapes(session) == {"x": (FREE_ROWS, 5), "y": (FREE_ROWS, 5), "total": (FREE_ROWS,)}
    assert session.signature.is_static
    assert session.signature.inputs[0].axes == ("rows", "")


def test_the_rows_may_be_fixed_by_a_configuration_that_does_not_batch() -> None:
    session = declared(
        onnx_models.affine(), 'max_batch_size: 0 input { name: "x" dims: [ 1, 3 ] } output { name: "y" dims: [ 1, 3 ] }'
    )
    assert session.signature.rows == 1


# --- what does not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('input { name: "z" dims: 3 }', "input 'x' of the file is not declared"),
        ('output { name: "z" dims: 3 }', "output 'z' is not in the file, expected one of 'y'"),
        ('input { name: "x" data_type: TYPE_INT64 dims: 3 }', "input 'x' is INT64, the file says FP32"),
        ('input { name: "x" dims: 4 }', "input 'x' has dims [4] after the rows, the file says [rows, 3]"),
        ('input { name: "x" dims: -1 }', "input 'x' has dims [-1] after the rows, the file says [rows, 3]"),
        ('input { name: "x" dims: [ 3, 1 ] }', "input 'x' has dims [3, 1] after the rows, the file says [rows, 3]"),
        (
            'output { name: "y" dims: [ 2, 2 ] reshape { shape: [ 4 ] } }',
            "output 'y' has reshape [4] after the rows, the file says [rows, 3]",
        ),
        (
            'input { name: "x" dims: [ 2, 2 ] reshape { shape: [ 3 ] } }',
            "input 'x': dims [2, 2] cannot be reshaped to [3]",
        ),
        (
            'input { name: "x" dims: [ -1, 3 ] reshape { shape: [ 3 ] } }',
            "input 'x': dims [-1, 3] cannot be reshaped to [3]",
        ),
    ],
)
def test_what_does_not_fit_the_file_is_named_with_both_shapes(text: str, expected: str) -> None:
    assert fault(onnx_models.affine(), f"max_batch_size: 4 {text}") == f"config.pbtxt: {expected}"


def test_without_rows_the_whole_shape_is_compared() -> None:
    assert fault(onnx_models.affine(), 'max_batch_size: 0 input { name: "x" dims: 3 }') == (
        "config.pbtxt: input 'x' has dims [3], the file says [rows, 3]"
    )


def test_a_declared_session_runs_where_the_other_does() -> None:
    inner = OnnxSession(onnx_models.affine(4), Execution(), name="fraud:3")
    text = b'max_batch_size: 4 input { name: "x" dims: [ 2, 2 ] reshape { shape: 4 } }'
    config = parse_triton_config(text, model="fraud", where="config.pbtxt")
    session = declared_session(inner, msgspec.structs.replace(config, versions="all"))
    assert session.providers == inner.providers == ("cpu",)
