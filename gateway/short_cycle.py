"""One inference request on its short way through the server: collected whole, answered with one write, without ASGI.

Knows no tensor and no parser; the protocol says when its bytes have come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.api.address import Address
from gateway.api.compression import MIN_BYTES
from gateway.api.exchange import Exchange
from gateway.api.incoming_body import Body, IncomingBody
from gateway.api.infer import HttpResponse, InferCall

if TYPE_CHECKING:
    from gateway.protocol import BoundedProtocol

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class ShortCycle(RequestResponseCycle):
    """One inference request on its short way: collected whole, answered with one write.

    Stands where uvicorn keeps its own cycle, so that keep-alive, pipelining and shutdown work as they do there.
    """

    message_event = asyncio.Event()  # uvicorn sets it when the connection is lost; nobody waits for this one

    def __init__(
        self,
        protocol: BoundedProtocol,
        exchange: Exchange,
        address: Address,
        headers: Mapping[bytes, bytes],
        *,
        keep_alive: bool,
    ) -> None:
        """Take a request whose headers have arrived."""
        self.protocol = protocol
        self.exchange = exchange
        self.address = address
        self.named = headers
        self.keep_alive = keep_alive
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False
        self.incoming: IncomingBody | None = None
        self.call: InferCall | None = None
        self.compressing: asyncio.Task[None] | None = None

    def expect(self, size: int) -> IncomingBody:
        """Make room for a body that arrives in pieces."""
        self.incoming = IncomingBody(size, self.named)
        return self.incoming

    def begin(self, body: Body) -> None:
        """Hand the whole request to the desk; its answer comes with a callback, without a task."""
        self.more_body = False
        self.incoming = None  # an idle connection would keep it
        begun = self.exchange.desk.begin(self.address, self.named, body)
        if isinstance(begun, HttpResponse):
            self.write(begun)
        else:
            self.call = begun
            begun.answer.add_done_callback(self._settle)

    def abandon(self) -> None:
        """Give up the request: its client has gone."""
        if self.call is not None:
            self.call.answer.cancel()
        if self.compressing is not None:
            self.compressing.cancel()

    def _settle(self, _: object) -> None:
        call = self.call
        if call is None:
            return
        if call.reserve is not None and call.falls_back():
            call.answer.add_done_callback(self._settle)
            return
        self.call = None  # an idle connection would keep the version that answered last, and all its memory
        response = call.settle()
        if response is None:
            return
        if response.accept_encoding and len(response.body) >= MIN_BYTES:
            self.compressing = self.protocol.loop.create_task(self._compress(response))
        else:
            self.write(response)

    async def _compress(self, response: HttpResponse) -> None:
        self.write(await self.exchange.compressed(response))

    def write(self, response: HttpResponse) -> None:
        """Write a whole answer and make the connection ready for the next request."""
        if self.disconnected:
            return
        protocol = self.protocol
        if protocol.is_draining():
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.response_started = self.response_complete = True
        protocol.transport.write(
            b"".join(
                (
                    STATUS_LINES[response.status],
                    protocol.default_lines(),
                    response.own_lines,
                    b"" if response.assignment is None else response.assignment.header_lines,
                    end,
                    response.body,
                )
            )
        )
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
