"""Where a gateway binds, what it calls itself, and why it would not start."""

from __future__ import annotations

import socket

import pytest

from gateway.errors import CannotStart
from gateway.identity import ReplicaIdentity
from gateway.listening import address_of, open_admin_socket, open_data_socket, seal
from gateway.settings import ServerSettings, Settings
from tests.support.server import free_port


def admin_on(port: int) -> Settings:
    """Ask for this admin port."""
    return Settings(server=ServerSettings(admin_port=port))


def test_the_admin_port_of_a_replica_follows_from_its_number() -> None:
    port = free_port() - 1
    with open_admin_socket(admin_on(port), number=1) as listening:
        assert address_of(listening) == f"127.0.0.1:{port + 1}"


def test_free_admin_ports_are_free_for_every_replica() -> None:
    settings = admin_on(0)
    with open_admin_socket(settings) as first, open_admin_socket(settings, number=1) as second:
        assert address_of(first) != address_of(second)


def test_an_admin_port_beyond_the_last_is_refused() -> None:
    with pytest.raises(CannotStart, match="replica 2 would listen on 65536; use a lower one"):
        open_admin_socket(admin_on(65_534), number=2)


def test_a_replica_is_named_by_machine_and_admin_port() -> None:
    with open_admin_socket(admin_on(0)) as listening:
        port = listening.getsockname()[1]
        replica = ReplicaIdentity.of(listening)
    assert replica.id == f"{socket.gethostname()}-{port}"
    assert replica.admin == f"http://127.0.0.1:{port}"


EVERYWHERE = "0.0.0.0"  # noqa: S104 - the data plane may


@pytest.mark.parametrize("host", [EVERYWHERE, "::"])
def test_a_replica_that_listens_everywhere_is_reached_by_its_name(host: str) -> None:
    with open_data_socket(ServerSettings(host=host, port=0)) as listening:
        port = listening.getsockname()[1]
        assert ReplicaIdentity.of(listening).admin == f"http://{socket.gethostname()}:{port}"


def test_a_sealed_socket_keeps_who_is_connected_and_lets_nobody_else_in() -> None:
    with open_data_socket(ServerSettings(port=0)) as listening:
        address = listening.getsockname()[:2]
        with socket.create_connection(address):
            seal(listening)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.2)
            listening.accept()[0].close()
            with pytest.raises(BlockingIOError):
                listening.accept()
