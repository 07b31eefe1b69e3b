"""One replica of several: takes its orders from the parent that started it, serves, and ends when that parent is gone.

Reads no setting and binds no socket; what it serves is `server.py`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable

import msgspec

from gateway.acceptor import ConnectionCounts
from gateway.errors import CannotStart, InvalidSetting
from gateway.listener import Shared
from gateway.orders import HURRY, Orders, Ready, Refused, Report, encode_report
from gateway.server import leave, serve
from gateway.telemetry.logs import configure_logging

log = logging.getLogger(__name__)

OK, NOT_STARTED = 0, 3
_COMMAND_BYTES = 64


class Parent:
    """The attendant of a replica: the process at the other end of the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def ready(self, models: list[str]) -> None:
        """Report that the repository was looked through."""
        self.report(Ready(models))

    def report(self, report: Report) -> None:
        """Tell the parent, if it is still there."""
        with contextlib.suppress(OSError):
            self._channel.sendall(encode_report(report))

    def attend(self, drain: Callable[[], None], hurry: Callable[[], None]) -> None:
        """Obey commands; a parent that is gone can restart nobody, so nobody stays."""
        loop = asyncio.get_running_loop()

        def obey() -> None:
            try:
                commands = self._channel.recv(_COMMAND_BYTES)
            except OSError:
                commands = b""
            if not commands:
                log.warning("parent_lost")
                loop.remove_reader(self._channel)
            if not commands or HURRY in commands:
                hurry()
            else:
                drain()

        loop.add_reader(self._channel, obey)


def main() -> int:
    """Serve as ordered.

    Returns: 0 done, 3 could not start; the parent has been told why.
    """
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    configure_logging(orders.settings.server.log_format, replica=orders.replica.id)
    descriptors = orders.data_fd, orders.admin_fd, orders.channel_fd
    data_socket, admin_socket, channel = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    counts = ConnectionCounts(orders.counts_fd, orders.settings.server.replicas)
    shared = Shared(counts=counts, number=orders.number, is_restarted=orders.is_restarted)
    with data_socket, admin_socket, channel:
        parent = Parent(channel)
        try:
            serve(orders.settings, orders.replica, data_socket, admin_socket, parent, shared=shared)
        except (CannotStart, InvalidSetting) as exc:
            parent.report(Refused(str(exc)))
            return leave(NOT_STARTED)
    return leave(OK)


if __name__ == "__main__":
    sys.exit(main())
