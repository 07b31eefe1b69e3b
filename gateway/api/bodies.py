"""Bodies of the admin plane's calls, read up to a limit.

Understands none of them.
"""

from __future__ import annotations

from starlette.requests import Request

from gateway.errors import TooLarge

_MAX_BODY_BYTES = 1_048_576


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
