"""The command `gateway`: flags in, exit code out.

Does no work itself; imports what a command needs only when it runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Never

from gateway import __version__
from gateway.errors import CannotStart, GatewayError, InvalidSetting, WrongUsage, unknown_name
from gateway.settings import ServerSettings, load_settings

Command = Callable[[argparse.Namespace], int]

OK, NO, USAGE, NOT_STARTED = 0, 1, 2, 3

_SERVE_FLAGS = ("repository", "host", "port", "admin_host", "admin_port", "log_format")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns: 0 done, 1 the answer is no, 2 wrong usage, 3 could not start.
    """
    parsed = _parse(arguments)
    run: Command = parsed.run
    try:
        return run(parsed)
    except WrongUsage as exc:
        return _fail(exc, USAGE)
    except (InvalidSetting, CannotStart) as exc:
        return _fail(exc, NOT_STARTED)


def _fail(error: GatewayError, code: int) -> int:
    print(f"gateway: {error}", file=sys.stderr)
    return code


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


class _Parser(argparse.ArgumentParser):
    """Takes no abbreviated flags, so that a new flag never changes what an old script means."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> Never:
        """Say in one line what is wrong with the arguments."""
        self.exit(USAGE, f"{self.prog}: {message} ('{self.prog} --help' shows the flags)\n")

    def refuse_unknown(self, extras: Sequence[str]) -> Never:
        """Name the first argument nobody knows and the nearest known flag."""
        name = extras[0].partition("=")[0]
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        self.error(unknown_name("arguments", name, known) if name.startswith("-") else f"unexpected argument '{name}'")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser, commands = _parser()
    parsed, extras = parser.parse_known_args(arguments)
    if extras:
        commands[parsed.command].refuse_unknown(extras)
    return parsed


def _parser() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="gateway", description="Serves versioned ONNX models over HTTP.")
    parser.add_argument("--version", action="version", version=f"onnx-gateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Command, summary: str, description: str) -> _Parser:
        added: _Parser = commands.add_parser(name, help=summary, prog=f"gateway {name}", description=description)
        added.set_defaults(run=run)
        return added

    known = {
        "serve": _add_serve_flags(
            command(
                "serve",
                _serve,
                "serve a model repository",
                "Serve a model repository. Flags win over GATEWAY_* variables, over gateway.toml, over defaults.",
            )
        ),
    }
    return parser, known


def _add_serve_flags(serve: _Parser) -> _Parser:
    defaults = ServerSettings()
    serve.add_argument("repository", nargs="?", metavar="REPOSITORY", help=f"default: {defaults.repository}")
    serve.add_argument("--host", help=f"of the data plane, default: {defaults.host}")
    serve.add_argument("--port", type=int, help=f"of the data plane, default: {defaults.port}; 0 picks a free one")
    serve.add_argument("--admin-host", help=f"of the admin plane, default: {defaults.admin_host}")
    serve.add_argument("--admin-port", type=int, help=f"of the admin plane, default: {defaults.admin_port}")
    serve.add_argument("--config", type=Path, metavar="FILE", help="default: ./gateway.toml if there is one")
    serve.add_argument("--log-format", choices=["text", "json"], help=f"default: {defaults.log_format}")
    return serve
