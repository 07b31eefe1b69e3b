"""Owns the shapes of fuzzed requests: a draft that can be bent before it is written, and a case ready to send.

Never decides what to bend.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_BODY_BYTES = 1_048_576
MAX_HEADER_BYTES = 16_384
MAX_TENSOR_ELEMENTS = 100_000
MAX_DEPTH = 64
MAX_QUEUE_ROWS = 1024
BODY_TIMEOUT_S = 4.0

SETTINGS = f"""
[server]
drain_delay_s = 0.1
drain_timeout_s = 10
[limits]
max_body_bytes = {MAX_BODY_BYTES}
max_header_bytes = {MAX_HEADER_BYTES}
max_tensor_elements = {MAX_TENSOR_ELEMENTS}
max_json_depth = {MAX_DEPTH}
body_timeout_s = {BODY_TIMEOUT_S}
"""
"""The fuzzed gateway's limits: the defaults, but for those that a small machine reaches too slowly."""

OK = frozenset({200})
WRONG = frozenset({400})
TOO_LARGE = frozenset({413})
LENIENT = frozenset({200, 400, 413})
"""Whatever the request has become, the model exists and the answer comes at once."""
ANY = frozenset({200, 400, 403, 404, 405, 413, 415, 431, 501})


class Ending(Enum):
    """What the client does with the connection once the request is sent."""

    KEEP = auto()  # read the answers, then go on with the next request
    DROP = auto()  # read an answer, then close: where the request ends is a matter of opinion
    HALF_CLOSE = auto()  # close the sending side and read until the server closes, too
    ABORT = auto()  # reset the connection at once
    WAIT = auto()  # an unfinished request: the server gives up on it, in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One message to send, and what may come back.

    Attributes:
        name: Category and what was done, for the report.
        pieces: The bytes, each piece sent by itself.
        allowed: Statuses the answers may have.
        answers: How many must come.
        request_ids: Per answer the id it must carry; None where the request's may be unreadable.
        is_head: Announces a length and has no body.
        is_admin: Goes to the admin listener.
    """

    name: str
    pieces: tuple[bytes, ...]
    allowed: frozenset[int]
    answers: int = 1
    ending: Ending = Ending.KEEP
    request_ids: tuple[str | None, ...] = (None,)
    is_head: bool = False
    is_admin: bool = False

    @property
    def wire(self) -> bytes:
        """Everything that is sent."""
        return b"".join(self.pieces)


Header = tuple[bytes, bytes]


@dataclass(slots=True, kw_only=True)
class Draft:
    """A well-formed request that somebody is about to bend.

    Attributes:
        length: The content-length to write; None writes the body's own, b"" none at all.
    """

    method: bytes = b"POST"
    target: bytes
    body: bytes = b""
    headers: list[Header] = field(default_factory=list)
    version: bytes = b"HTTP/1.1"
    request_id: str = ""
    host: bytes | None = b"fuzz"
    length: bytes | None = None

    def header_lines(self) -> list[bytes]:
        """Write every header, host and length first."""
        lines = [] if self.host is None else [b"host: " + self.host]
        if self.length != b"":
            lines.append(b"content-length: " + (self.length or b"%d" % len(self.body)))
        if self.request_id:
            lines.append(b"x-request-id: " + self.request_id.encode())
        return [*lines, *(name + b": " + value for name, value in self.headers)]

    def wire(self) -> bytes:
        """Write the whole request."""
        return self.with_lines(self.header_lines())

    def with_lines(self, lines: Iterable[bytes], *, end: bytes = b"\r\n") -> bytes:
        """Write the request with other header lines, or lines that end otherwise."""
        start = b" ".join((self.method, self.target, self.version))
        return end.join((start, *lines, b"", b"")) + self.body

    def case(self, name: str, allowed: frozenset[int], *, ending: Ending = Ending.KEEP) -> Case:
        """Send it as it is."""
        return Case(
            name=name,
            pieces=(self.wire(),),
            allowed=allowed,
            ending=ending,
            request_ids=(self.request_id or None,),
            is_head=self.method == b"HEAD",
        )


@dataclass(frozen=True, slots=True)
class TensorUnderTest:
    """A valid input: its elements are in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: tuple[float | str, ...]

    def as_json(self) -> dict[str, Json]:
        """Write it with its data in JSON."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "datatype": self.datatype,
            "data": list(self.elements),
        }

    def nested(self) -> list[Json]:
        """Write its elements as its shape says."""
        level: list[Json] = list(self.elements)
        for size in self.shape[:0:-1]:
            level = [level[at : at + size] for at in range(0, len(level), size)]
        return level

    def as_bytes(self) -> bytes:
        """Write its elements in binary."""
        if self.datatype == "BYTES":
            texts = [str(element).encode() for element in self.elements]
            return b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return struct.pack(f"<{len(self.elements)}f", *map(float, self.elements))

    def as_binary_json(self, size: int | None = None) -> dict[str, Json]:
        """Write it with its data to follow in binary."""
        described = self.as_json()
        del described["data"]
        return described | {"parameters": {"binary_data_size": len(self.as_bytes()) if size is None else size}}

    def repeated(self, rows: int) -> TensorUnderTest:
        """Return the first row, as often as asked."""
        width = len(self.elements) // self.shape[0]
        return replace(self, shape=(rows, *self.shape[1:]), elements=self.elements[:width] * rows)


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """A model the gateway serves, with a request it answers."""

    name: str
    inputs: tuple[TensorUnderTest, ...]
    outputs: tuple[str, ...]

    @property
    def target(self) -> bytes:
        """Where its requests go."""
        return f"/v2/models/{self.name}/infer".encode()

    def document(self) -> dict[str, Json]:
        """Write a request with all data in JSON."""
        return {"inputs": [tensor.as_json() for tensor in self.inputs]}

    def predict_document(self, *, by_rows: bool) -> dict[str, Json]:
        """Write a request of REST v1, in rows or in columns."""
        columns = {tensor.name: tensor.nested() for tensor in self.inputs}
        if not by_rows:
            return {"inputs": dict(columns) if len(columns) > 1 else columns[self.inputs[0].name]}
        if len(columns) == 1:
            return {"instances": columns[self.inputs[0].name]}
        rows = zip(*columns.values(), strict=True)
        return {"instances": [dict(zip(columns, row, strict=True)) for row in rows]}

    def binary(self, *, ask_binary: bool = False) -> tuple[bytes, int]:
        """Write a request with all data in binary, and the length of its JSON part."""
        document: dict[str, Json] = {"inputs": [tensor.as_binary_json() for tensor in self.inputs]}
        if ask_binary:
            document["parameters"] = {"binary_data_output": True}
        text = json.dumps(document).encode()
        return text + b"".join(tensor.as_bytes() for tensor in self.inputs), len(text)
