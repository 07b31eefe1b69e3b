"""Owns the protocol as bytes, written a second time: bodies, sockets, answers; nothing of it comes from the gateway.

Never decides what is right: tests do.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from tests.e2e.oracle import NUMPY_TYPES, Array, Tensors, datatype_of
from tests.support.server import HttpAnswer

WAIT_S = 20.0
"""How long a socket waits before the test fails: far beyond any promise, so that only "never" ends there."""

_LENGTH = struct.Struct("<I")


def json_body(
    inputs: Mapping[str, Array],
    *,
    outputs: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    request_id: str | None = None,
) -> bytes:
    """Write an inference request with all tensors in JSON, nested as their shape is."""
    message: dict[str, Any] = {
        "inputs": [
            {"name": name, "shape": list(array.shape), "datatype": datatype_of(array), "data": array.tolist()}
            for name, array in inputs.items()
        ]
    }
    if outputs:
        message["outputs"] = [{"name": name} for name in outputs]
    if parameters:
        message["parameters"] = dict(parameters)
    if request_id is not None:
        message["id"] = request_id
    return json.dumps(message).encode()


def binary_body(inputs: Mapping[str, Array], *, outputs: Sequence[str] = ()) -> tuple[bytes, int]:
    """Write an inference request with all tensors in binary, asking for binary outputs.

    Returns: The body, and the length of its JSON part for `Inference-Header-Content-Length`.
    """
    chunks = [to_bytes(array) for array in inputs.values()]
    message: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": datatype_of(array),
                "parameters": {"binary_data_size": len(chunk)},
            }
            for (name, array), chunk in zip(inputs.items(), chunks, strict=True)
        ]
    }
    if outputs:
        message["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    else:
        message["parameters"] = {"binary_data_output": True}
    header = json.dumps(message).encode()
    return b"".join((header, *chunks)), len(header)


def read_outputs(answer: HttpAnswer) -> Tensors:
    """Read the outputs of an uncompressed inference answer, in JSON or binary."""
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    message = json.loads(answer.body[:length])
    offset = length
    outputs: Tensors = {}
    for output in message["outputs"]:
        kind, shape = NUMPY_TYPES[output["datatype"]], output["shape"]
        if "data" in output:
            outputs[output["name"]] = np.array(output["data"], dtype=kind).reshape(shape)
            continue
        end = offset + output["parameters"]["binary_data_size"]
        outputs[output["name"]] = from_bytes(answer.body[offset:end], output["datatype"]).reshape(shape)
        offset = end
    assert offset == len(answer.body)
    return outputs


def to_bytes(array: Array) -> bytes:
    """Write a tensor's elements in binary."""
    if array.dtype.kind != "O":
        return array.tobytes()
    texts = [element.encode() for element in array.ravel().tolist()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def from_bytes(content: bytes, datatype: str) -> Array:
    """Read a tensor's elements from binary."""
    if datatype != "BYTES":
        return np.frombuffer(content, NUMPY_TYPES[datatype])
    found = []
    while content:
        end = _LENGTH.size + _LENGTH.unpack_from(content)[0]
        found.append(content[_LENGTH.size : end].decode())
        content = content[end:]
    return np.array(found, dtype=object)


def infer_path(model: str, version: int | None = None) -> str:
    """Return where to post an inference request."""
    return f"/v2/models/{model}{'' if version is None else f'/versions/{version}'}/infer"


def request_bytes(
    path: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    protocol: str = "HTTP/1.1",
) -> bytes:
    """Write a whole HTTP request with a length and nothing that was not asked for."""
    given = {"host": "test", "content-length": str(len(body))} | dict(headers or {})
    lines = [f"{method} {path} {protocol}", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class RawSocket:
    """A blocking connection that sends exactly what it is given."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, WAIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        """Keep it for a with block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def send(self, content: bytes) -> None:
        """Send these bytes and no others."""
        self._socket.sendall(content)

    def receive(self, *, is_head: bool = False) -> HttpAnswer:
        """Read one whole answer.

        Args:
            is_head: The request was HEAD: a content-length is announced and no body follows.
        Raises: ConnectionError: the connection ended first.
        """
        status_line = self._reader.readline()
        if not status_line:
            raise ConnectionError("closed without an answer")
        status = int(status_line.split()[1])
        headers = {}
        while (line := self._reader.readline().decode("latin-1").strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = 0 if is_head else int(headers.get("content-length", 0))
        body = self._reader.read(length)
        if len(body) != length:
            raise ConnectionError("closed in the middle of an answer")
        return HttpAnswer(status, headers, body)

    def has_received(self) -> bool:
        """Tell whether something has come, or the end."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def is_closed_by_peer(self) -> bool:
        """Wait for the server to close; False if it sends something instead."""
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Close it, now."""
        self._reader.close()
        self._socket.close()


@dataclass(slots=True)
class AsyncConnection:
    """A keep-alive connection for tests with many callers at once."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection(*address, limit=2**24))

    async def ask(self, content: bytes) -> HttpAnswer:
        """Send a whole request and read its whole answer."""
        self.writer.write(content)
        async with asyncio.timeout(WAIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return HttpAnswer(int(status_line.split()[1]), headers, body)

    async def close(self) -> None:
        """Close it."""
        self.writer.close()
        await self.writer.wait_closed()
