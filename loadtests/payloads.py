"""Owns what a load test's request says: seeded rows of a data set, faults included, in each of three encodings.

Never opens a socket and imports nothing of the gateway: a test that shares its codec would share its mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from loadtests.datasets import Column, Dataset
from loadtests.injection import Injection, inject

Tensors = dict[str, Column]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One request, ready to send."""

    path: str
    content: bytes
    headers: dict[str, str]


class Drawer:
    """Draws the rows of one model's requests; the same seed, moments and calls give the same rows."""

    def __init__(self, dataset: Dataset, injections: Sequence[Injection], *, max_rows: int, seed: int) -> None:
        self._dataset = dataset
        self._injections = injections
        self._max_rows = max_rows
        self._generator = np.random.default_rng(seed)

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self._dataset.model

    def draw(self, elapsed_s: float) -> Tensors:
        """Return the input tensors of one request: 1 to `max_rows` rows, each equally likely, with replacement.

        Args:
            elapsed_s: Since the start of the run; decides which faults hold.
        """
        chosen = self._generator.integers(0, self._dataset.rows, self._generator.integers(1, self._max_rows + 1))
        columns = {name: column[chosen] for name, column in self._dataset.columns.items()}
        columns = inject(columns, self._injections, self._dataset, elapsed_s=elapsed_s, generator=self._generator)
        tensors: Tensors = {}
        for one in self._dataset.inputs:
            stacked = np.stack([columns[name] for name in one.features], axis=1)
            tensor = stacked.reshape(len(chosen), *one.row_shape)
            if one.is_prefix:
                tensor = tensor[:, : self._generator.integers(1, one.row_shape[0] + 1)]
            tensors[one.name] = np.ascontiguousarray(tensor)
        return tensors


def v2_json(model: str, tensors: Tensors) -> Encoded:
    """Encode an Open Inference Protocol request in JSON; a missing number is null."""
    inputs = [_described(name, tensor) | {"data": _flat(tensor)} for name, tensor in tensors.items()]
    return Encoded(
        path=f"/v2/models/{model}/infer",
        content=orjson.dumps({"inputs": inputs}),
        headers={"content-type": "application/json"},
    )


def v2_binary(model: str, tensors: Tensors) -> Encoded:
    """Encode an Open Inference Protocol request whose tensors follow its JSON as bytes, and ask for such an answer."""
    inputs, parts = [], []
    for name, tensor in tensors.items():
        raw = _raw(tensor)
        parts.append(raw)
        inputs.append(_described(name, tensor) | {"parameters": {"binary_data_size": len(raw)}})
    head = orjson.dumps({"parameters": {"binary_data_output": True}, "inputs": inputs})
    return Encoded(
        path=f"/v2/models/{model}/infer",
        content=b"".join([head, *parts]),
        headers={"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))},
    )


def v1(model: str, tensors: Tensors) -> Encoded:
    """Encode a REST v1 predict request in row form."""
    rows = [dict(zip(tensors, row, strict=True)) for row in zip(*map(_rows, tensors.values()), strict=True)]
    instances: list[object] = [*rows] if len(tensors) > 1 else [value for row in rows for value in row.values()]
    return Encoded(
        path=f"/v1/models/{model}:predict",
        content=orjson.dumps({"instances": instances}),
        headers={"content-type": "application/json"},
    )


def _described(name: str, tensor: Column) -> dict[str, object]:
    datatype = "BYTES" if tensor.dtype.kind == "O" else "FP32"
    return {"name": name, "shape": list(tensor.shape), "datatype": datatype}


def _flat(tensor: Column) -> list[object]:
    return [*tensor.ravel().tolist()]


def _rows(tensor: Column) -> list[object]:
    return [*tensor.tolist()]


def _raw(tensor: Column) -> bytes:
    if tensor.dtype.kind != "O":
        return tensor.astype("<f4").tobytes()
    texts = [str(value).encode() for value in tensor.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def answered_rows(content: bytes, json_bytes: int | None) -> int:
    """Return how many rows an answer has.

    Args:
        json_bytes: The length of its JSON part where tensors follow as bytes, from the header; None where none do.
    Raises: ValueError: it is no answer to an inference request.
    """
    try:
        answer = orjson.loads(content if json_bytes is None else content[:json_bytes])
        if "predictions" in answer:
            return len(answer["predictions"])
        return int(answer["outputs"][0]["shape"][0])
    except (TypeError, KeyError, IndexError, ValueError) as exc:
        raise ValueError(f"not an inference answer: {content[:120]!r}") from exc
