"""Takes ZipMap off the outputs of an ONNX graph: a classifier's probabilities become the tensor they were before it.

Never runs a model and never touches another operator. The onnx package is imported on first need only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.errors import InvalidModel

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorShapeProto, ValueInfoProto

_DEFAULT_NAMES = {"output_label": "label", "output_probability": "probabilities"}
"""What skl2onnx calls a classifier's outputs with ZipMap, and what it calls them without."""

_IDENTITY_OPSET = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class StrippedModel:
    """A model whose ZipMap outputs are tensors.

    Attributes:
        tensors: Names of the outputs that became tensors; none when there was no ZipMap.
        renamed: Old name of an output → new one.
        freed: Outputs that were declared to have one row whatever goes in, and now have the rows of the input.
        labels: Output → its classes, in the order of the tensor's columns.
    """

    model: bytes
    tensors: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    freed: tuple[str, ...] = ()
    labels: dict[str, list[str]] = field(default_factory=dict)


def strip_zipmap(model: bytes) -> StrippedModel:
    """Let every output that a ZipMap makes be the tensor the ZipMap was given.

    Outputs keep their order; `output_label` and `output_probability` become `label` and `probabilities`, as if
    the model had been converted with `options={"zipmap": False}`.

    Args:
        model: The bytes of an ONNX file.
    Raises: InvalidModel: not an ONNX file, or the model itself reads the maps.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(model)
    except DecodeError as exc:
        raise InvalidModel(f"not an ONNX file: {exc}") from exc
    graph = proto.graph
    makers = {node.output[0]: node for node in graph.node if _is_zipmap(node)}
    stripped = [value for value in graph.output if value.name in makers]
    if not stripped:
        return StrippedModel(model=model)
    read = {name for node in _nodes(graph) for name in node.input}
    labels = {}
    for value in stripped:
        if value.name in read:
            raise InvalidModel(f"output '{value.name}' is read inside the model too, its ZipMap cannot be taken off")
        classes = _classes(makers[value.name])
        _make_identity(makers[value.name])
        _make_tensor(value, graph, columns=len(classes))
        labels[value.name] = classes
    if not any(opset.domain in ("", "ai.onnx") for opset in proto.opset_import):
        proto.opset_import.add().version = _IDENTITY_OPSET
    freed = [value for value in graph.output if _frees_rows(value, graph)]
    renamed = _rename_outputs(graph)
    return StrippedModel(
        model=proto.SerializeToString(),
        tensors=tuple(value.name for value in stripped),
        renamed=renamed,
        freed=tuple(value.name for value in freed),
        labels={renamed.get(name, name): classes for name, classes in labels.items() if classes},
    )


def _is_zipmap(node: NodeProto) -> bool:
    return node.op_type == "ZipMap" and node.domain == "ai.onnx.ml"


def _classes(node: NodeProto) -> list[str]:
    for attribute in node.attribute:
        if attribute.name == "classlabels_int64s":
            return [str(label) for label in attribute.ints]
        if attribute.name == "classlabels_strings":
            return [label.decode(errors="replace") for label in attribute.strings]
    return []


def _make_identity(node: NodeProto) -> None:
    node.op_type, node.domain = "Identity", ""
    del node.attribute[:]


def _make_tensor(value: ValueInfoProto, graph: GraphProto, *, columns: int) -> None:
    """Declare [rows, columns] floats, the rows named as the first input names them."""
    from onnx import TensorProto

    value.type.Clear()
    tensor = value.type.tensor_type
    tensor.elem_type = TensorProto.FLOAT
    rows, classes = tensor.shape.dim.add(), tensor.shape.dim.add()
    if (of_input := _rows(graph)) is not None:
        rows.CopyFrom(of_input)
    if columns:
        classes.dim_value = columns


def _frees_rows(value: ValueInfoProto, graph: GraphProto) -> bool:
    """Mend a label that a converter (LightGBM's) declares as [1] for any rows; the self-test has the last word."""
    rows, dimensions = _rows(graph), value.type.tensor_type.shape.dim
    if rows is None or rows.HasField("dim_value") or len(dimensions) != 1 or dimensions[0].dim_value != 1:
        return False
    dimensions[0].CopyFrom(rows)
    return True


def _rows(graph: GraphProto) -> TensorShapeProto.Dimension | None:
    """Return the first axis of the first input."""
    dimensions = graph.input[0].type.tensor_type.shape.dim if graph.input else None
    return dimensions[0] if dimensions else None


def _rename_outputs(graph: GraphProto) -> dict[str, str]:
    """Give outputs with the converter's default names the names they have without ZipMap."""
    fixed = {value.name for value in [*graph.input, *graph.output]} | {value.name for value in graph.initializer}
    renamed = {
        value.name: _DEFAULT_NAMES[value.name]
        for value in graph.output
        if value.name in _DEFAULT_NAMES and _DEFAULT_NAMES[value.name] not in fixed
    }
    taken = set(_names(graph))
    aside = {name: _unused(name, taken | set(renamed.values())) for name in renamed.values() if name in taken}
    _rename(graph, renamed | aside)
    return renamed


def _unused(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = names.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = names.get(annotation.tensor_name, annotation.tensor_name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in _subgraphs(node):  # a name means one value in a graph and all graphs inside it
            _rename(inner, names)


def _names(graph: GraphProto) -> Iterator[str]:
    for node in _nodes(graph):
        yield from node.input
        yield from node.output
        for inner in _subgraphs(node):
            yield from (value.name for value in inner.input)
            yield from (tensor.name for tensor in inner.initializer)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph and of all graphs inside it."""
    for node in graph.node:
        yield node
        for inner in _subgraphs(node):
            yield from _nodes(inner)


def _subgraphs(node: NodeProto) -> Iterable[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
