"""`gateway serve`.

Opens nothing itself: the server does.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from gateway.commands.arguments import NO, OK, Commands
from gateway.settings import ServerSettings, load_settings

_FLAGS = ("repository", "host", "port", "admin_host", "admin_port", "redis", "replicas", "state_dir", "log_format")


def add(commands: Commands) -> None:
    """Add the command."""
    serve = commands.add(
        "serve",
        _run,
        "serve a model repository",
        "Serve a model repository. Flags win over GATEWAY_* variables, over gateway.toml, over defaults.",
    )
    defaults = ServerSettings()
    serve.add_argument("repository", nargs="?", metavar="REPOSITORY", help=f"default: {defaults.repository}")
    serve.add_argument("--host", help=f"of the data plane, default: {defaults.host}")
    serve.add_argument("--port", type=int, help=f"of the data plane, default: {defaults.port}; 0 picks a free one")
    serve.add_argument("--admin-host", help=f"of the admin plane, default: {defaults.admin_host}")
    serve.add_argument("--admin-port", type=int, help=f"of the admin plane, default: {defaults.admin_port}")
    serve.add_argument("--redis", metavar="URL", help="shared by the replicas; default: a replica by itself")
    serve.add_argument("--state-dir", metavar="DIR|none", help="keeps routes; default: REPOSITORY/.gateway")
    serve.add_argument(
        "--replicas",
        type=int,
        metavar="N",
        help=f"processes behind the data port, each with an admin port of its own: --admin-port, +1, +2, …; "
        f"default: {defaults.replicas}; more need --redis",
    )
    serve.add_argument("--config", type=Path, metavar="FILE", help="default: ./gateway.toml if there is one")
    serve.add_argument("--log-format", choices=["text", "json"], help=f"default: {defaults.log_format}")


def _run(parsed: argparse.Namespace) -> int:
    flags = {name: getattr(parsed, name) for name in _FLAGS}
    settings, warnings = load_settings(flags, os.environ, config=parsed.config)
    from gateway.telemetry.logs import configure_logging

    configure_logging(settings.server.log_format)
    for warning in warnings:
        logging.getLogger("gateway").warning("setting_ignored", extra={"reason": warning})
    if settings.server.replicas > 1:
        from gateway.supervisor import supervise

        return OK if supervise(settings) else NO
    from gateway.server import leave, run

    run(settings)
    return leave(OK)
