"""uvicorn's HTTP protocol with what it lacks, and a short way for inference requests.

Knows no tensor: whole inference requests go to the exchange, everything else to the ASGI application.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.api.address import Address, infer_address
from gateway.api.asgi import TASK
from gateway.api.exchange import Exchange
from gateway.api.head_form import HeadForm, PlainHead
from gateway.api.incoming_body import IncomingBody, whole_body
from gateway.api.plain_requests import PlainRequests
from gateway.api.problems import Headers, error_body, header_lines, status_of
from gateway.errors import BodyTimeout, GatewayError, HeadersTooLarge, InvalidRequest, Overloaded
from gateway.settings import LimitSettings
from gateway.short_cycle import STATUS_LINES, ShortCycle

Application = Callable[[Any, Any, Any], Awaitable[None]]

SHORT_WAY_BYTES = 4_194_304
"""Inference requests up to this size are answered without ASGI, which costs as much as all the rest together."""

_IDLE_GRACE_S = 0.5
_LINGER_S = 1.0


class BoundedProtocol(HttpToolsProtocol):
    """Limits on headers, connections and time, JSON errors, and cancellation when a client goes away.

    Attributes:
        exchange: Where inference requests may go directly; None sends everything through ASGI.
        plain_requests: Reads those that need no parser.
    """

    # Beside uvicorn's own, which fill its dictionary so far that the interpreter would look in it the slow way.
    __slots__ = (
        "_arriving",
        "_begun_in_bytes",
        "_chunk_bytes",
        "_default_headers",
        "_default_lines",
        "_form",
        "_head_bytes",
        "_in_head",
        "_in_tail",
        "_is_between",
        "_is_refused",
        "_running",
        "_tail_bytes",
        "idle_since",
        "receiving_since",
    )

    limits: LimitSettings
    exchange: Exchange | None
    plain_requests: PlainRequests
    is_draining: Callable[[], bool]
    count_refusal: Callable[[GatewayError], None]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """Take a connection, unless there are too many."""
        self.receiving_since: float | None = time.monotonic()
        self.idle_since: float | None = None
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._begun_in_bytes = 0
        self._is_between = True
        self._arriving: IncomingBody | None = None  # of a request that llhttp does not see
        self._form: HeadForm | None = None  # of the last head that was read without it
        self._in_head = False
        self._in_tail = False
        self._tail_bytes = 0
        self._default_headers: Headers = []
        self._default_lines = b""
        self._is_refused = False
        self._running: RequestResponseCycle | None = None
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self.refuse(Overloaded(f"{self.limits.max_connections} connections are open already"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up the request whose client has gone; it need not be the last one that arrived."""
        super().connection_lost(exc)
        running = self._running
        if running is None or running.response_complete:
            return
        running.disconnected = True
        if isinstance(running, ShortCycle):
            running.abandon()
        elif (task := cast("MutableMapping[str, Any]", running.scope).get(TASK)) is not None:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; nothing a client sends may raise out of here."""
        if self._is_refused:
            return
        if self.transport.is_closing():
            return
        self.idle_since = None
        if self._takes_without_parser(data):
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_header_bytes:
                self.refuse(self._headers_error())
                return
        elif self.receiving_since is None:
            self.receiving_since = time.monotonic()
        self._chunk_bytes = len(data)
        was_in_tail = self._in_tail
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._decline_upgrade(data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            reason = exc.__context__ if isinstance(exc.__context__, GatewayError) else None
            self.refuse(reason or InvalidRequest(f"not an HTTP/1.1 request: {exc}"))
        if was_in_tail and self._in_tail:
            self._tail_bytes += len(data)
            if self._tail_bytes > self.limits.max_header_bytes:
                self.refuse(self._headers_error())

    def _takes_without_parser(self, data: bytes) -> bool:
        """Take what belongs to a request that is written the plain way; anything else is llhttp's."""
        if self._arriving is not None:
            self._arrive(self._arriving, data)
            return True
        exchange = self.exchange
        if not self._is_between or exchange is None or not self._is_idle():
            return False
        form = self._form
        head = None if form is None else form.read(data)
        if head is None:
            head = self.plain_requests.read(data)
            if head is None:
                return False
            self._form = head.form
        self._begin_plain(head, exchange, data)
        return True

    def _begin_plain(self, head: PlainHead, exchange: Exchange, data: bytes) -> None:
        """Take a request that needs no parser, whole or begun."""
        cycle = ShortCycle(self, exchange, head.address, head.headers, keep_alive=True)
        self._running = self.cycle = cycle
        if len(data) - head.start == head.size:
            self.receiving_since = None
            cycle.begin(whole_body(data, head.start, head.headers))
        else:
            self.receiving_since = time.monotonic()
            self._arriving = cycle.expect(head.size)
            self._arriving.take(data, head.start)

    def _arrive(self, body: IncomingBody, data: bytes) -> None:
        """Collect a body that llhttp does not see; another request may follow in the same bytes."""
        end = body.take(data)
        if body.missing:
            return
        self._arriving = None
        self.receiving_since = None
        cast("ShortCycle", self.cycle).begin(body.view)
        if end < len(data):
            self.data_received(data[end:])

    def on_message_begin(self) -> None:
        """Start the clock of one request. What only ASGI needs is made when it is known to be needed."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._is_between = False
        self._in_head = True
        self._head_bytes = 0
        self._begun_in_bytes = self._chunk_bytes
        self.receiving_since = time.monotonic()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what follows the body is none, whatever it calls itself."""
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the header block as a whole, and choose the way."""
        self._in_head = False
        if self._begun_in_bytes + self._head_bytes > self.limits.max_header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.limits.max_header_bytes:
                raise self._headers_error()
        names = [name for name, _ in self.headers]
        if names.count(b"host") != 1 and self.parser.get_http_version() == "1.1":
            raise InvalidRequest("expected exactly one Host header")
        if self.parser.should_upgrade():
            return
        address = None if self.exchange is None else self._short_address(names)
        if self.exchange is not None and address is not None:
            self._running = self.cycle = ShortCycle(
                self,
                self.exchange,
                address,
                dict(self.headers),
                keep_alive=self.parser.should_keep_alive(),
            )
            self.cycle.expect(int(self.cycle.named[b"content-length"]))
        else:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.headers, self.expect_100_continue = url, headers, expects
            self.scope["headers"] = headers
            super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Expect the chunk's data; behind the last chunk only trailers follow."""
        self._in_tail = True
        self._tail_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Collect a piece of the body."""
        self._in_tail = False
        if type(self.cycle) is ShortCycle and self.cycle.incoming is not None:
            self.cycle.incoming.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock; a request on the short way is answered now."""
        if self.parser.should_upgrade():
            return
        self.receiving_since = None
        self._is_between = True
        self._in_tail = False
        if type(self.cycle) is ShortCycle and self.cycle.incoming is not None:
            self.cycle.begin(self.cycle.incoming.view)
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Make ready for the next request; the sweep closes idle connections, so that none needs a timer."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        flow = self.flow
        if flow.read_paused and not flow.write_paused:
            flow.resume_reading()
        self.idle_since = time.monotonic()

    def default_lines(self) -> bytes:
        """Return the header lines of every answer; uvicorn makes new headers each second."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers, self._default_lines = headers, header_lines(headers)
        return self._default_lines

    def pause_writing(self) -> None:
        """Take no further requests from a client that does not read its answers."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Take requests again."""
        super().resume_writing()
        self.flow.resume_reading()

    def shutdown(self) -> None:
        """Close soon: a request that is on its way to an idle connection is still answered."""
        if self._is_idle():
            self.loop.call_later(_IDLE_GRACE_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def refuse(self, error: GatewayError) -> None:
        """Answer an error outside any application, if no answer has begun, and close."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self.receiving_since = None
        self.count_refusal(error)
        if self.pipeline or not (self._is_idle() or self.cycle.more_body):  # requests before it get their own answers
            self.cycle.keep_alive = False
            if self.pipeline and self.cycle.more_body:
                self.pipeline[0] = (self.cycle, _refusal(error))
            return
        if self._is_idle() or not self.cycle.response_started:
            status, body = status_of(error), error_body(error)
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINES[status] + head + body)
        # Closing before all is read would reset the connection, and the answer would be lost with it.
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def sweep(self, now: float) -> None:
        """Refuse a request that has been arriving for too long; close a connection that was idle for too long."""
        if self.idle_since is not None and now - self.idle_since > self.timeout_keep_alive:
            if self.flow.write_paused:  # its answers would never leave
                self.transport.abort()
            self.transport.close()
        elif self.receiving_since is not None and now - self.receiving_since > self.limits.body_timeout_s:
            if not self._in_head and self._running is not None and self._running.response_complete:
                self.transport.close()  # the rest of a request that was refused before it was whole
                return
            self.refuse(BodyTimeout(f"the request did not arrive within {self.limits.body_timeout_s:g} s"))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read a request once more without its wish for another protocol, for which the parser would drop its body."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.refuse(InvalidRequest("CONNECT is for proxies"))
            return
        line = b"%b %b HTTP/%b\r\n" % (method, self.url, self.parser.get_http_version().encode())
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.data_received(b"".join((line, *kept, b"\r\n", rest)))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Application) -> None:
        """Know the request that is being answered."""
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _short_address(self, names: list[bytes]) -> Address | None:
        """Return what a plain POST of known, moderate size asks for, on a connection that waits for nothing else."""
        url = self.url
        if not url.endswith((b"/infer", b":predict")) or b"%" in url or b"?" in url:
            return None
        if b"content-length" not in names or b"content-encoding" in names or self.expect_100_continue:
            return None
        length = self.headers[names.index(b"content-length")][1]
        if (
            not self._is_idle()
            or self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"
            or int(length) > min(SHORT_WAY_BYTES, self.limits.max_body_bytes)
        ):
            return None
        return infer_address(url.decode("latin-1"))

    def _is_idle(self) -> bool:
        """Tell whether no request is being answered; uvicorn starts with no cycle although it declares one."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _headers_error(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"the headers have more than {self.limits.max_header_bytes} bytes")


def _refusal(error: GatewayError) -> Application:
    """Make an application that answers any request with the error and closes."""

    async def refuse(_: object, __: object, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
        body = error_body(error)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": status_of(error), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return refuse
