"""The thin door: carries ASGI messages to the exchange and back.

Reads a body only up to its limit; knows no path and no tensor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.api.exchange import Exchange
from gateway.api.infer import HttpResponse
from gateway.api.problems import Headers
from gateway.errors import GatewayError, ShuttingDown, TooLarge
from gateway.settings import LimitSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TASK = "gateway.task"
"""Where the door leaves its task in the scope, so that the server can cancel it when the client goes away."""


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


class Door:
    """The data plane as an ASGI application."""

    def __init__(self, exchange: Exchange, limits: LimitSettings, *, is_draining: Callable[[], bool]) -> None:
        self._exchange = exchange
        self._limits = limits
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; lifespan and websockets are not ours."""
        if scope["type"] != "http":
            return
        scope[TASK] = asyncio.current_task()
        headers: Headers = scope["headers"]
        try:
            self._check_announced(headers)  # before a client that waits for 100 Continue is told to go on
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body", False) or len(body) > self._limits.max_body_bytes:
                body = await self._read_rest(body, receive)
            elif message["type"] == "http.disconnect":
                return
            response = await self._exchange.answer(scope["method"], scope["path"], headers, body)
        except GatewayError as exc:
            response = self._exchange.refuse(exc, headers, path=scope["path"])
        except ClientGone:
            return
        except (
            asyncio.CancelledError
        ):  # the client has gone, and reads nothing; or the server stops, and waits no longer
            response = self._exchange.refuse(ShuttingDown("the server is stopping"), headers)
        await self._respond(response, send)

    def _check_announced(self, headers: Headers) -> None:
        limit = self._limits.max_body_bytes
        announced = next((value for name, value in headers if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced) > limit:
            raise TooLarge(f"the body has {announced.decode()} bytes, at most {limit} are taken")

    async def _read_rest(self, first: bytes, receive: Receive) -> bytes:
        """Collect a body that came in pieces, refusing it as soon as it is too large."""
        limit = self._limits.max_body_bytes
        chunks = [first]
        total = len(first)
        more = True
        while more:
            if total > limit:
                raise TooLarge(f"the body has more than {limit} bytes")
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunks.append(message.get("body", b""))
            total += len(chunks[-1])
            more = message.get("more_body", False)
        if total > limit:
            raise TooLarge(f"the body has more than {limit} bytes")
        return b"".join(chunks)

    async def _respond(self, response: HttpResponse, send: Send) -> None:
        headers = response.headers
        if self._is_draining():
            headers = [*headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})
