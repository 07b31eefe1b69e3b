"""Bodies of the admin plane's calls: bounded, and nothing that two readers of JSON could understand differently.

Knows no document; what a value means is its reader's to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import orjson
from starlette.requests import Request

from gateway.errors import InvalidRequest, TooLarge

_MAX_BODY_BYTES = 1_048_576
_MAX_DEPTH = 32


async def limited_body(request: Request) -> bytes:
    """Read a body of at most 1 MiB.

    Raises: TooLarge: it is larger.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise TooLarge(f"the body has more than {_MAX_BODY_BYTES} bytes")
    return bytes(body)


def parse_json(body: bytes) -> object:
    """Parse JSON, numbers as int and float.

    Raises: InvalidRequest: not JSON (RFC 8259) in UTF-8, nested too deeply, or an object has a key twice.
    """
    try:
        orjson.loads(body)  # the stricter reader: no NaN, no half surrogate, no byte that is not UTF-8
        value = json.loads(body, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest(f"the body is not JSON as this call takes it: {exc}") from exc
    _check_depth(value)
    return value


def _without_twins(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key[:50]}' stands twice in an object")
        found[key] = value
    return found


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return
        level = inner
    raise InvalidRequest(f"the body is nested more than {_MAX_DEPTH} deep")
