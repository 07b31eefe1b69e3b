"""Sockets, signals and the life of the process: listen, serve, drain, exit.

Knows no path and no model; uvicorn speaks HTTP, this bounds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, cast

import httptools
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.api.asgi import TASK
from gateway.api.problems import Headers, error_body, status_of
from gateway.app import Gateway
from gateway.errors import (
    BodyTimeout,
    CannotStart,
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    LoadFailed,
    Overloaded,
)
from gateway.settings import LimitSettings, Settings, is_loopback

_BACKLOG = 2048
Application = Callable[..., Awaitable[None]]
_SWEEP_INTERVAL_S = 1.0
_IDLE_GRACE_S = 0.5
_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP with what it lacks: limits on headers, connections and time, JSON errors, prompt cancellation."""

    limits: LimitSettings
    gateway: Gateway

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """Take a connection, unless there are too many."""
        self.receiving_since: float | None = time.monotonic()
        self._head_bytes = 0
        self._in_head = False
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self.refuse(Overloaded(f"{self.limits.max_connections} connections are open already"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up the request whose client has gone."""
        super().connection_lost(exc)
        if not self._is_idle():
            task = cast("MutableMapping[str, Any]", self.cycle.scope).get(TASK)
            if task is not None:
                task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; nothing a client sends may raise out of here."""
        self._unset_keepalive_if_required()
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_header_bytes:
                self._refuse_headers()
                return
        elif self.receiving_since is None:
            self.receiving_since = time.monotonic()
        self._chunk_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the request itself is answered, the other protocol is not spoken
        except httptools.HttpParserError as exc:
            reason = exc.__context__ if isinstance(exc.__context__, GatewayError) else None
            self.refuse(reason or InvalidRequest(f"not an HTTP/1.1 request: {exc}"))

    def on_message_begin(self) -> None:
        """Start the clock of one request."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self.receiving_since = time.monotonic()

    def on_headers_complete(self) -> None:
        """Check the header block as a whole."""
        self._in_head = False
        if self._head_bytes + self._chunk_bytes > self.limits.max_header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.limits.max_header_bytes:
                raise self._headers_error()
        if sum(name == b"host" for name, _ in self.headers) != 1 and self.parser.get_http_version() == "1.1":
            raise InvalidRequest("expected exactly one Host header")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the clock."""
        self.receiving_since = None
        super().on_message_complete()

    def shutdown(self) -> None:
        """Close soon: a request that is on its way to an idle connection is still answered."""
        if self._is_idle():
            self.loop.call_later(_IDLE_GRACE_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def refuse(self, error: GatewayError) -> None:
        """Answer an error outside any application, if no answer has begun, and close."""
        if self.transport.is_closing():
            return
        self.gateway.dataplane.count_rejection(None, type(error).__name__.lower())
        if self._is_idle() or not self.cycle.response_started:
            self.transport.write(_plain_response(error))
        self.transport.close()

    def _is_idle(self) -> bool:
        """Tell whether no request is being answered; uvicorn starts with no cycle although it declares one."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _refuse_headers(self) -> None:
        self.refuse(self._headers_error())

    def _headers_error(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"the headers have more than {self.limits.max_header_bytes} bytes")


class Listener(uvicorn.Server):
    """uvicorn's server without its signal handlers: this process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def accept_waiting(self, listening: socket.socket) -> None:
        """Take every connection the kernel has already accepted, so that closing the listener resets none."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._make_protocol, connection)

    def _make_protocol(self) -> asyncio.Protocol:
        protocol_class: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def run(settings: Settings) -> None:
    """Serve until a signal says stop.

    Raises: CannotStart: a listener or the repository cannot be opened.
    """
    server = settings.server
    if not is_loopback(server.admin_host):
        raise CannotStart(
            f"--admin-host {server.admin_host}: the admin plane listens off loopback only with tokens, "
            "which this release does not have; use 127.0.0.1"
        )
    data_socket = _bind(server.host, server.port, "--port")
    admin_socket = _bind(server.admin_host, server.admin_port, "--admin-port")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, data_socket, admin_socket))


async def _serve(settings: Settings, data_socket: socket.socket, admin_socket: socket.socket) -> None:
    gateway = Gateway(settings)
    data = _listener(gateway, gateway.door)
    admin = _listener(gateway, gateway.admin)
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set() or number == signal.SIGINT:
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    serving = [
        asyncio.create_task(data.serve([data_socket]), name="data-listener"),
        asyncio.create_task(admin.serve([admin_socket]), name="admin-listener"),
    ]
    sweeper = asyncio.create_task(_sweep([data, admin], settings.limits), name="timeouts")
    try:
        started = asyncio.create_task(gateway.start(), name="start")
        await asyncio.wait([started, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            print(_banner(gateway, data_socket, admin_socket), flush=True)
        await stop.wait()
        gateway.begin_drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), settings.server.drain_delay_s)
        await data.accept_waiting(data_socket)
    except LoadFailed as exc:
        raise CannotStart(str(exc)) from exc
    finally:
        data.should_exit = True
        await asyncio.gather(serving[0], return_exceptions=True)
        admin.should_exit = True
        await asyncio.gather(serving[1], return_exceptions=True)
        sweeper.cancel()
        await asyncio.gather(sweeper, return_exceptions=True)
        await gateway.stop()


async def _sweep(listeners: list[Listener], limits: LimitSettings) -> None:
    """Refuse requests that have been arriving for too long; one timer for all connections."""
    while True:
        await asyncio.sleep(_SWEEP_INTERVAL_S)
        oldest = time.monotonic() - limits.body_timeout_s
        for listener in listeners:
            for connection in list(listener.server_state.connections):
                if isinstance(connection, BoundedProtocol) and (connection.receiving_since or oldest) < oldest:
                    connection.refuse(BodyTimeout(f"the request did not arrive within {limits.body_timeout_s:g} s"))


def _listener(gateway: Gateway, app: Application) -> Listener:
    protocol = type("Protocol", (BoundedProtocol,), {"limits": gateway.settings.limits, "gateway": gateway})
    server = gateway.settings.server
    return Listener(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=server.keep_alive_s,  # type: ignore[arg-type]  # a float works, it goes to call_later
            timeout_graceful_shutdown=max(1, round(server.drain_timeout_s)),
            backlog=_BACKLOG,
        )
    )


def _bind(host: str, port: int, flag: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as exc:
        raise CannotStart(f"cannot listen on {host}:{port}: {exc.strerror}; choose another with {flag}") from exc
    return listening


def _plain_response(error: GatewayError) -> bytes:
    status = status_of(error)
    body = error_body(error)
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    lines = [b"HTTP/1.1 %d %s" % (status, _REASONS[status]), *(b"%s: %s" % header for header in headers), b"", body]
    return b"\r\n".join(lines)


def _banner(gateway: Gateway, data_socket: socket.socket, admin_socket: socket.socket) -> str:
    lines = [
        f"predictions  http://{_address(data_socket)}/v2",
        f"admin        http://{_address(admin_socket)}/admin/v1/models",
    ]
    for model in gateway.registry.models():
        versions = ", ".join(
            f"{record.key.version} {record.state}{f' ({record.reason})' if record.reason else ''}"
            for record in gateway.registry.versions(model)
        )
        lines.append(f"  {model}: {versions}")
    if not gateway.registry.models():
        lines.append("  no models yet: publish one into the repository")
    return "\n".join(lines)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
