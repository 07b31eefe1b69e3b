"""The head that one client writes again and again: pieces that stand still, and values that change between them.

Knows heads that were read before, and takes no other; never decides what a plain head is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.api.address import Address

MAX_LENGTH_DIGITS = 9
LENGTH = b"content-length"

_VISIBLE = bytes(code if 0x20 < code < 0x7F else code == 0 for code in range(256))
"""Translates text of visible ASCII to itself, and no other: a 0 becomes a 1, everything else a 0."""
_LONGER_BYTES = 256
"""Heads longer by more than this are read the other way: here what is left of the data is copied at each step."""


class PlainHead(msgspec.Struct, frozen=True, gc=False):
    """A request whose head has arrived.

    Attributes:
        address: What its path asks for.
        headers: By lower-case name, but for the length.
        start: Where the body begins. size: Of the body.
        form: Reads the next one that is written the same way; None where that is not known yet.
    """

    address: Address
    headers: Mapping[bytes, bytes]
    start: int
    size: int
    form: HeadForm | None = None


class HeadForm:
    """Reads heads that differ from a known one in the length and in some headers' values alone."""

    __slots__ = ("_address", "_begin", "_changes", "_gaps", "_headers", "_max_body_bytes", "_most_bytes")

    def __init__(
        self,
        head: bytes,
        places: Sequence[tuple[int, bytes]],
        address: Address,
        headers: Mapping[bytes, bytes],
        *,
        max_header_bytes: int,
        max_body_bytes: int,
    ) -> None:
        """Take a known head apart.

        Args:
            head: With the empty line at its end.
            places: Where each value begins that may change, and its header's lower-case name; the length is one.
            headers: By lower-case name, but for the length.
        """
        starts = [start for start, _ in places]
        line_ends = [head.index(b"\r\n", start) + 2 for start in starts]
        self._address = address
        self._begin = head[: starts[0]]
        self._gaps = tuple(
            (name, head[line_end:following])
            for (_, name), line_end, following in zip(places, line_ends, [*starts[1:], len(head)], strict=True)
        )
        self._changes = len(places) > 1
        self._headers = {**headers} | {name: b"" for _, name in places if name != LENGTH}  # keeps nobody's token
        self._most_bytes = min(len(head) + _LONGER_BYTES, max_header_bytes)
        self._max_body_bytes = max_body_bytes

    def read(self, data: bytes) -> PlainHead | None:
        """Read the head of `data`; None where it is written another way, or more follows than its body."""
        head = data if len(data) <= self._most_bytes else data[: self._most_bytes]
        rest = head.removeprefix(self._begin)
        if rest is head:
            return None
        headers = self._headers.copy() if self._changes else self._headers
        length = b""
        for name, piece in self._gaps:
            value, _, after = rest.partition(b"\r\n")
            rest = after.removeprefix(piece)
            if rest is after:
                return None
            if name is LENGTH:
                length = value
            elif (value and value.translate(_VISIBLE) == value) or is_plain(value):
                headers[name] = value
            else:
                return None
        if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
            return None
        size = int(length)
        start = len(head) - len(rest)
        if len(data) - start > size or size > self._max_body_bytes:
            return None
        return PlainHead(self._address, headers, start, size, self)


def is_plain(value: bytes) -> bool:
    """Tell whether a header's value is written the plain way: printable ASCII, without space around it."""
    return value.isascii() and value.decode().isprintable() and value.strip() == value != b""
