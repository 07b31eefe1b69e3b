"""Reads the heads of inference requests that are written the plain way, which is how clients write them.

Takes only what llhttp would read the same; says nothing about the rest, which goes to llhttp. Knows no tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.api.address import Address, infer_address
from gateway.api.head_form import LENGTH, MAX_LENGTH_DIGITS, HeadForm, PlainHead, is_plain

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
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
_FIXED = _UNPLAIN | {b"connection", b"host", LENGTH}
"""Names that decide whether a head is plain: it is judged with them, so they are never cut out as others are."""
_LENGTH = b"\r\nContent-Length: "
_LENGTH_IN_LOWER_CASE = b"\r\ncontent-length: "
_MAX_PATHS = 4096
_MAX_HEADS = 512
_MAX_NAMES = 64
_MAX_VALUES = 16
_MAX_CHANGING = 8
_MAX_LINE_BYTES = 512
_MAX_HEAD_BYTES = 2048


class PlainRequests:
    """Remembers paths and whole heads it has read: a client writes the same ones with every request.

    The length, and a header that has had many values, as a request id has, are cut out first; what is left is the same.
    Where all of a head is known its form is made, with which a connection's next requests are read without cutting.
    """

    def __init__(self, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._paths: dict[bytes, Address] = {}
        self._heads: dict[bytes, dict[bytes, bytes]] = {}
        self._forms: dict[tuple[bytes, ...], HeadForm] = {}
        self._names: dict[bytes, _Name] = {}
        self._changing: list[tuple[bytes, bytes]] = []
        self._cut: set[bytes] = set()

    @property
    def remembered(self) -> int:
        """Paths, heads, their forms, names and values that are remembered."""
        values = sum(len(name.values) for name in self._names.values())
        return len(self._paths) + len(self._heads) + len(self._forms) + len(self._names) + values

    def read(self, data: bytes) -> PlainHead | None:
        """Read the head of `data` if it is one inference request, or begins one, with a body of known length."""
        end = data.find(b"\r\n\r\n", 0, self._max_header_bytes)
        if end < 0:
            return None
        first_end = data.find(b"\r\n")
        first = data[:first_end]
        address = self._paths.get(first) or self._learn_path(first)
        if address is None:
            return None
        lines = data[first_end:end]
        before, found, after = lines.partition(_LENGTH_IN_LOWER_CASE)
        if not found:
            before, found, after = lines.partition(_LENGTH)
        length, line_end, rest = after.partition(b"\r\n")
        if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
            return None
        start = end + 4
        size = int(length)
        if len(data) - start > size or size > self._max_body_bytes:
            return None
        lines = before + line_end + rest
        changing = {}
        for mark, name in self._changing:
            before, found, after = lines.partition(mark)
            if found:
                value, line_end, rest = after.partition(b"\r\n")
                if not is_plain(value):
                    return None
                lines = before + line_end + rest
                changing[name] = value
        known = self._heads.get(lines)
        headers = known or self._learn(lines, changing)
        if headers is None:
            return None
        if changing:
            headers = {**headers, **changing}
        form = None
        if known is not None and first in self._paths:
            key = (first, lines, *changing)
            form = self._forms.get(key) or self._make_form(key, data[:start], address, headers)
        return PlainHead(address, headers, start, size, form)

    def _make_form(
        self, key: tuple[bytes, ...], head: bytes, address: Address, headers: Mapping[bytes, bytes]
    ) -> HeadForm:
        """Remember how a head is written.

        Args:
            key: What is left of it when all that changes is cut out, and the names that were cut.
        """
        marks = [(_LENGTH, LENGTH), (_LENGTH_IN_LOWER_CASE, LENGTH), *self._changing]
        places = sorted((head.index(mark) + len(mark), name) for mark, name in marks if mark in head)
        form = HeadForm(
            head,
            places,
            address,
            headers,
            max_header_bytes=self._max_header_bytes,
            max_body_bytes=self._max_body_bytes,
        )
        if len(self._forms) >= _MAX_HEADS:
            self._forms.clear()
        self._forms[key] = form
        return form

    def _learn_path(self, line: bytes) -> Address | None:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            return None
        address = infer_address(match[1].decode("ascii"))
        if address is not None and len(line) <= _MAX_LINE_BYTES and len(self._paths) < _MAX_PATHS:
            self._paths[line] = address
        return address

    def _learn(self, lines: bytes, changing: Mapping[bytes, bytes]) -> dict[bytes, bytes] | None:
        """Read header lines, each behind its line break, and remember them together if each may come again.

        Args:
            changing: What was cut out of the head before; no head that is remembered has a header of such a name.
        """
        headers = {}
        may_return = len(lines) <= _MAX_HEAD_BYTES
        for line in lines.split(b"\r\n")[1:]:
            written, colon, value = line.partition(b": ")
            name = self._name(written)
            if name is None or name.lower in headers or name.lower in changing or not colon or not is_plain(value):
                return None
            headers[name.lower] = value
            may_return = self._has_seen(name, written, value) and may_return
        if b"host" not in headers or LENGTH in headers or not _UNPLAIN.isdisjoint(headers):
            return None
        if headers.get(b"connection", _KEEP_ALIVE).lower() != _KEEP_ALIVE:
            return None
        if may_return and self._cut.isdisjoint(headers):
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            self._heads[lines] = headers
        return headers

    def _name(self, written: bytes) -> _Name | None:
        name = self._names.get(written)
        if name is None and _NAME.fullmatch(written) is not None:
            name = _Name(written.lower())
            if len(self._names) < _MAX_NAMES and len(written) <= _MAX_LINE_BYTES:
                self._names[written] = name
        return name

    def _has_seen(self, name: _Name, written: bytes, value: bytes) -> bool:
        """Note a header's value; a name that has had many, or a long one, is cut out of heads from now on."""
        if value in name.values:
            return True
        if self._names.get(written) is not name:
            return False
        if len(name.values) < _MAX_VALUES and len(value) <= _MAX_LINE_BYTES:
            name.values.add(value)
            return True
        changing = (b"\r\n%b: " % written, name.lower)
        if name.lower not in _FIXED and changing not in self._changing and len(self._changing) < _MAX_CHANGING:
            self._changing.append(changing)
            self._cut.add(name.lower)
            self._heads.clear()
            self._forms.clear()
        return False


@dataclass(eq=False, slots=True)
class _Name:
    """A header's name in lower case, and the first values it has had."""

    lower: bytes
    values: set[bytes] = field(default_factory=set)
