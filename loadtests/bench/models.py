"""Owns the three seeded models of the benchmark and the repository they are written to.

Never reads a file of the project: every weight comes from a seed or from scikit-learn's bundled data.
"""

import hashlib
import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

_SEED = 20_260_101
_CREATED = "2026-01-01T00:00:00Z"
_OPSET = 17
_IR_VERSION = 9
_MLP_WIDTHS = (512, 1024, 1024, 10)
_CNN_CHANNELS = (3, 32, 64, 128)
_CNN_CLASSES = 10


def tabular() -> onnx.ModelProto:
    """Fit gradient-boosted trees on scikit-learn's breast cancer data: 30 floats in, label and probabilities out."""
    # Imported here: a second and 100 MB that only this model needs.
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier

    rows, labels = load_breast_cancer(return_X_y=True)
    classifier = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=_SEED)
    classifier.fit(rows.astype(np.float32), labels)
    model: onnx.ModelProto = convert_sklearn(
        classifier,
        name="tabular",
        initial_types=[("features", FloatTensorType([None, rows.shape[1]]))],
        options={"zipmap": False},
        target_opset={"": _OPSET, "ai.onnx.ml": 3},
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    return model


def mlp() -> onnx.ModelProto:
    """Build a 512-1024-1024-10 perceptron with a softmax, about 1.6 million seeded weights."""
    generator = np.random.default_rng(_SEED)
    nodes = []
    weights = []
    current = "features"
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(_MLP_WIDTHS)):
        kernel = _scaled_normal(generator, (fan_in, fan_out), fan_in=fan_in)
        weights += [
            numpy_helper.from_array(kernel, f"kernel_{layer}"),
            numpy_helper.from_array(np.zeros(fan_out, dtype=np.float32), f"bias_{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [current, f"kernel_{layer}", f"bias_{layer}"], [f"dense_{layer}"]))
        current = f"dense_{layer}"
        if layer < len(_MLP_WIDTHS) - 2:
            nodes.append(helper.make_node("Relu", [current], [f"relu_{layer}"]))
            current = f"relu_{layer}"
    nodes.append(helper.make_node("Softmax", [current], ["probabilities"], axis=1))
    return _model("mlp", nodes, weights, input_name="features", row_shape=[_MLP_WIDTHS[0]], classes=_MLP_WIDTHS[-1])


def cnn() -> onnx.ModelProto:
    """Build a small image classifier for 3x64x64: three strided 3x3 convolutions, mean pooling, one dense layer.

    About 10 million multiply-adds an image, so that a run of 8 rows takes more than 1 ms on one thread.
    """
    generator = np.random.default_rng(_SEED)
    nodes = []
    weights = []
    current = "image"
    for layer, (channels_in, channels_out) in enumerate(itertools.pairwise(_CNN_CHANNELS)):
        kernel = _scaled_normal(generator, (channels_out, channels_in, 3, 3), fan_in=channels_in * 9)
        weights.append(numpy_helper.from_array(kernel, f"kernel_{layer}"))
        nodes += [
            helper.make_node(
                "Conv", [current, f"kernel_{layer}"], [f"conv_{layer}"], strides=[2, 2], pads=[1, 1, 1, 1]
            ),
            helper.make_node("Relu", [f"conv_{layer}"], [f"relu_{layer}"]),
        ]
        current = f"relu_{layer}"
    dense = _scaled_normal(generator, (_CNN_CHANNELS[-1], _CNN_CLASSES), fan_in=_CNN_CHANNELS[-1])
    weights.append(numpy_helper.from_array(dense, "dense"))
    nodes += [
        helper.make_node("GlobalAveragePool", [current], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "dense"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    return _model("cnn", nodes, weights, input_name="image", row_shape=[_CNN_CHANNELS[0], 64, 64], classes=_CNN_CLASSES)


def write_repository(repository: Path) -> None:
    """Write every model as version 1 into `repository`, each with a manifest, so that a server may load it at once."""
    for name, model in {"tabular": tabular(), "mlp": mlp(), "cnn": cnn()}.items():
        onnx.checker.check_model(model, full_check=True)
        write_version(repository, name, 1, model.SerializeToString())


def write_version(repository: Path, name: str, number: int, content: bytes) -> None:
    """Write one version of a model, with a manifest."""
    version = repository / name / str(number)
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(content)
    (version / "manifest.toml").write_text(
        f'created = "{_CREATED}"\n\n[files]\n"model.onnx" = "sha256:{hashlib.sha256(content).hexdigest()}"\n',
        encoding="utf-8",
    )


def model_file(repository: Path, model: str) -> Path:
    """Return the path of the only version of `model`."""
    return repository / model / "1" / "model.onnx"


def _scaled_normal(generator: np.random.Generator, shape: tuple[int, ...], *, fan_in: int) -> npt.NDArray[np.float32]:
    """Draw float32 weights whose variance keeps activations of rectified layers near 1 (He et al. 2015)."""
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2.0 / fan_in))


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    *,
    input_name: str,
    row_shape: list[int],
    classes: int,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["rows", *row_shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", classes])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
