"""Reads the heads of inference requests that are written the plain way, which is how clients write them.

Takes only what llhttp would read the same; says nothing about the rest, which goes to llhttp. Knows no tensor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from gateway.api.address import Address, infer_address

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PRINTABLE = bytes(range(0x20, 0x7F))
_REQUEST_LINE = re.compile(rb"POST (/v[12]/models/[A-Za-z0-9_.:/~-]+) HTTP/1\.1")
_UNPLAIN = frozenset(
    {
        b"content-encoding",
        b"expect",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that change how the request or its connection is read."""
_KEEP_ALIVE = b"keep-alive"
_MAX_NAMES = 64
_MAX_VALUES = 64
_MAX_LINE_BYTES = 512
_MAX_LENGTH_DIGITS = 9


class PlainHead(NamedTuple):
    """A request whose head has arrived.

    Attributes:
        address: What its path asks for.
        headers: By lower-case name.
        start: Where the body begins. size: Of the body.
    """

    address: Address
    headers: dict[bytes, bytes]
    start: int
    size: int


class PlainRequests:
    """Remembers paths and header lines it has read: a client writes the same ones with every request."""

    def __init__(self, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._paths: dict[bytes, Address] = {}
        self._names: dict[bytes, _Name] = {}
        self._lines: dict[bytes, tuple[bytes, bytes]] = {}

    @property
    def remembered(self) -> int:
        """Paths, names and lines that are remembered."""
        return len(self._paths) + len(self._names) + len(self._lines)

    def read(self, data: bytes) -> PlainHead | None:
        """Read the head of `data` if it is one inference request, or begins one, with a body of known length."""
        end = data.find(b"\r\n\r\n", 0, self._max_header_bytes)
        if end < 0:
            return None
        first, *lines = data[:end].split(b"\r\n")
        address = self._paths.get(first) or self._learn_path(first)
        if address is None:
            return None
        known = self._lines
        headers = {}
        for line in lines:
            header = known.get(line) or self._read_line(line)
            if header is None:
                return None
            headers[header[0]] = header[1]
        length = headers.get(b"content-length")
        if length is None or b"host" not in headers or len(headers) != len(lines) or not _UNPLAIN.isdisjoint(headers):
            return None
        if not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS:
            return None
        if headers.get(b"connection", _KEEP_ALIVE).lower() != _KEEP_ALIVE:
            return None
        start = end + 4
        size = int(length)
        if len(data) - start > size or size > self._max_body_bytes:
            return None
        return PlainHead(address, headers, start, size)

    def _learn_path(self, line: bytes) -> Address | None:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            return None
        address = infer_address(match[1].decode("ascii"))
        if address is not None and len(line) <= _MAX_LINE_BYTES and len(self._paths) < _MAX_NAMES * _MAX_VALUES:
            self._paths[line] = address
        return address

    def _read_line(self, line: bytes) -> tuple[bytes, bytes] | None:
        """Read a header line, and remember it unless its name has had many values: those differ in each request."""
        written, colon, value = line.partition(b": ")
        name = self._names.get(written)
        if name is None:
            if _NAME.fullmatch(written) is None:
                return None
            name = _Name(written.lower())
            if len(self._names) < _MAX_NAMES and len(written) <= _MAX_LINE_BYTES:
                self._names[written] = name
        if not colon or not value or value.translate(None, _PRINTABLE) or value.strip() != value:
            return None
        header = (name.lower, value)
        if name.values < _MAX_VALUES and len(line) <= _MAX_LINE_BYTES and written in self._names:
            name.values += 1
            self._lines[line] = header
        return header


@dataclass(slots=True)
class _Name:
    """A header's name in lower case, and how many of its lines are remembered."""

    lower: bytes
    values: int = 0
