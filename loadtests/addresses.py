"""Owns the rule of where load may go: this machine, unless the user says otherwise.

Never sends anything.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit


def refusal(target: str | None, *, is_remote_allowed: bool) -> str | None:
    """Return why no load may be put on a target, None when it may.

    Args:
        target: A URL such as http://127.0.0.1:8000.
    """
    parts = urlsplit(target or "")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return f"--host {target!r}: expected a URL such as http://127.0.0.1:8000"
    if is_remote_allowed:
        return None
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(parts.hostname, None)}
    except OSError as exc:
        return f"--host {target}: {exc}"
    outside = sorted(address for address in found if not ipaddress.ip_address(address.partition("%")[0]).is_loopback)
    if outside:
        return f"--host {target}: {outside[0]} is not this machine; --allow-remote says that this is meant"
    return None
