"""gzip and deflate, both ways, as the binary tensor extension means them.

Never inflates more than the limit, whatever the sender claims.
"""

from __future__ import annotations

import zlib

from gateway.errors import InvalidRequest, TooLarge, UnsupportedEncoding

MIN_BYTES = 512
"""Smaller answers are not compressed: most clients accept gzip by default, and it would cost more than it saves."""

_DETECT_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_CHOICES = frozenset({*_WINDOW, "identity"})
_FAST = 1


def inflate(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Undo the request's content encoding.

    Args:
        encoding: The header's value; "identity" and "" change nothing.
        max_bytes: Of the inflated body.
    Raises:
        UnsupportedEncoding: neither gzip nor deflate (zlib).
        InvalidRequest: not a whole stream of that encoding.
        TooLarge: it inflates to more than max_bytes.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW:
        raise UnsupportedEncoding(f"content encoding '{encoding}' is not supported, expected gzip or deflate")
    stream = zlib.decompressobj(_DETECT_GZIP_OR_ZLIB)
    try:
        inflated = stream.decompress(body, max_bytes + 1)
    except zlib.error as exc:
        raise InvalidRequest(f"the body is not {encoding}: {exc}") from exc
    if len(inflated) > max_bytes:
        raise TooLarge(f"the body inflates to more than {max_bytes} bytes")
    if not stream.eof:
        raise InvalidRequest(f"the {encoding} body ends early")
    if stream.unused_data:
        raise InvalidRequest(f"{len(stream.unused_data)} bytes follow the {encoding} body")
    return inflated


def deflate(body: bytes, encoding: str) -> bytes:
    """Compress an answer with gzip or deflate (zlib)."""
    compressor = zlib.compressobj(_FAST, zlib.DEFLATED, _WINDOW[encoding])
    return compressor.compress(body) + compressor.flush()


def choose_encoding(accept_encoding: str) -> str:
    """Pick gzip, deflate or "" (neither) from an Accept-Encoding header: highest q first, then the order given."""
    best, best_quality = "identity", 0.0
    for item in accept_encoding.lower().split(","):
        token, _, parameter = item.partition(";")
        name = token.strip()
        if name not in _CHOICES:
            continue
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if best_quality < quality <= 1:
            best, best_quality = name, quality
    return "" if best == "identity" else best
