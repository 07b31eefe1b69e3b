"""Owns the least of HTTP/1.1 that a closed-loop client must read: status and length of one answer.

Never decodes a body, and reads no framing but `content-length`.
"""

from typing import NamedTuple

_HEAD_END = b"\r\n\r\n"
# With the line break before it: `inference-header-content-length` ends in the same letters.
_LENGTH = b"\r\ncontent-length:"


class MalformedResponse(Exception):
    """What the server sent is not an HTTP/1.1 answer with a content-length."""


class Framing(NamedTuple):
    """Where one answer ends."""

    status: int
    head_bytes: int
    total_bytes: int


def read_framing(buffer: bytes | bytearray, filled_bytes: int) -> Framing | None:
    """Read the status line and the content-length of the answer that starts at byte 0.

    Args:
        buffer: What was received.
        filled_bytes: How much of `buffer` holds received bytes.
    Returns: None while the head is incomplete; the body itself may still be on its way.
    Raises: MalformedResponse: a complete head that is not `HTTP/1.1 <status>` with a content-length.
    """
    end = buffer.find(_HEAD_END, 0, filled_bytes)
    if end < 0:
        return None
    if not buffer.startswith(b"HTTP/1.1 "):
        raise MalformedResponse(f"expected an HTTP/1.1 status line, got {bytes(buffer[:64])!r}")
    start = buffer.find(_LENGTH, 0, end)
    if start < 0:
        # Servers that write Content-Length: found once more in lower case.
        start = bytes(buffer[:end]).lower().find(_LENGTH)
        if start < 0:
            raise MalformedResponse(f"no content-length in {bytes(buffer[:end])!r}")
    start += len(_LENGTH)
    stop = buffer.find(b"\r", start)
    try:
        status, length_bytes = int(buffer[9:12]), int(buffer[start:stop])
    except ValueError as exc:
        raise MalformedResponse(f"expected numbers for status and content-length in {bytes(buffer[:end])!r}") from exc
    return Framing(status, end + 4, end + 4 + length_bytes)
