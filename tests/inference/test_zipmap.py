"""Stripping ZipMap gives the model that the other repair, converting without it, would have given."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gateway.errors import InvalidModel
from gateway.inference.zipmap import strip_zipmap
from gateway.messages import Array
from tests.support import onnx_models

SPECIES = ["setosa", "versicolor", "virginica"]
OPSET = {"": 18, "ai.onnx.ml": 3}


def run(model: bytes, inputs: dict[str, Array]) -> dict[str, Array]:
    """Return onnxruntime's own answer, outputs in order."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


def declared(model: bytes) -> list[tuple[str, str, list[object]]]:
    """Return what the file says of its outputs."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [(output.name, output.type, output.shape) for output in session.get_outputs()]


def classifier(
    *,
    rows: int | str | None = "rows",
    label: str = "output_label",
    probabilities: str = "output_probability",
    label_rows: int | str | None = "rows",
    inside: str = "label",
    reader: list[onnx.NodeProto] | None = None,
) -> bytes:
    """Return a classifier in the converter's manner: an argmax, and a ZipMap over the input itself.

    Args:
        inside: Name of a value between: `label` is what the output shall be called afterwards.
        reader: More nodes.
    """
    nodes = [
        helper.make_node("ArgMax", ["x"], [inside], axis=1, keepdims=0),
        helper.make_node("Identity", [inside], [label]),
        helper.make_node("ZipMap", ["x"], [probabilities], domain="ai.onnx.ml", classlabels_strings=["no", "yes"]),
        *(reader or []),
    ]
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, shape=None))
    )
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 2])],
        [
            helper.make_tensor_value_info(label, TensorProto.INT64, [label_rows]),
            helper.make_value_info(probabilities, maps),
        ],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSET.items()]
    serialised: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return serialised


ROWS = {"x": np.array([[0.25, 0.75], [0.5, 0.125]], np.float32)}


@pytest.mark.parametrize("estimator", ["logistic", "pipeline", "forest"])
def test_a_stripped_conversion_answers_as_one_without_zipmap(estimator: str) -> None:
    """Names, datatypes, shapes and every bit of the outputs: the two repairs give the same model to a caller."""
    features, target = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    made = {
        "logistic": lambda: LogisticRegression(max_iter=500).fit(features, target),
        "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(
            features, np.array(SPECIES)[target]
        ),
        "forest": lambda: RandomForestClassifier(5, random_state=0).fit(features, target),
    }[estimator]()
    mapped = to_onnx(made, features[:1], target_opset=OPSET).SerializeToString()
    plain = to_onnx(made, features[:1], options={"zipmap": False}, target_opset=OPSET).SerializeToString()
    stripped = strip_zipmap(mapped)
    assert declared(stripped.model) == declared(plain)
    got, wanted = run(stripped.model, {"X": features}), run(plain, {"X": features})
    assert list(got) == list(wanted) == ["label", "probabilities"]
    for name in wanted:
        assert np.array_equal(got[name], wanted[name])
    assert stripped.labels == {"probabilities": SPECIES if estimator == "pipeline" else ["0", "1", "2"]}
    assert stripped.renamed == {"output_label": "label", "output_probability": "probabilities"}
    assert stripped.tensors == ("probabilities",)


def test_what_stands_in_the_way_of_a_new_name_makes_room() -> None:
    """The graph has a value called `label` already: the output gets the name and the values stay the same."""
    stripped = strip_zipmap(classifier(inside="label"))
    outputs = run(stripped.model, ROWS)
    assert list(outputs) == ["label", "probabilities"]
    assert outputs["label"].tolist() == [1, 0]
    assert np.array_equal(outputs["probabilities"], ROWS["x"])


def test_a_name_inside_a_branch_makes_room_too() -> None:
    """A graph inside a node sees the values outside: a new name must not mean two of them."""
    taken = helper.make_graph(
        [helper.make_node("Identity", ["label"], ["probabilities"])],
        "branch",
        [],
        [helper.make_tensor_value_info("probabilities", TensorProto.INT64, None)],
    )
    reader = [
        helper.make_node("Constant", [], ["always"], value=helper.make_tensor("always", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["always"], ["again"], then_branch=taken, else_branch=taken),
    ]
    outputs = run(strip_zipmap(classifier(inside="label", reader=reader)).model, ROWS)
    assert np.array_equal(outputs["probabilities"], ROWS["x"])


def test_a_name_inside_a_loop_makes_room_too() -> None:
    """A loop's body has inputs and constants of its own, and all that read them must follow."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_next"]),
            helper.make_node("Add", ["label", "probabilities"], ["sum"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("label", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on_next", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor("probabilities", TensorProto.FLOAT, [], [1.0])],
    )
    reader = [
        helper.make_node("Constant", [], ["rounds"], value=helper.make_tensor("rounds", TensorProto.INT64, [], [3])),
        helper.make_node("Loop", ["rounds", "", "x"], ["summed"], body=body),
    ]
    outputs = run(strip_zipmap(classifier(inside="first", reader=reader)).model, ROWS)
    assert np.array_equal(outputs["probabilities"], ROWS["x"])


def test_names_that_the_publisher_chose_stay() -> None:
    stripped = strip_zipmap(classifier(label="class", probabilities="score"))
    assert stripped.renamed == {}
    assert stripped.tensors == ("score",)
    assert stripped.labels == {"score": ["no", "yes"]}
    assert list(run(stripped.model, ROWS)) == ["class", "score"]


def test_an_output_is_not_renamed_to_what_another_is_called() -> None:
    stripped = strip_zipmap(classifier(label="probabilities", probabilities="output_probability"))
    assert stripped.renamed == {}
    assert list(run(stripped.model, ROWS)) == ["probabilities", "output_probability"]


@pytest.mark.parametrize(("rows", "shape"), [("batch", ["batch", 2]), (None, [None, 2]), (2, [2, 2])])
def test_the_tensor_has_the_rows_of_the_input(rows: int | str | None, shape: list[object]) -> None:
    stripped = strip_zipmap(classifier(rows=rows, label_rows=rows))
    assert declared(stripped.model)[1] == ("probabilities", "tensor(float)", shape)
    assert stripped.freed == ()


def test_a_label_that_is_declared_to_have_one_row_gets_those_of_the_input() -> None:
    """LightGBM's converter writes [1]: taken at its word, no two requests could share a run."""
    stripped = strip_zipmap(classifier(label_rows=1))
    assert declared(stripped.model)[0] == ("label", "tensor(int64)", ["rows"])
    assert stripped.freed == ("label",)


def test_a_model_of_one_row_keeps_its_one_label() -> None:
    stripped = strip_zipmap(classifier(rows=1, label_rows=1))
    assert declared(stripped.model)[0] == ("label", "tensor(int64)", [1])
    assert stripped.freed == ()


def test_a_model_of_nothing_but_machine_learning_operators_can_be_repaired() -> None:
    """Without the standard operators among its imports; the identity that stands in for ZipMap needs them."""
    proto = onnx.load_model_from_string(onnx_models.zipmap())
    kept = [opset for opset in proto.opset_import if opset.domain]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    stripped = strip_zipmap(proto.SerializeToString())
    assert np.array_equal(run(stripped.model, ROWS)["probabilities"], ROWS["x"])


@pytest.mark.parametrize("model", [onnx_models.affine(), onnx_models.sequence_output()])
def test_a_model_without_zipmap_stays_byte_for_byte(model: bytes) -> None:
    stripped = strip_zipmap(model)
    assert stripped.model == model
    assert stripped.tensors == ()


def test_maps_that_the_model_reads_itself_cannot_be_taken_away() -> None:
    reader = helper.make_node("SequenceLength", ["output_probability"], ["count"])
    with pytest.raises(InvalidModel, match="output 'output_probability' is read inside the model too"):
        strip_zipmap(classifier(reader=[reader]))


def test_noise_is_no_onnx_file() -> None:
    with pytest.raises(InvalidModel, match="not an ONNX file"):
        strip_zipmap(b"no model at all")
