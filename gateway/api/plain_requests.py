"""Reads whole inference requests that are written the plain way, which is how clients write them.

Takes only what llhttp would read the same; says nothing about the rest, which goes to llhttp. Knows no tensor.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.api.infer import Address, infer_address

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~](?:[ -~]*[!-~])?)")
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
_MAX_LINES = 1024
_MAX_LINE_BYTES = 512
_MAX_LENGTH_DIGITS = 9


class PlainRequest(NamedTuple):
    """What its path asks for, its headers by lower-case name, and its body."""

    address: Address
    headers: dict[bytes, bytes]
    body: bytes


class PlainRequests:
    """Remembers the header lines it has read: a client writes the same ones with every request."""

    def __init__(self, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._lines: dict[bytes, tuple[bytes, bytes]] = {}
        self._paths: dict[bytes, Address] = {}

    @property
    def remembered(self) -> int:
        """Lines that are remembered."""
        return len(self._lines) + len(self._paths)

    def read(self, data: bytes) -> PlainRequest | None:
        """Read `data` if it is exactly one inference request with a plain head and a body of known length."""
        end = data.find(b"\r\n\r\n", 0, self._max_header_bytes)
        if end < 0:
            return None
        first, *lines = data[:end].split(b"\r\n")
        address = self._paths.get(first) or self._learn_path(first)
        if address is None:
            return None
        found = list(map(self._lines.get, lines))
        if None in found:
            found = [self._lines.get(line) or self._learn_line(line) for line in lines]
        try:
            headers = dict(found)  # type: ignore[arg-type]  # a line that is not plain is None, which is no pair
        except TypeError:
            return None
        length = headers.get(b"content-length")
        if length is None or b"host" not in headers or len(headers) != len(lines) or not _UNPLAIN.isdisjoint(headers):
            return None
        if not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS:
            return None
        if headers.get(b"connection", _KEEP_ALIVE).lower() != _KEEP_ALIVE:
            return None
        start = end + 4
        size = int(length)
        if len(data) - start != size or size > self._max_body_bytes:
            return None
        return PlainRequest(address, headers, data[start:])

    def _learn_path(self, line: bytes) -> Address | None:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            return None
        address = infer_address(match[1].decode("ascii"))
        if address is not None and len(line) <= _MAX_LINE_BYTES:
            _make_room(self._paths)
            self._paths[line] = address
        return address

    def _learn_line(self, line: bytes) -> tuple[bytes, bytes] | None:
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        header = (match[1].lower(), match[2])
        if len(line) <= _MAX_LINE_BYTES:
            _make_room(self._lines)
            self._lines[line] = header
        return header


def _make_room(known: dict[bytes, tuple[bytes, bytes]] | dict[bytes, Address]) -> None:
    """Forget everything when it is too much: lines that differ in each request leave no room for those that do not."""
    if len(known) >= _MAX_LINES:
        known.clear()
