"""Tiny ONNX models for the tests, each with one property worth testing; every function returns a file's bytes.

Never runs a model and trains nothing. The input is `x` and the output `y` where there is only one of each;
an axis is a size, a symbolic name, or None where the file is to say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gateway.messages import Array

Shape = Sequence[int | str | None]

OPSET = 21
IR_VERSION = 10

DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""The protocol's datatypes in ONNX."""


# --- one input, one output -------------------------------------------------------------------


def identity(datatype: str = "FP32", shape: Shape = ("rows", 3), *, output_shape: Shape | None = None) -> bytes:
    """Return y = x of any datatype.

    Args:
        shape: Of x: `("batch", None)`, `(4, 3)` for fixed rows, `()` for a scalar without a row axis.
        output_shape: Of y as declared, `shape` when absent: `("other", 3)` names the first axis differently.
    """
    return _model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [_tensor("x", datatype, shape)],
        [_tensor("y", datatype, shape if output_shape is None else output_shape)],
    )


def cast(datatype: str, into: str, shape: Shape = ("rows", 3)) -> bytes:
    """Return y = x as another datatype: `cast("FP32", "BF16")` is the plain way to get BF16 out."""
    return _model(
        [helper.make_node("Cast", ["x"], ["y"], to=DATATYPES[into])],
        [_tensor("x", datatype, shape)],
        [_tensor("y", into, shape)],
    )


def affine(columns: int = 3, *, rows: int | str | None = "rows", scale: float = 2.0, offset: float = 1.0) -> bytes:
    """Return y = scale · x + offset, FP32: rows independent of each other.

    Args:
        rows: The first axis; a number fixes the batch.
    """
    return _model(
        [helper.make_node("Mul", ["x", "scale"], ["scaled"]), helper.make_node("Add", ["scaled", "offset"], ["y"])],
        [_tensor("x", "FP32", (rows, columns))],
        [_tensor("y", "FP32", (rows, columns))],
        {"scale": np.float32(scale), "offset": np.float32(offset)},
    )


def rectified(columns: int = 1) -> bytes:
    """Return y = max(x, 0) for x, FP32 [rows, columns]: the identity's equal but for negative values."""
    shape = ("rows", columns)
    return _model(
        [helper.make_node("Relu", ["x"], ["y"])], [_tensor("x", "FP32", shape)], [_tensor("y", "FP32", shape)]
    )


def mean_centred(columns: int = 3, *, rows: int | str | None = "rows") -> bytes:
    """Return y = x − mean of x over the first axis, FP32: each row's answer depends on its neighbours."""
    return _model(
        [
            helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [_tensor("x", "FP32", (rows, columns))],
        [_tensor("y", "FP32", (rows, columns))],
        {"axes": np.array([0], np.int64)},
    )


def above_lowest(datatype: str = "INT64", *, rows: int | str | None = "rows") -> bytes:
    """Return y = x − the smallest x of all rows, of any numeric datatype, [rows]: one low row moves all others."""
    return _model(
        [helper.make_node("ReduceMin", ["x"], ["lowest"], keepdims=0), helper.make_node("Sub", ["x", "lowest"], ["y"])],
        [_tensor("x", datatype, (rows,))],
        [_tensor("y", datatype, (rows,))],
    )


def log_mean(columns: int = 8, *, centred: bool = False) -> bytes:
    """Return y = the mean of log x over the columns, FP32 [rows, 1]: NaN as soon as one x of the row is negative.

    Args:
        centred: Take the mean over the rows from it, so that one such row turns all into NaN.
    """
    nodes = [
        helper.make_node("Log", ["x"], ["log"]),
        helper.make_node("ReduceMean", ["log", "columns"], ["score"], keepdims=1),
        helper.make_node("ReduceMean", ["score", "rows"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["score", "mean"], ["y"]),
    ]
    if not centred:
        nodes[2:] = [helper.make_node("Identity", ["score"], ["y"])]
    return _model(
        nodes,
        [_tensor("x", "FP32", ("rows", columns))],
        [_tensor("y", "FP32", ("rows", 1))],
        {"columns": np.array([1], np.int64), "rows": np.array([0], np.int64)},
    )


def always_nan(*, rows: int | str | None = "rows") -> bytes:
    """Return y = √(−1 − x²), FP32 [rows, 1]: NaN whatever the input."""
    return _model(
        [
            helper.make_node("Mul", ["x", "x"], ["square"]),
            helper.make_node("Sub", ["minus_one", "square"], ["negative"]),
            helper.make_node("Sqrt", ["negative"], ["y"]),
        ],
        [_tensor("x", "FP32", (rows, 1))],
        [_tensor("y", "FP32", (rows, 1))],
        {"minus_one": np.float32(-1)},
    )


def scaled_by_place(rows: int, columns: int = 1) -> bytes:
    """Return y = x · [1, 2, 3, …] along a fixed first axis, FP32: what looks like rows is a vector of features."""
    return _model(
        [helper.make_node("Mul", ["x", "scales"], ["y"])],
        [_tensor("x", "FP32", (rows, columns))],
        [_tensor("y", "FP32", (rows, columns))],
        {"scales": np.arange(1, rows + 1, dtype=np.float32).reshape(rows, 1)},
    )


def row_filter() -> bytes:
    """Return the rows of x, FP32 [rows, 1], that are above 0: fewer rows come out than went in."""
    return _model(
        [
            helper.make_node("Greater", ["x", "zero"], ["above"]),
            helper.make_node("Reshape", ["above", "flat"], ["kept"]),
            helper.make_node("Compress", ["x", "kept"], ["y"], axis=0),
        ],
        [_tensor("x", "FP32", ("rows", 1))],
        [_tensor("y", "FP32", ("rows", 1))],
        {"zero": np.float32(0), "flat": np.array([-1], np.int64)},
    )


def dynamic_axis() -> bytes:
    """Return y = 2 · x and total = the sum of each row, FP32 x of shape [rows, length] with any length."""
    return _model(
        [
            helper.make_node("Mul", ["x", "two"], ["y"]),
            helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0),
        ],
        [_tensor("x", "FP32", ("rows", "length"))],
        [_tensor("y", "FP32", ("rows", "length")), _tensor("total", "FP32", ("rows",))],
        {"two": np.float32(2), "axes": np.array([1], np.int64)},
    )


def lookup(entries: int = 4, *, rows: int | str | None = "rows") -> bytes:
    """Return y = 10 · x for x, INT64 [rows], below `entries`: a run with any larger x fails as a whole.

    The failure is onnxruntime's InvalidArgument ("indices element out of data bounds").
    """
    return _model(
        [helper.make_node("Gather", ["table", "x"], ["y"], axis=0)],
        [_tensor("x", "INT64", (rows,))],
        [_tensor("y", "FP32", (rows,))],
        {"table": np.arange(entries, dtype=np.float32) * 10},
    )


def centred_lookup(entries: int = 4, *, rows: int | str | None = "rows") -> bytes:
    """Return y = x² − mean of x² over the rows, for x, INT64 [rows], from 2 to entries + 1: made-up 0 and 1 fail."""
    return _model(
        [
            helper.make_node("Sub", ["x", "two"], ["shifted"]),
            helper.make_node("Less", ["shifted", "zero"], ["is_low"]),
            helper.make_node("Where", ["is_low", "outside", "shifted"], ["index"]),
            helper.make_node("Gather", ["squares", "index"], ["found"], axis=0),
            helper.make_node("ReduceMean", ["found", "axes"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["found", "mean"], ["y"]),
        ],
        [_tensor("x", "INT64", (rows,))],
        [_tensor("y", "FP32", (rows,))],
        {
            "two": np.int64(2),
            "zero": np.int64(0),
            "outside": np.int64(10**6),
            "squares": np.arange(2, 2 + entries, dtype=np.float32) ** 2,
            "axes": np.array([0], np.int64),
        },
    )


def fragile(*, rows: int | str | None = "rows") -> bytes:
    """Return y = x for x, FP32 [rows, 1], not below 0: a run with any negative x fails as a whole.

    The failure is no InvalidArgument but onnxruntime's own (a Reshape to an impossible size).
    """
    return _model(
        [
            helper.make_node("ReduceMin", ["x"], ["smallest"], keepdims=0),
            helper.make_node("Less", ["smallest", "zero"], ["is_bad"]),
            helper.make_node("Cast", ["is_bad"], ["extra"], to=TensorProto.INT64),
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Add", ["shape", "extra"], ["wanted"]),
            helper.make_node("Reshape", ["x", "wanted"], ["y"]),
        ],
        [_tensor("x", "FP32", (rows, 1))],
        [_tensor("y", "FP32", (rows, 1))],
        {"zero": np.float32(0)},
    )


def slow(iterations: int, *, rows: int | str | None = "rows") -> bytes:
    """Return y = x, FP32 [rows, 1], after a loop of `iterations` rounds of about a microsecond, whatever the rows.

    1,000 rounds are well over the limit below which the event loop runs a batch itself. The run can be terminated.
    """
    return _looping(iterations, rows, until_largest=False)


def slow_on_demand(iterations: int = 0, *, rows: int | str | None = "rows") -> bytes:
    """Return y = x, FP32 [rows, 1], after `iterations` rounds or as many as the largest x says, if that is more.

    At load it is as quick as `slow(iterations)`; a caller makes one run long: 1e6 takes a second. It can be terminated.
    """
    return _looping(iterations, rows, until_largest=True)


# --- several inputs and outputs ------------------------------------------------------------------


def several() -> bytes:
    """Return y = x + w and z = −w, for x FP32 [rows, 3] and w INT64 [rows, 1]: outputs of both datatypes."""
    return _model(
        [
            helper.make_node("Cast", ["w"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["x", "floats"], ["y"]),
            helper.make_node("Neg", ["w"], ["z"]),
        ],
        [_tensor("x", "FP32", ("rows", 3)), _tensor("w", "INT64", ("rows", 1))],
        [_tensor("y", "FP32", ("rows", 3)), _tensor("z", "INT64", ("rows", 1))],
    )


def side_by_side(first: Shape, second: Shape) -> bytes:
    """Return p = x and q = w, FP32, the tensors of each pair shaped alike: for signatures of two shapes."""
    return _model(
        [helper.make_node("Identity", ["x"], ["p"]), helper.make_node("Identity", ["w"], ["q"])],
        [_tensor("x", "FP32", first), _tensor("w", "FP32", second)],
        [_tensor("p", "FP32", first), _tensor("q", "FP32", second)],
    )


def constant() -> bytes:
    """Return y = [1, 2, 3], FP32, of no inputs at all."""
    return _model(
        [helper.make_node("Identity", ["values"], ["y"])],
        [],
        [_tensor("y", "FP32", (3,))],
        {"values": np.array([1, 2, 3], np.float32)},
    )


# --- what a repository must refuse ------------------------------------------------------------------


def zipmap() -> bytes:
    """Return a classifier's last step as skl2onnx writes it: `probabilities` is seq(map(int64, float))."""
    graph = helper.make_graph(
        [helper.make_node("ZipMap", ["x"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])],
        "zipmap",
        [_tensor("x", "FP32", ("rows", 2))],
        [
            helper.make_value_info(
                "probabilities",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(
                        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, shape=None)
                    )
                ),
            )
        ],
    )
    return _serialised(graph, [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)])


def sequence_output() -> bytes:
    """Return y = [x] as a sequence of tensors: not a tensor, and no ZipMap either."""
    return _model(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        [_tensor("x", "FP32", ("rows", 3))],
        [
            helper.make_value_info(
                "y", helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ("rows", 3)))
            )
        ],
    )


def external_data(location: str, folder: Path | None = None, *, columns: int = 3) -> bytes:
    """Return y = x + [0, 1, 2, …], the summand stored in another file.

    Args:
        location: The file's path as the model writes it.
        folder: Where to write that file too; nothing is written without.
    """
    values = np.arange(columns, dtype=np.float32)
    if folder is not None:
        target = folder / location
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(values.tobytes())
    return _model(
        [helper.make_node("Add", ["x", "summand"], ["y"])],
        [_tensor("x", "FP32", ("rows", columns))],
        [_tensor("y", "FP32", ("rows", columns))],
        tensors=[_external("summand", values, location)],
    )


def external_data_inside(*, attribute: str, subgraph: str, function: str) -> bytes:
    """Return a model that refers to three files from where one seldom looks; no such file is written.

    Args:
        attribute: Location of a Constant node's value. subgraph: Of a tensor in the branch of an If.
        function: Of a Constant inside a function of the model.
    """
    ones = np.ones(3, np.float32)
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["chosen"])],
        "branch",
        [],
        [_tensor("chosen", "FP32", (3,))],
        [_external("inner", ones, subgraph)],
    )
    called = helper.make_function(
        "tests",
        "Ones",
        [],
        ["ones"],
        [helper.make_node("Constant", [], ["ones"], value=_external("ones", ones, function))],
        [helper.make_opsetid("", OPSET)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["value"], value=_external("value", ones, attribute)),
            helper.make_node("If", ["condition"], ["picked"], then_branch=branch, else_branch=branch),
            helper.make_node("Ones", [], ["called"], domain="tests"),
            helper.make_node("Sum", ["x", "value", "picked", "called"], ["y"]),
        ],
        "nested",
        [_tensor("x", "FP32", ("rows", 3)), _tensor("condition", "BOOL", ())],
        [_tensor("y", "FP32", ("rows", 3))],
    )
    return _serialised(graph, [helper.make_opsetid("", OPSET), helper.make_opsetid("tests", 1)], functions=[called])


# --- building blocks --------------------------------------------------------------------------------


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, Array | np.generic] | None = None,
    *,
    tensors: Sequence[onnx.TensorProto] = (),
) -> bytes:
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, [*stored, *tensors])
    return _serialised(graph, [helper.make_opsetid("", OPSET)])


def _serialised(
    graph: onnx.GraphProto,
    opsets: list[onnx.OperatorSetIdProto],
    *,
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=IR_VERSION)
    serialised: bytes = model.SerializeToString()
    return serialised


def _tensor(name: str, datatype: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, DATATYPES[datatype], list(shape))


def _external(name: str, values: Array, location: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(values, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def _looping(iterations: int, rows: int | str | None, *, until_largest: bool) -> bytes:
    """Carry x through a Loop that turns its sign twice a round."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_next"]),
            helper.make_node("Neg", ["carried"], ["flipped"]),
            helper.make_node("Neg", ["flipped"], ["carried_next"]),
        ],
        "round",
        [_tensor("round", "INT64", ()), _tensor("go_on", "BOOL", ()), _tensor("carried", "FP32", (rows, 1))],
        [_tensor("go_on_next", "BOOL", ()), _tensor("carried_next", "FP32", (rows, 1))],
    )
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=body)
    nodes = [loop]
    constants: dict[str, Array | np.generic] = {"rounds": np.int64(iterations)}
    if until_largest:
        nodes = [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["asked"], to=TensorProto.INT64),
            helper.make_node("Max", ["asked", "least"], ["rounds"]),
            loop,
        ]
        constants = {"least": np.int64(iterations)}
    return _model(
        nodes,
        [_tensor("x", "FP32", (rows, 1))],
        [_tensor("y", "FP32", (rows, 1))],
        constants,
    )
