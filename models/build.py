"""Train the example models on data that comes with scikit-learn and write them as a model repository.

Never downloads anything, never serves: `python models/build.py` remakes every version, `--check` compares.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib.resources
import json
import math
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import sklearn
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from gateway.monitoring.reference import NumericFeature, Reference, decode_reference, encode_reference
from gateway.monitoring.reference_builder import build_reference

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float64]
Tensors = dict[str, Array]
Graph = onnx.ModelProto

MODELS = Path(__file__).resolve().parent
SEED = 20261121
CREATED = "2026-11-21T00:00:00Z"  # fixed, so that the same libraries give the same bytes
OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8
HASHED = ("model.onnx", "golden.json")
CLASSIFIED = ["label", "probabilities"]
TEST_SHARE = 0.25
REPRODUCED = 1e-4  # --check, on other processors or library versions: absolute or relative
METRIC_REPRODUCED = 1e-3  # absolute; metrics are written with four decimals


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Bundled files that a model was trained on; their SHA-256 is over the files' bytes, one after the other."""

    name: str
    files: tuple[str, ...]
    rows: int
    split: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One trained version: its graph, its lineage, and rows that training never saw.

    Attributes:
        tests: Inputs of the test split, one entry per shape.
        golden: Inputs taken from the test split for golden.json.
        training: Inputs of the training split, for reference.json, one entry per shape.
    """

    model: str
    number: int
    graph: Graph
    source: DataSource
    metrics: dict[str, float]
    tests: list[Tensors]
    golden: list[Tensors]
    training: list[Tensors]
    features: dict[str, list[str]]
    labels: dict[str, list[str]]
    tolerance: float = 1e-5


# The models


def breast_cancer() -> list[Version]:
    """Tell malignant from benign: 30 named features in one tensor, two versions of different families."""
    bunch = load_breast_cancer()
    train, test = split_rows(bunch.target, stratified=True)
    inputs: Tensors = {"features": bunch.data[test].astype(np.float32)}
    families = [
        make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky", tol=1e-10)),
        GradientBoostingClassifier(n_estimators=100, max_depth=3, subsample=0.5, random_state=SEED),
    ]
    versions = []
    for number, estimator in enumerate(families, start=1):
        estimator.fit(bunch.data[train], bunch.target[train])
        graph = converted("breast_cancer", estimator, [("features", FloatTensorType([None, 30]))], CLASSIFIED)
        answers = checked(graph, inputs, {"probabilities": estimator.predict_proba(bunch.data[test])})
        versions.append(
            Version(
                model="breast_cancer",
                number=number,
                graph=graph,
                source=DataSource(
                    name="breast_cancer",
                    files=("data/breast_cancer.csv",),
                    rows=len(bunch.target),
                    split=described(train, test, "stratified by class"),
                ),
                metrics=classification_metrics(bunch.target[test], answers["probabilities"])
                | {"roc_auc": float(roc_auc_score(bunch.target[test], answers["probabilities"][:, 1]))},
                tests=[inputs],
                golden=[rows_of(inputs, [0]), rows_of(inputs, [1, 2, 3])],
                training=[{"features": bunch.data[train].astype(np.float32)}],
                features={"features": [str(name).replace(" ", "_") for name in bunch.feature_names]},
                labels={"probabilities": [str(name) for name in bunch.target_names]},
            )
        )
    return versions


def digits() -> list[Version]:
    """Read a handwritten digit from an 8 x 8 image, pixels 0 to 16, with a small convolutional network."""
    pixels, target = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 8, 8)
    train, test = split_rows(target, stratified=True)
    filters, bias = patch_filters(images[train])

    def cells_of(batch: FloatArray) -> FloatArray:
        cells: FloatArray = convolved(batch, filters, bias).reshape(-1, len(filters), 4, 2, 4, 2).mean(axis=(3, 5))
        return cells.reshape(len(batch), -1)

    classifier = LogisticRegression(C=0.5, tol=1e-8, max_iter=10_000).fit(cells_of(images[train]), target[train])
    graph = assembled(
        "digits",
        [tensor("image", TensorProto.FLOAT, ["rows", 1, 8, 8])],
        {"filters": filters.reshape(-1, 1, 3, 3), "bias": bias},
        [
            helper.make_node("Conv", ["image", "filters", "bias"], ["convolved"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["convolved"], ["rectified"]),
            helper.make_node("AveragePool", ["rectified"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Flatten", ["pooled"], ["cells"]),
        ],
        classifier,
    )
    inputs: Tensors = {"image": images[test, np.newaxis].astype(np.float32)}
    answers = checked(graph, inputs, {"probabilities": classifier.predict_proba(cells_of(images[test]))})
    return [
        Version(
            model="digits",
            number=1,
            graph=graph,
            source=digits_source(train, test, "stratified by digit"),
            metrics=classification_metrics(target[test], answers["probabilities"]),
            tests=[inputs],
            golden=[rows_of(inputs, [0]), rows_of(inputs, [1, 2])],
            training=[{"image": images[train, np.newaxis].astype(np.float32)}],
            features={},
            labels={"probabilities": [str(digit) for digit in range(10)]},
        )
    ]


def digits_sequence() -> list[Version]:
    """Guess a digit while it is read: the first 1 to 8 pixel rows of its image, top down, are the steps."""
    pixels, target = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 8, 8)
    train, test = split_rows(target, stratified=True)
    filters, bias = patch_filters(images[train])

    def pooled(steps: FloatArray) -> FloatArray:
        count = steps.shape[1]
        cells: FloatArray = convolved(steps, filters, bias).reshape(-1, len(filters), count, 4, 2).mean(axis=4)
        return np.concatenate([cells.mean(axis=2), cells.max(axis=2)], axis=1).reshape(len(steps), -1)

    counts = range(1, 9)
    classifier = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000).fit(
        np.concatenate([pooled(images[train, :count]) for count in counts]), np.tile(target[train], len(counts))
    )
    graph = assembled(
        "digits_sequence",
        [tensor("steps", TensorProto.FLOAT, ["rows", "steps", 8])],
        {"filters": filters.reshape(-1, 1, 3, 3), "bias": bias, "channel_axis": np.array([1])},
        [
            helper.make_node("Unsqueeze", ["steps", "channel_axis"], ["image"]),
            helper.make_node("Conv", ["image", "filters", "bias"], ["convolved"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["convolved"], ["rectified"]),
            helper.make_node("AveragePool", ["rectified"], ["cells"], kernel_shape=[1, 2], strides=[1, 2]),
            helper.make_node("ReduceMean", ["cells"], ["mean_cells"], axes=[2], keepdims=0),
            helper.make_node("ReduceMax", ["cells"], ["max_cells"], axes=[2], keepdims=0),
            helper.make_node("Concat", ["mean_cells", "max_cells"], ["both_cells"], axis=1),
            helper.make_node("Flatten", ["both_cells"], ["pooled"]),
        ],
        classifier,
    )
    tests: list[Tensors] = [{"steps": images[test, :count].astype(np.float32)} for count in counts]
    answers = [
        checked(graph, inputs, {"probabilities": classifier.predict_proba(pooled(images[test, :count]))})
        for count, inputs in zip(counts, tests, strict=True)
    ]
    probabilities = np.concatenate([answer["probabilities"] for answer in answers])
    metrics = classification_metrics(np.tile(target[test], len(counts)), probabilities)
    for count in (2, 4, 6, 8):
        metrics[f"accuracy_{count}_steps"] = float(np.mean(answers[count - 1]["label"] == target[test]))
    return [
        Version(
            model="digits_sequence",
            number=1,
            graph=graph,
            source=digits_source(train, test, "stratified by digit, each with every prefix of 1 to 8 pixel rows"),
            metrics=metrics,
            tests=tests,
            golden=[rows_of(tests[7], [0]), rows_of(tests[3], [0, 1]), rows_of(tests[0], [2])],
            training=[{"steps": images[train, :count].astype(np.float32)} for count in counts],
            features={},
            labels={"probabilities": [str(digit) for digit in range(10)]},
        )
    ]


def diabetes() -> list[Version]:
    """Predict how far diabetes progresses in a year: one input per column, in the units they were measured in."""
    bunch = load_diabetes(scaled=False)
    names = [str(name) for name in bunch.feature_names]
    train, test = split_rows(bunch.target, stratified=False)
    inputs: Tensors = {name: bunch.data[test, i : i + 1].astype(np.float32) for i, name in enumerate(names)}
    # The transformer is there for the graph: without it skl2onnx joins the columns with FeatureVectorizer, and
    # onnxruntime 1.31 ends the whole process when that operator gets no rows.
    scaled = ColumnTransformer([("scaled", StandardScaler(), list(range(len(names))))])
    estimator = make_pipeline(scaled, Ridge(alpha=10.0, solver="cholesky"))
    estimator.fit(bunch.data[train], bunch.target[train])
    graph = converted("diabetes", estimator, [(name, FloatTensorType([None, 1])) for name in names], ["progression"])
    answers = checked(graph, inputs, {"progression": estimator.predict(bunch.data[test])[:, np.newaxis]})
    truth, predicted = bunch.target[test], answers["progression"][:, 0]
    return [
        Version(
            model="diabetes",
            number=1,
            graph=graph,
            source=DataSource(
                name="diabetes",
                files=("data/diabetes_data_raw.csv.gz", "data/diabetes_target.csv.gz"),
                rows=len(bunch.target),
                split=described(train, test, "shuffled"),
            ),
            metrics={
                "r2": float(r2_score(truth, predicted)),
                "mae": float(mean_absolute_error(truth, predicted)),
            },
            tests=[inputs],
            golden=[rows_of(inputs, [0]), rows_of(inputs, [1, 2, 3])],
            training=[{name: bunch.data[train, i : i + 1].astype(np.float32) for i, name in enumerate(names)}],
            features={name: [name] for name in names},
            labels={},
            tolerance=1e-3,  # predictions are around 150, where neighbouring FP32 values are 1.5e-5 apart
        )
    ]


def penguins() -> list[Version]:
    """Name a penguin's species from two strings and four measurements; null and unknown strings are welcome."""
    file = "tests/data/openml/id_42585/data-v1-dl-21854866.arff.gz"
    lines = gzip.decompress(bundled(file)).decode().splitlines()
    records = list(csv.reader(lines[lines.index("@DATA") + 1 :]))
    species, island, *texts, sex = (list(column) for column in zip(*records, strict=True))
    target = np.array(species)
    strings = {"island": island, "sex": ["" if value in ("?", "_") else value.lower() for value in sex]}
    measured = ["culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g"]
    floats = {
        name: np.array([math.nan if value == "?" else float(value) for value in text], np.float32)
        for name, text in zip(measured, texts, strict=True)
    }
    every: Tensors = {name: np.array(column, object)[:, np.newaxis] for name, column in strings.items()}
    every |= {name: column[:, np.newaxis] for name, column in floats.items()}
    train, test = split_rows(target, stratified=True)

    known = [["Biscoe", "Dream", "Torgersen"], ["female", "male"]]
    estimator = make_pipeline(
        ColumnTransformer(
            [
                ("strings", OneHotEncoder(categories=known, handle_unknown="ignore"), [0, 1]),
                ("floats", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), [2, 3, 4, 5]),
            ]
        ),
        LogisticRegression(solver="newton-cholesky", tol=1e-10),
    )
    table = np.concatenate([column.astype(object) for column in every.values()], axis=1)
    estimator.fit(table[train], target[train])
    graph = converted(
        "penguins",
        estimator,
        [(name, (StringTensorType if name in strings else FloatTensorType)([None, 1])) for name in every],
        CLASSIFIED,
    )
    inputs = rows_of(every, test)
    answers = checked(graph, inputs, {"probabilities": estimator.predict_proba(table[test])})
    missing = np.flatnonzero(inputs["sex"][:, 0] == "")
    complete = np.flatnonzero(inputs["sex"][:, 0] != "")
    stranger = rows_of(inputs, complete[:1]) | {
        "island": np.array([["Petermann"]], object),
        "body_mass_g": np.array([[math.nan]], np.float32),
    }
    return [
        Version(
            model="penguins",
            number=1,
            graph=graph,
            source=DataSource(
                name="penguins", files=(file,), rows=len(target), split=described(train, test, "stratified by species")
            ),
            metrics=classification_metrics(target[test], answers["probabilities"]),
            tests=[inputs],
            golden=[
                rows_of(inputs, complete[:1]),
                rows_of(inputs, complete[1:4]),
                rows_of(inputs, missing[:2]),
                stranger,
            ],
            training=[rows_of(every, train)],
            features={name: [name] for name in every},
            labels={"probabilities": [str(name) for name in np.unique(target)]},
        )
    ]


# What the models share


def split_rows(target: Array, *, stratified: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the indices of the training rows and of the test rows."""
    train, test = train_test_split(
        np.arange(len(target)), test_size=TEST_SHARE, random_state=SEED, stratify=target if stratified else None
    )
    return train, test


def described(train: Array, test: Array, how: str) -> str:
    return f"{how}: {len(train)} training rows, {len(test)} test rows, seed {SEED}"


def digits_source(train: Array, test: Array, how: str) -> DataSource:
    return DataSource(
        name="digits", files=("data/digits.csv.gz",), rows=len(train) + len(test), split=described(train, test, how)
    )


def bundled(file: str) -> bytes:
    """Read a file of scikit-learn's own, named from `sklearn/datasets`."""
    return importlib.resources.files("sklearn.datasets").joinpath(file).read_bytes()


def patches_of(images: FloatArray) -> FloatArray:
    """Return the zero-padded 3 x 3 neighbourhood of each pixel: (rows, height, 8) to (rows, height, 8, 9)."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    windows: FloatArray = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return windows.reshape(*images.shape, 9)


def patch_filters(images: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Learn convolution filters (18, 9) and their bias (18,): whitened principal components, with both signs.

    Source: Coates, Ng and Lee 2011, An analysis of single-layer networks in unsupervised feature learning.
    """
    patches = patches_of(images / 16).reshape(-1, 9)
    variances, components = np.linalg.eigh(np.cov(patches.T))
    components *= np.sign(components[np.abs(components).argmax(axis=0), np.arange(9)])  # eigh leaves the sign open
    whitened = (components / np.sqrt(variances + 0.01)).T
    filters = np.concatenate([whitened, -whitened])
    return filters / 16, -filters @ patches.mean(axis=0)


def convolved(images: FloatArray, filters: FloatArray, bias: FloatArray) -> FloatArray:
    """Filter and rectify as the graphs do: (rows, height, 8) to (rows, filters, height, 8)."""
    return np.maximum(patches_of(images) @ filters.T + bias, 0).transpose(0, 3, 1, 2)


def rows_of(inputs: Tensors, rows: Sequence[int] | Array) -> Tensors:
    return {name: column[rows] for name, column in inputs.items()}


def classification_metrics(truth: Array, probabilities: Array) -> dict[str, float]:
    classes, of_row = np.unique(truth, return_inverse=True)
    of_truth = probabilities[np.arange(len(truth)), of_row]
    return {
        "accuracy": float(np.mean(classes[probabilities.argmax(axis=1)] == truth)),
        "log_loss": float(-np.mean(np.log(of_truth, dtype=np.float64))),
    }


# Graphs


def tensor(name: str, elem_type: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def converted(name: str, estimator: BaseEstimator, inputs: list[tuple[str, object]], outputs: list[str]) -> Graph:
    """Convert a fitted estimator; probabilities stay a tensor instead of becoming a sequence of maps."""
    options = {"zipmap": False} if is_classifier(estimator) else None
    model = to_onnx(estimator, initial_types=inputs, options=options, target_opset=OPSETS)
    renamed = {value.name: output for value, output in zip(model.graph.output, outputs, strict=True)}
    for node in model.graph.node:
        node.output[:] = [renamed.get(value, value) for value in node.output]
    for value in model.graph.output:
        value.name = renamed[value.name]
    return normalised(name, model)


def assembled(
    name: str,
    inputs: list[onnx.ValueInfoProto],
    weights: dict[str, Array],
    nodes: list[onnx.NodeProto],
    classifier: LogisticRegression,
) -> Graph:
    """Put a fitted softmax classifier behind hand-made nodes: it reads the output of the last one."""
    [features] = nodes[-1].output
    weights = weights | {"coefficients": classifier.coef_, "intercepts": classifier.intercept_}
    head = [
        helper.make_node("Gemm", [features, "coefficients", "intercepts"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [
        tensor("label", TensorProto.INT64, ["rows"]),
        tensor("probabilities", TensorProto.FLOAT, ["rows", len(classifier.classes_)]),
    ]
    initializers = [
        numpy_helper.from_array(value.astype(np.float32 if value.dtype.kind == "f" else np.int64), weight)
        for weight, value in weights.items()
    ]
    graph = helper.make_graph([*nodes, *head], name, inputs, outputs, initializers)
    return normalised(name, helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSETS[""])]))


def normalised(name: str, model: Graph) -> Graph:
    """Make the bytes depend on the weights alone, and name the first axis of every input and output `rows`."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "models/build.py", ""
    model.domain, model.doc_string, model.model_version = "", "", 0
    model.graph.name, model.graph.doc_string = name, ""
    del model.metadata_props[:], model.graph.value_info[:]
    opsets = sorted({(opset.domain, opset.version) for opset in model.opset_import})  # skl2onnx's order varies
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*opset) for opset in opsets)
    for position, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"{node.op_type}_{position}", ""
    for value in [*model.graph.input, *model.graph.output]:
        value.doc_string = ""
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    onnx.checker.check_model(model, full_check=True)
    return model


def opened(model: Graph | Path) -> Callable[[Tensors], Tensors]:
    """Return onnxruntime's answer to inputs, every output by name, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def checked(model: Graph, inputs: Tensors, expected: Tensors) -> Tensors:
    """Answer the inputs, having made sure that the graph says what the estimator said and that rows stand alone."""
    answer = opened(model)
    together = answer(inputs)
    for name, value in expected.items():
        if not np.allclose(together[name], value, rtol=1e-5, atol=1e-5):
            raise ValueError(f"{model.graph.name}: output {name!r} is not what the estimator says")
    rows = len(next(iter(inputs.values())))
    alone = [answer(rows_of(inputs, [row])) for row in range(rows)]
    for name, value in together.items():
        if not same(np.concatenate([single[name] for single in alone]), value, tolerance=1e-6):
            raise ValueError(f"{model.graph.name}: output {name!r} of a row depends on its neighbours")
    return together


def same(left: Array, right: Array, *, tolerance: float) -> bool:
    """Equal shapes, and values equal within an absolute or relative tolerance where they are floats."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if not np.issubdtype(left.dtype, np.floating):
        return bool(np.array_equal(left, right))
    return bool(np.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True))


# The repository


def write(version: Version, repository: Path) -> None:
    """Write one version's directory: model.onnx, golden.json, manifest.toml and reference.json."""
    directory = repository / version.model / str(version.number)
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_bytes(version.graph.SerializeToString(deterministic=True))
    (directory / "golden.json").write_text(golden_json(version))
    hashes = {name: sha256_of(content) for name, content in files_of(directory).items() if name in HASHED}
    (directory / "manifest.toml").write_text(manifest_toml(version, hashes))
    (directory / "reference.json").write_bytes(encode_reference(reference_of(version)))


def reference_of(version: Version) -> Reference:
    """Summarise the training rows and the answers to them; an input whose rows differ in size is left out."""
    answer = opened(version.graph)
    inputs, outputs = (stacked(parts) for parts in (version.training, [answer(rows) for rows in version.training]))
    columns = {name: array[:1].size for name, array in {**inputs, **outputs}.items()}
    names = version.features | version.labels
    return build_reference(
        inputs, outputs, names={name: names[name] for name in columns if len(names.get(name, ())) == columns[name]}
    )


def stacked(parts: list[Tensors]) -> Tensors:
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
        if len({part[name].shape[1:] for part in parts}) == 1
    }


def manifest_toml(version: Version, hashes: dict[str, str]) -> str:
    source = version.source
    data = {
        "name": source.name,
        "sha256": hashlib.sha256(b"".join(bundled(file) for file in source.files)).hexdigest(),
        "rows": source.rows,
        "version": f"scikit-learn {sklearn.__version__}: {', '.join(source.files)}",
        "split": source.split,
    }
    tables: dict[str, dict[str, object]] = {
        "files": {**hashes},
        "features": {**version.features},
        "labels": {**version.labels},
        "data": {**data},
        "source": {"run": "models/build.py"},
        "metrics": {name: round(value, 4) for name, value in version.metrics.items()},
    }
    lines = [f'created = "{CREATED}"']
    for table, entries in tables.items():
        if entries:
            # JSON's strings, numbers and arrays of plain ASCII are TOML's too.
            lines += ["", f"[{table}]", *(f"{toml_key(key)} = {json.dumps(value)}" for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def sha256_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def toml_key(key: str) -> str:
    return json.dumps(key) if "." in key else key


def golden_json(version: Version) -> str:
    """Write the golden requests with onnxruntime's own answers, a case a line; NaN is null."""
    answer = opened(version.graph)
    cases = [
        {
            "inputs": {name: plain(value) for name, value in inputs.items()},
            "outputs": {name: plain(value) for name, value in answer(inputs).items()},
            "tolerance": version.tolerance,
        }
        for inputs in version.golden
    ]
    return '{"cases": [\n  ' + ",\n  ".join(json.dumps(case, allow_nan=False) for case in cases) + "\n]}\n"


def plain(values: Array) -> object:
    """Return nested lists, each float as the shortest decimal that is the same FP32 number."""
    if not np.issubdtype(values.dtype, np.floating):
        return values.tolist()
    shortest = [None if np.isnan(value) else float(str(value)) for value in values.flat]
    return np.array(shortest, object).reshape(values.shape).tolist()


def publish(built: Path, committed: Path, scratch: Path) -> str:
    """Put a built version into its place by renames; what stood there goes."""
    if files_of(built) == files_of(committed):
        return "unchanged"
    committed.parent.mkdir(exist_ok=True)
    replaced = committed.exists()
    if replaced:
        committed.rename(scratch / f"{committed.parent.name}-{committed.name}-replaced")
    built.rename(committed)
    return "replaced" if replaced else "new"


def files_of(directory: Path) -> dict[str, bytes]:
    names = (*HASHED, "manifest.toml", "reference.json")
    return {name: (directory / name).read_bytes() for name in names if (directory / name).is_file()}


def compare(version: Version, built: Path, committed: Path) -> tuple[bool, str]:
    """Say whether the committed version is what was built: byte for byte, or in its answers to the test rows."""
    ours, theirs = files_of(built), files_of(committed)
    if missing := ours.keys() - theirs.keys():
        return False, f"has no {', '.join(sorted(missing))}"
    if ours == theirs:
        return True, "identical"
    fault = manifest_fault(ours, theirs) or reference_fault(ours, theirs)
    if fault := fault or answers_fault(version, committed / "model.onnx"):
        return False, fault
    changed = ", ".join(sorted(name for name in ours if ours[name] != theirs[name]))
    return True, f"answers equal within {REPRODUCED}, not byte for byte: {changed}"


def manifest_fault(ours: dict[str, bytes], theirs: dict[str, bytes]) -> str | None:
    """Name what the committed manifest gets wrong, other than hashes of files and versions of libraries."""
    built, committed = (tomllib.loads(files["manifest.toml"].decode()) for files in (ours, theirs))
    for name, value in committed["files"].items():
        if name not in theirs or value != sha256_of(theirs[name]):
            return f"{name} is not the file of its manifest"
    for table in ("features", "labels", "source"):
        if built.get(table) != committed.get(table):
            return f"manifest.toml: [{table}] differs"
    if any(built["data"][key] != committed["data"].get(key) for key in ("name", "sha256", "rows", "split")):
        return "manifest.toml: [data] differs"
    for name, value in built["metrics"].items():
        if not math.isclose(committed["metrics"].get(name, math.nan), value, abs_tol=METRIC_REPRODUCED):
            return f"manifest.toml: metric {name!r} differs"
    return None


def reference_fault(ours: dict[str, bytes], theirs: dict[str, bytes]) -> str | None:
    """Name the first feature whose rows, kind or moments the committed reference has otherwise."""
    built, committed = (decode_reference(files["reference.json"]) for files in (ours, theirs))
    if [feature.name for feature in built.features] != [feature.name for feature in committed.features]:
        return "reference.json: has other features"
    for feature, other in zip(built.features, committed.features, strict=True):
        if type(feature) is not type(other) or feature.rows != other.rows:
            return f"reference.json: feature {feature.name!r} differs"
        if isinstance(feature, NumericFeature) and isinstance(other, NumericFeature):
            pairs = zip((feature.mean, feature.sigma), (other.mean, other.sigma), strict=True)
            if not all(math.isclose(left, right, rel_tol=REPRODUCED, abs_tol=REPRODUCED) for left, right in pairs):
                return f"reference.json: feature {feature.name!r} has other moments"
    return None


def answers_fault(version: Version, committed: Path) -> str | None:
    """Name the first difference in signature or in the answers to the test rows."""
    other = onnx.load(committed).graph
    if list(version.graph.graph.input) != list(other.input) or list(version.graph.graph.output) != list(other.output):
        return "has another signature"
    expected, answer = opened(version.graph), opened(committed)
    for inputs in version.tests:
        found = answer(inputs)
        for name, value in expected(inputs).items():
            if not same(found[name], value, tolerance=REPRODUCED):
                return f"output {name!r} differs by more than {REPRODUCED}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed instead of replacing it")
    check = parser.parse_args().check
    faults = 0
    # Beside the models, so that a rename puts a version into place; a leading dot, so that no server looks inside.
    with tempfile.TemporaryDirectory(dir=MODELS, prefix=".build-") as folder, threadpool_limits(1):
        scratch = Path(folder)
        for build in (breast_cancer, diabetes, digits, digits_sequence, penguins):
            for version in build():
                write(version, scratch)
                built, committed = (root / version.model / str(version.number) for root in (scratch, MODELS))
                if check:
                    reproduced, outcome = compare(version, built, committed)
                    faults += not reproduced
                else:
                    outcome = publish(built, committed, scratch)
                measured = ", ".join(f"{name} {value:.4f}" for name, value in version.metrics.items())
                print(f"{version.model}/{version.number}: {outcome} ({measured})", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
