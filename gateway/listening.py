"""Listening sockets: where a gateway binds, what it says of that, and the one line that says why it cannot.

Accepts nothing; whoever serves does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Sequence

from gateway.errors import CannotStart
from gateway.identity import join_address
from gateway.settings import ServerSettings, Settings, is_loopback

BACKLOG = 2048
_LAST_PORT = 65_535
_SO_ATTACH_FILTER = 26  # of Linux; socket(7)
_BPF_RETURN = 0x06


def open_data_socket(server: ServerSettings) -> socket.socket:
    """Listen where predictions are asked for.

    Raises: CannotStart: the address is taken, not ours or not allowed.
    """
    return _bind(server.host, server.port, "")


def open_admin_socket(settings: Settings, *, number: int = 0) -> socket.socket:
    """Listen on the admin plane of one replica: `admin_port`, + 1, + 2, …; a free port each where that is 0.

    Raises: CannotStart: as above, or the plane would be open to everybody.
    """
    server = settings.server
    if not is_loopback(server.admin_host) and not settings.auth.tokens:
        raise CannotStart(
            f"--admin-host {server.admin_host}: the admin plane listens off loopback only with tokens; "
            "make one with 'gateway token NAME --scope read --scope write', or use 127.0.0.1"
        )
    port = server.admin_port + number if server.admin_port else 0
    if port > _LAST_PORT:
        raise CannotStart(f"--admin-port {server.admin_port}: replica {number} would listen on {port}; use a lower one")
    return _bind(server.admin_host, port, "admin-")


def seal(listening: socket.socket) -> None:
    """Let no further connection be made, so that those the kernel has taken can all be accepted before it is closed.

    Whoever comes now hears nothing, tries again and is refused. Closing alone would reset who came since the last
    accept. Where the system has no such filter that remains so.
    """
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(drop_all)))


def address_of(listening: socket.socket) -> str:
    """Write where a socket listens as a URL has it."""
    host, port = listening.getsockname()[:2]
    return join_address(host, port)


def print_banner(predictions: str, admins: Sequence[str], models: Sequence[str]) -> None:
    """Say where a gateway that is ready listens, and what it serves.

    Args:
        predictions: Address of the data plane.
        admins: Address of each replica's admin plane.
        models: A line for each model.
    """
    lines = [
        f"predictions  http://{predictions}/v2",
        *(f"admin        http://{admin}/admin/v1/models" for admin in admins),
        *(f"  {model}" for model in models or ["no models yet: publish one into the repository"]),
        f"to look at it: http://{admins[0]}/console",
    ]
    print("\n".join(lines), flush=True)


def _bind(host: str, port: int, plane: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with contextlib.ExitStack() as closing:
            listening = closing.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
            closing.pop_all()
    except OSError as exc:
        flag = "port" if exc.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise CannotStart(
            f"cannot listen on {host}:{port}: {exc.strerror}; choose another with --{plane}{flag}"
        ) from exc
    return listening
