"""The listener on its own: what becomes of connections when it closes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from gateway.errors import GatewayError
from gateway.listener import Listener
from gateway.protocol import BoundedProtocol
from gateway.settings import LimitSettings

WAITING = 20

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def greet(_: object, __: object, send: Send) -> None:
    """Answer any request."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def refuse_to_count(_: GatewayError) -> None:
    raise AssertionError("nothing is refused here")


class Protocol(BoundedProtocol):
    """The protocol of a listener that is about to close."""

    limits = LimitSettings()
    exchange = None
    is_draining = staticmethod(lambda: True)
    count_refusal = staticmethod(refuse_to_count)


async def test_connections_that_nobody_has_taken_yet_are_answered_when_the_listener_closes() -> None:
    """The kernel has told these clients that they are connected, so closing the listener would reset them."""
    with socket.create_server(("127.0.0.1", 0), backlog=WAITING) as listening:
        listening.setblocking(False)
        address = listening.getsockname()[:2]
        clients = [socket.create_connection(address) for _ in range(WAITING)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            client.setblocking(False)
        listener = Listener(
            uvicorn.Config(greet, http=Protocol, ws="none", loop="none", lifespan="off", log_config=None)
        )
        listener.should_exit = True
        await listener.serve([listening])
    loop = asyncio.get_running_loop()
    for client in clients:
        with client:
            answer = await asyncio.wait_for(loop.sock_recv(client, 1000), 10)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"hello")
