"""The command `gateway`: flags in, exit code out.

Does no work itself; imports what a command needs only when it runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway import __version__
from gateway.errors import CannotStart, InvalidSetting
from gateway.settings import ServerSettings, load_settings

OK, NO, USAGE, NOT_STARTED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns: 0 done, 1 the answer is no, 2 wrong usage, 3 could not start.
    """
    parsed = _parser().parse_args(arguments)
    try:
        return _serve(parsed)
    except InvalidSetting as exc:
        print(f"gateway: {exc}", file=sys.stderr)
        return USAGE
    except CannotStart as exc:
        print(f"gateway: {exc}", file=sys.stderr)
        return NOT_STARTED


def _serve(parsed: argparse.Namespace) -> int:
    flags = {name: getattr(parsed, name) for name in _SERVE_FLAGS}
    settings, warnings = load_settings(flags, os.environ, config=parsed.config)
    from gateway.server import run
    from gateway.telemetry.logs import configure_logging

    configure_logging(settings.server.log_format)
    for warning in warnings:
        logging.getLogger("gateway").warning("setting_ignored", extra={"reason": warning})
    run(settings)
    return OK


_SERVE_FLAGS = ("repository", "host", "port", "admin_host", "admin_port", "log_format")


def _parser() -> argparse.ArgumentParser:
    defaults = ServerSettings()
    parser = argparse.ArgumentParser(prog="gateway", description="Serves versioned ONNX models over HTTP.")
    parser.add_argument("--version", action="version", version=f"onnx-gateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve a model repository",
        description="Serve a model repository. Flags win over GATEWAY_* variables, over gateway.toml, over defaults.",
    )
    serve.add_argument("repository", nargs="?", metavar="REPOSITORY", help=f"default: {defaults.repository}")
    serve.add_argument("--host", help=f"of the data plane, default: {defaults.host}")
    serve.add_argument("--port", type=int, help=f"of the data plane, default: {defaults.port}; 0 picks a free one")
    serve.add_argument("--admin-host", help=f"of the admin plane, default: {defaults.admin_host}")
    serve.add_argument("--admin-port", type=int, help=f"of the admin plane, default: {defaults.admin_port}")
    serve.add_argument("--config", type=Path, metavar="FILE", help="default: ./gateway.toml if there is one")
    serve.add_argument("--log-format", choices=["text", "json"], help=f"default: {defaults.log_format}")
    return parser
