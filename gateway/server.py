"""Sockets, signals and the life of the process: listen, serve, drain, exit.

Knows no path and no model; uvicorn speaks HTTP, this bounds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
import uvloop

from gateway.api.exchange import Exchange
from gateway.app import Gateway
from gateway.errors import (
    CannotStart,
    LoadFailed,
)
from gateway.protocol import BoundedProtocol
from gateway.settings import Settings, is_loopback

_BACKLOG = 2048
Application = Callable[..., Awaitable[None]]
_SWEEP_INTERVAL_S = 1.0


class Listener(uvicorn.Server):
    """uvicorn's server without its signal handlers: this process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take every connection the kernel has already accepted, so that closing the listener resets none, and stop."""
        loop = asyncio.get_running_loop()
        waiting = [connection for listening in sockets or [] for connection in _accept_waiting(listening)]
        for server in self.servers:  # at once: nobody may come in between
            server.close()
        for connection in waiting:
            await loop.connect_accepted_socket(self._make_protocol, connection)
        await super().shutdown(sockets)

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
    if not is_loopback(server.admin_host) and not settings.auth.tokens:
        raise CannotStart(
            f"--admin-host {server.admin_host}: the admin plane listens off loopback only with tokens; "
            "make one with 'gateway token NAME --scope read --scope write', or use 127.0.0.1"
        )
    with (
        _bind(server.host, server.port, "") as data_socket,
        _bind(server.admin_host, server.admin_port, "admin-") as admin_socket,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, data_socket, admin_socket))


async def _serve(settings: Settings, data_socket: socket.socket, admin_socket: socket.socket) -> None:
    gateway = Gateway(
        settings,
        replica_id=f"{socket.gethostname()}:{admin_socket.getsockname()[1]}",
        admin_url=_admin_url(admin_socket),
    )
    data = _listener(gateway, gateway.door, gateway.exchange)
    admin = _listener(gateway, gateway.admin, None)
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
    sweeper = asyncio.create_task(_sweep([data, admin]), name="timeouts")
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


async def _sweep(listeners: list[Listener]) -> None:
    """Refuse requests that have been arriving for too long; one timer for all connections."""
    while True:
        await asyncio.sleep(_SWEEP_INTERVAL_S)
        now = time.monotonic()
        for listener in listeners:
            for connection in list(listener.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.sweep(now)


def _listener(gateway: Gateway, app: Application, exchange: Exchange | None) -> Listener:
    def is_draining() -> bool:
        return gateway.is_draining

    class Protocol(BoundedProtocol):
        """The protocol of this listener."""

        limits = gateway.settings.limits
        count_refusal = staticmethod(gateway.exchange.count_refusal)

    Protocol.exchange = exchange
    Protocol.is_draining = staticmethod(is_draining)
    server = gateway.settings.server
    return Listener(
        uvicorn.Config(
            app,
            http=Protocol,
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


def _bind(host: str, port: int, plane: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with contextlib.ExitStack() as closing:
            listening = closing.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            closing.pop_all()
    except OSError as exc:
        flag = "port" if exc.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise CannotStart(
            f"cannot listen on {host}:{port}: {exc.strerror}; choose another with --{plane}{flag}"
        ) from exc
    return listening


def _accept_waiting(listening: socket.socket) -> Iterator[socket.socket]:
    while True:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        yield connection


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


def _admin_url(listening: socket.socket) -> str:
    """Where others reach the admin plane: a listener on every address is reached by the machine's name."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        return f"http://{socket.gethostname()}:{port}"
    return f"http://{_address(listening)}"


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
