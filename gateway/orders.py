"""What a parent and its replicas say to each other: orders once, then commands down and reports up.

Starts no process and opens no socket.
"""

from __future__ import annotations

import msgspec

from gateway.identity import ReplicaIdentity
from gateway.settings import Settings

DRAIN, HURRY = b"d", b"h"
"""Commands: stop as after SIGTERM; stop without the delay. A parent that is gone says the latter."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a replica is to know, read from its standard input: no flag, variable or file is read again.

    Attributes:
        data_fd: The listening socket that all replicas share.
        admin_fd: The listening socket of this replica's admin plane.
        channel_fd: Where commands come from and reports go to.
        counts_fd: The connections that each replica has, see `ConnectionCounts`.
        number: Which of the replicas this is, from 0.
        is_restarted: The replica has run before, so that others serve already.
    """

    settings: Settings
    replica: ReplicaIdentity
    data_fd: int
    admin_fd: int
    channel_fd: int
    counts_fd: int
    number: int
    is_restarted: bool


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The replica has looked through the repository; a line for each model."""

    models: list[str]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The replica cannot start: what, where, what to do."""

    reason: str


Report = Ready | Refused


def encode_report(report: Report) -> bytes:
    """Write a report as one line."""
    return msgspec.json.encode(report) + b"\n"


def decode_report(line: bytes) -> Report:
    """Read a report back."""
    report: Report = msgspec.json.decode(line, type=Report)
    return report
