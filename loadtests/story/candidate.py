"""Owns the candidate of the story: a model as good as its predecessor, until a value leaves what its author expected.

Never trains; it is the predecessor's graph behind a check that fails the whole run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def fragile_copy(predecessor: Path, *, input_name: str, column: int, limit: float) -> bytes:
    """Return a model that answers as its predecessor does while `input_name[:, column]` stays below `limit`.

    Above it the run fails inside onnxruntime, as a model does whose preprocessing was written for other units.

    Args:
        predecessor: An ONNX file with a float input of shape (rows, columns).
    """
    model = onnx.load_model(predecessor)
    checked = f"{input_name}_checked"
    for node in model.graph.node:
        node.input[:] = [checked if name == input_name else name for name in node.input]
    constants = {
        "guard_column": np.array([column], np.int64),
        "guard_limit": np.float32(limit),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    guard = [
        helper.make_node("Gather", [input_name, "guard_column"], ["guard_value"], axis=1),
        helper.make_node("ReduceMax", ["guard_value"], ["guard_largest"], keepdims=0),
        helper.make_node("Greater", ["guard_largest", "guard_limit"], ["guard_is_beyond"]),
        helper.make_node("Cast", ["guard_is_beyond"], ["guard_surplus"], to=TensorProto.INT64),
        helper.make_node("Shape", [input_name], ["guard_shape"]),
        # One more than there is, in every direction: a Reshape that cannot be made.
        helper.make_node("Add", ["guard_shape", "guard_surplus"], ["guard_wanted"]),
        helper.make_node("Reshape", [input_name, "guard_wanted"], [checked]),
    ]
    nodes = [*guard, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
