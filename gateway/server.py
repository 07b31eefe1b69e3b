"""Sockets, signals and the life of the process: listen, serve, drain, exit.

Knows no path and no model; uvicorn speaks HTTP, this bounds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import uvicorn
import uvloop

from gateway.api.exchange import Exchange
from gateway.api.plain_requests import PlainRequests
from gateway.app import Gateway
from gateway.errors import CannotStart, LoadFailed
from gateway.identity import ReplicaIdentity
from gateway.listener import Listener, Shared
from gateway.listening import BACKLOG, address_of, open_admin_socket, open_data_socket, print_banner
from gateway.protocol import SHORT_WAY_BYTES, BoundedProtocol
from gateway.settings import Settings

Application = Callable[..., Awaitable[None]]
_SWEEP_INTERVAL_S = 1.0
_LEAVE_S = 1.0


class Attendant(Protocol):
    """Who started this gateway: is told when it is ready, and may tell it to stop."""

    def ready(self, models: list[str]) -> None:
        """Learn that the repository was looked through.

        Args:
            models: A line for each model: its versions and their states.
        """

    def attend(self, drain: Callable[[], None], hurry: Callable[[], None]) -> None:
        """Call these from the running loop when the gateway is to end: after the delay, or without it."""


class _Terminal:
    """The attendant of a gateway that runs alone: prints the banner, and leaves stopping to the signals."""

    def __init__(self, data_socket: socket.socket, admin_socket: socket.socket) -> None:
        self._addresses = address_of(data_socket), [address_of(admin_socket)]

    def ready(self, models: list[str]) -> None:
        print_banner(*self._addresses, models)

    def attend(self, drain: Callable[[], None], hurry: Callable[[], None]) -> None:
        pass


def run(settings: Settings) -> None:
    """Serve alone until a signal says stop.

    Raises: CannotStart: a listener or the repository cannot be opened.
    """
    with (
        open_data_socket(settings.server) as data_socket,
        open_admin_socket(settings) as admin_socket,
    ):
        replica = ReplicaIdentity.of(admin_socket)
        serve(settings, replica, data_socket, admin_socket, _Terminal(data_socket, admin_socket))


def serve(
    settings: Settings,
    replica: ReplicaIdentity,
    data_socket: socket.socket,
    admin_socket: socket.socket,
    attendant: Attendant,
    *,
    shared: Shared | None = None,
) -> None:
    """Serve on sockets that listen already, until a signal or the attendant says stop; closes them.

    Raises: CannotStart: the repository cannot be opened.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, replica, data_socket, admin_socket, attendant, shared=shared))


def leave(exit_code: int) -> int:
    """Return the exit code, or end the process with it where threads go on working for nobody.

    A model that is being loaded cannot be asked to leave off, and the interpreter would wait for it, for minutes.
    """
    give_up_at = time.monotonic() + _LEAVE_S
    threads = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(exit_code)
    return exit_code


class _Stop:
    """Whether this process is to end, and how."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners
        self.asked, self.hurried = asyncio.Event(), asyncio.Event()

    def on_signal(self, number: signal.Signals) -> None:
        """Stop; SIGINT, or anything after the first, skips the delay. It may be meant for this replica alone."""
        if self.asked.is_set() or number == signal.SIGINT:
            self.hurried.set()
        self.asked.set()

    def end_all(self) -> None:
        """Stop with everybody who shares the socket, as an attendant says."""
        for listener in self._listeners:
            listener.is_last = True
        self.asked.set()

    def hurry_all(self) -> None:
        """Stop with everybody, and skip the delay."""
        self.hurried.set()
        self.end_all()


async def _serve(
    settings: Settings,
    replica: ReplicaIdentity,
    data_socket: socket.socket,
    admin_socket: socket.socket,
    attendant: Attendant,
    *,
    shared: Shared | None,
) -> None:
    gateway = Gateway(settings, replica_id=replica.id, admin_url=replica.admin)
    data = _listener(gateway, gateway.door, gateway.exchange)
    admin = _listener(gateway, gateway.admin, None)
    data.shared = shared
    data.is_last = admin.is_last = shared is None
    stop = _Stop([data, admin])
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.on_signal, number)
    attendant.attend(stop.end_all, stop.hurry_all)
    serving = {admin: asyncio.create_task(admin.serve([admin_socket]), name="admin-listener")}

    def accept() -> None:
        if data not in serving:
            serving[data] = asyncio.create_task(data.serve([data_socket]), name="data-listener")

    if shared is None or not shared.is_restarted:
        accept()
    sweeper = asyncio.create_task(_sweep([data, admin]), name="timeouts")
    started = asyncio.create_task(gateway.start(), name="start")
    try:
        await asyncio.wait([started, asyncio.create_task(stop.asked.wait())], return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            accept()
            attendant.ready(_models(gateway))
        await stop.asked.wait()
        gateway.begin_drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.hurried.wait(), settings.server.drain_delay_s)
    except LoadFailed as exc:
        raise CannotStart(str(exc)) from exc
    finally:
        for listener in (data, admin):
            listener.should_exit = True
            if listener in serving:
                await asyncio.gather(serving[listener], return_exceptions=True)
        await _end(sweeper, started)
        await gateway.stop()


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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

    class BoundProtocol(BoundedProtocol):
        """The protocol of this listener."""

        limits = gateway.settings.limits
        count_refusal = staticmethod(gateway.exchange.count_refusal)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            listener.note_connections()

    limits = gateway.settings.limits
    BoundProtocol.plain_requests = PlainRequests(
        max_header_bytes=limits.max_header_bytes, max_body_bytes=min(SHORT_WAY_BYTES, limits.max_body_bytes)
    )
    BoundProtocol.exchange = exchange
    BoundProtocol.is_draining = staticmethod(is_draining)
    server = gateway.settings.server
    listener = Listener(
        uvicorn.Config(
            app,
            http=BoundProtocol,
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
            backlog=BACKLOG,
        )
    )
    return listener


def _models(gateway: Gateway) -> list[str]:
    lines = []
    for model in gateway.registry.models():
        versions = ", ".join(
            f"{record.key.version} {record.state}{f' ({record.reason})' if record.reason else ''}"
            for record in gateway.registry.versions(model)
        )
        lines.append(f"{model}: {versions}")
    return lines
