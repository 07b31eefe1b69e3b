"""A body of known size while it arrives: one copy of each piece, into the place where its tensors are read.

Knows no parser and no socket.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_ALIGNMENT = 64
_SMALL_BYTES = 65_536
"""Up to here a second copy, to align a tensor, costs less than making room."""

_FIRST_ROOM_BYTES = 1_048_576
"""Room for more is made when so much has arrived: an announcement costs nothing, and huge pages come at a touch."""

_GROWTH = 4

Body = bytes | memoryview


class IncomingBody:
    """Takes pieces until nothing is missing.

    Attributes:
        missing: Bytes that have not arrived.
        view: The body once it is whole; writable, as the arrays made of it are, and written to by nobody.
    """

    __slots__ = ("_filled", "_lead", "missing", "view")

    def __init__(self, size: int, headers: Mapping[bytes, bytes]) -> None:
        """Make room.

        Args:
            headers: By lower-case name; they say where the binary tensors begin, which is where they must be aligned.
        """
        lead = headers.get(b"inference-header-content-length", b"0")
        self._lead = int(lead) if lead.isdigit() and len(lead) < 18 else 0
        self._filled = 0
        self.missing = size
        self.view = self._room(min(size, _FIRST_ROOM_BYTES))

    def take(self, data: bytes, start: int = 0) -> int:
        """Take what belongs to this body from `start` on; return where that ends."""
        taken = min(len(data) - start, self.missing)
        filled = self._filled + taken
        if filled > len(self.view):
            held = self.view[: self._filled]
            self.view = self._room(min(self._filled + self.missing, _GROWTH * filled))
            self.view[: self._filled] = held
        self.view[self._filled : filled] = memoryview(data)[start : start + taken]
        self._filled = filled
        self.missing -= taken
        return start + taken

    def _room(self, size: int) -> memoryview:
        room = np.empty(size + _ALIGNMENT, np.uint8)
        address: int = room.__array_interface__["data"][0]
        start = -(address + self._lead) % _ALIGNMENT
        return memoryview(room.data)[start : start + size]


def whole_body(data: bytes, start: int, headers: Mapping[bytes, bytes]) -> Body:
    """Return a body that arrived at once, from `start` to the end of `data`."""
    size = len(data) - start
    if size <= _SMALL_BYTES:
        return data[start:]
    body = IncomingBody(size, headers)
    body.take(data, start)
    return body.view
