"""A body of known size while it arrives: one copy of each piece, into the place where its tensors are read.

Knows no parser and no socket.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_ALIGNMENT = 64
_SMALL_BYTES = 65_536
"""Up to here a second copy, to align a tensor, costs less than making room."""

Body = bytes | memoryview


class IncomingBody:
    """Takes pieces until nothing is missing.

    Attributes:
        view: The body; writable, like the arrays made of it, and written to by nobody once it is whole.
        missing: Bytes that have not arrived.
    """

    __slots__ = ("missing", "view")

    def __init__(self, size: int, headers: Mapping[bytes, bytes]) -> None:
        """Make room, which takes memory only as it is filled.

        Args:
            headers: By lower-case name; they say where the binary tensors begin, which is where they must be aligned.
        """
        lead = headers.get(b"inference-header-content-length", b"0")
        room = np.empty(size + _ALIGNMENT, np.uint8)
        address: int = room.__array_interface__["data"][0]
        start = -(address + (int(lead) if lead.isdigit() and len(lead) < 18 else 0)) % _ALIGNMENT
        self.view = memoryview(room.data)[start : start + size]
        self.missing = size

    def take(self, data: bytes, start: int = 0) -> int:
        """Take what belongs to this body from `start` on; return where that ends."""
        at = len(self.view) - self.missing
        taken = min(len(data) - start, self.missing)
        self.view[at : at + taken] = memoryview(data)[start : start + taken]
        self.missing -= taken
        return start + taken


def whole_body(data: bytes, start: int, headers: Mapping[bytes, bytes]) -> Body:
    """Return a body that arrived at once, from `start` to the end of `data`."""
    size = len(data) - start
    if size <= _SMALL_BYTES:
        return data[start:]
    body = IncomingBody(size, headers)
    body.take(data, start)
    return body.view
