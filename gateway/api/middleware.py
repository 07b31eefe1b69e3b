"""What every call of the admin plane passes: who is asking, and the headers that every answer owes.

Pure ASGI around the application; knows no route, and lets nobody in itself (`auth.py` decides).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.auth import AdminAccess, Caller
from gateway.api.infer import HttpResponse, json_response
from gateway.api.problems import PROBLEM_JSON, Headers, error_body, extra_headers, header_value, problem_body, status_of
from gateway.errors import GatewayError, ShuttingDown

log = logging.getLogger(__name__)

CALLER = "gateway.caller"
"""Where the scope keeps who makes the call."""

_OWED = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Added where an answer does not say otherwise itself."""


class AdminGate:
    """Lets calls in to the application that may come in, and refuses the others before they are routed.

    Args:
        request_id: Echoes the caller's id where it can be one, else makes one.
    """

    def __init__(self, app: ASGIApp, access: AdminAccess, request_id: Callable[[bytes | None], bytes]) -> None:
        self._app = app
        self._access = access
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        if scope["type"] != "http":
            return
        headers: Headers = scope["headers"]
        request_id = self._request_id(header_value(headers, b"x-request-id"))

        has_begun = False

        async def send_owed(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                given: Headers = list(message.get("headers", ()))
                names = {name for name, _ in given}
                owed = [header for header in (*_OWED, (b"x-request-id", request_id)) if header[0] not in names]
                message = {**message, "headers": given + owed}
            await send(message)

        try:
            name = self._access.admit(scope["method"], scope["path"], headers)
        except GatewayError as exc:
            scope[CALLER] = Caller("", request_id.decode())
            facts = {"method": scope["method"], "path": scope["path"][:200], "reason": str(exc)}
            log.warning("admin_call_refused", extra=facts | {"request_id": request_id.decode()})
            await _answer(refusal(exc, scope), send_owed)
            return
        scope[CALLER] = Caller(name, request_id.decode())
        try:
            await self._app(scope, receive, send_owed)
        except (
            asyncio.CancelledError
        ):  # the client has gone, and reads nothing; or the server stops, and waits no longer
            if not has_begun:
                await _answer(refusal(ShuttingDown("the server is stopping"), scope), send_owed)


async def _answer(response: HttpResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": response.body})


def caller_of(scope: MutableMapping[str, Any]) -> Caller:
    """Read who makes the call, as the gate found out."""
    caller: Caller = scope[CALLER]
    return caller


def refusal(error: GatewayError, scope: MutableMapping[str, Any]) -> HttpResponse:
    """Write an error as the address writes errors: the protocol's form below /v2, problem details everywhere else."""
    path: str = scope["path"]
    if path.startswith("/v2/"):
        return json_response(status_of(error), error_body(error), extra_headers(error))
    body = problem_body(error, instance=path, request_id=caller_of(scope).request_id)
    return json_response(status_of(error), body, extra_headers(error), media_type=PROBLEM_JSON.encode())
