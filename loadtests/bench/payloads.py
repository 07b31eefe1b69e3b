"""Owns the bytes of every request the benchmark sends, and reads the probabilities out of an answer to check it.

Never opens a socket, and imports nothing of the gateway: a benchmark that shares its codec would share its mistakes.
"""

from http import HTTPStatus
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from loadtests.bench.cells import Body

FloatArray = npt.NDArray[np.float32]

Dialect = Literal["v2", "rows"]
"""Open Inference Protocol v2, or, for servers that have no protocol, {"rows": [[…]]} answered with [[…]]."""

_SEED = 7


class _TensorParameters(msgspec.Struct):
    binary_data_size: int = 0


class _OutputTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float] | None = None
    parameters: _TensorParameters = msgspec.field(default_factory=_TensorParameters)


class _Answer(msgspec.Struct):
    outputs: list[_OutputTensor]


def inputs(body: Body) -> list[FloatArray]:
    """Return the seeded input tensors of `body`, float32, each of shape (rows, *row_shape)."""
    shape = (body.rows, *body.row_shape)
    if body.name == "tabular":
        # Imported here: only this body needs scikit-learn. Real rows, so that the trees are really walked.
        from sklearn.datasets import load_breast_cancer

        rows, _ = load_breast_cancer(return_X_y=True)
        chosen = np.random.default_rng(_SEED).choice(len(rows), size=(body.distinct, body.rows), replace=False)
        return [rows[index].astype(np.float32) for index in chosen]
    generator = np.random.default_rng(_SEED)
    return [generator.standard_normal(shape, dtype=np.float32) for _ in range(body.distinct)]


def infer_body(body: Body, tensor: FloatArray, encoding: str, dialect: Dialect = "v2") -> tuple[bytes, int | None]:
    """Encode one request.

    Returns: the body, and in binary encoding the length of its JSON part (None in JSON encoding).
    Raises: ValueError: an encoding that the dialect does not have.
    """
    if dialect == "rows":
        if encoding != "json":
            raise ValueError(f"dialect 'rows' is JSON, got encoding {encoding!r}")
        return orjson.dumps({"rows": tensor.tolist()}), None
    described: dict[str, object] = {"name": body.input_name, "shape": list(tensor.shape), "datatype": "FP32"}
    if encoding == "json":
        # Flat, and each float32 printed as the double it widens to: what `tensor.flatten().tolist()` gives a client.
        described["data"] = tensor.ravel().tolist()
        return orjson.dumps({"inputs": [described]}), None
    raw = tensor.tobytes()
    described["parameters"] = {"binary_data_size": len(raw)}
    head = orjson.dumps({"parameters": {"binary_data_output": True}, "inputs": [described]})
    return head + raw, len(head)


def headers(json_bytes: int | None) -> dict[str, str]:
    """Return the headers of an encoding; `json_bytes` marks a binary tensor request."""
    if json_bytes is None:
        return {"content-type": "application/json"}
    return {"content-type": "application/octet-stream", "inference-header-content-length": str(json_bytes)}


def http_request(path: str, content: bytes, json_bytes: int | None) -> bytes:
    """Frame `content` as one HTTP/1.1 keep-alive POST."""
    fields = {"host": "127.0.0.1", **headers(json_bytes), "content-length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + content


def probabilities(status: int, content: bytes, json_bytes: int | None, dialect: Dialect = "v2") -> FloatArray:
    """Read the output `probabilities` of an answer, float32, in the shape it states.

    Raises: ValueError: the status is not 200, or the answer has no such output.
    """
    if status != HTTPStatus.OK:
        raise ValueError(f"answered {status}: {content[:200]!r}")
    try:
        if dialect == "rows":
            return np.array(msgspec.json.decode(content, type=list[list[float]]), dtype=np.float32)
        answer = msgspec.json.decode(content if json_bytes is None else content[:json_bytes], type=_Answer)
    except msgspec.MsgspecError as exc:
        raise ValueError(f"not an inference answer ({exc}): {content[:200]!r}") from exc
    offset = json_bytes or 0
    for output in answer.outputs:
        size = output.parameters.binary_data_size
        if output.name == "probabilities":
            if output.data is not None:
                return np.array(output.data, dtype=np.float32).reshape(output.shape)
            return np.frombuffer(content[offset : offset + size], dtype="<f4").reshape(output.shape)
        offset += size
    raise ValueError(f"no output 'probabilities' in the answer: {content[:200]!r}")
