"""Looks into an ONNX file itself: which other files it wants to read.

Never runs a model. The onnx package is imported on first need only: it takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.errors import InvalidModel

if TYPE_CHECKING:
    from google.protobuf.message import Message


def external_files(model: bytes) -> set[str]:
    """Return the paths of all external tensor data the file refers to, as they are written there.

    Args:
        model: The bytes of model.onnx.
    Raises: InvalidModel: not an ONNX file.
    """
    if b"location" not in model:  # every reference is stored under this very key
        return set()
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(model)
    except DecodeError as exc:
        raise InvalidModel(f"model.onnx is not an ONNX file: {exc}") from exc
    return {
        entry.value
        for message in _messages(proto)
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL
        for entry in message.external_data
        if entry.key == "location"
    }


def _messages(message: Message) -> Iterator[Message]:
    """Yield a message and all inside it: tensors hide in attributes, subgraphs and functions too."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in value if not hasattr(value, "ListFields") else (value,):
            yield from _messages(child)
