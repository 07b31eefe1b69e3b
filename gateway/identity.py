"""Which replica this process is: its name, and where its admin plane listens.

Opens no socket and asks nobody but the machine for its name.
"""

from __future__ import annotations

import ipaddress
import socket

import msgspec


class ReplicaIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """One replica among all that share a store.

    Attributes:
        id: `<machine>-<admin port>`: the same after a restart.
        admin: URL of its admin plane, as other machines reach it.
    """

    id: str
    admin: str

    @classmethod
    def of(cls, admin_socket: socket.socket) -> ReplicaIdentity:
        """Name the replica that serves its admin plane on this socket."""
        machine = socket.gethostname()
        host, port = admin_socket.getsockname()[:2]
        reached = machine if ipaddress.ip_address(host.partition("%")[0]).is_unspecified else host
        return cls(id=f"{machine}-{port}", admin=f"http://{join_address(reached, port)}")


def join_address(host: str, port: int) -> str:
    """Write host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
