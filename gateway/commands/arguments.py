"""How the command line is read: parsers, the exit codes, and what every command shares.

Knows no command.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Never

from gateway.admin_client import AdminClient
from gateway.errors import unknown_name
from gateway.settings import ADMIN_TOKEN, ServerSettings, Settings, load_settings

Command = Callable[[argparse.Namespace], int]

OK, NO, USAGE, NOT_STARTED = 0, 1, 2, 3


class Parser(argparse.ArgumentParser):
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


class Commands:
    """The commands below one parser.

    Args:
        key: Where the parsed arguments keep which one was chosen.
    """

    def __init__(self, parser: Parser, key: str) -> None:
        self._prog = parser.prog
        self._added = parser.add_subparsers(dest=key, required=True, metavar=key.upper())

    def add(self, name: str, run: Command, summary: str, description: str = "") -> Parser:
        """Add a command.

        Args:
            summary: One phrase for the list of commands.
            description: For its own help; without one the summary as a sentence.
        """
        told = description or f"{summary[0].upper()}{summary[1:]}."
        added: Parser = self._added.add_parser(name, help=summary, prog=f"{self._prog} {name}", description=told)
        added.set_defaults(run=run, parser=added)
        return added

    def group(self, name: str, key: str, summary: str) -> Commands:
        """Add a command that only has commands below it."""
        told = f"{summary[0].upper()}{summary[1:]}."
        added: Parser = self._added.add_parser(name, help=summary, prog=f"{self._prog} {name}", description=told)
        added.set_defaults(parser=added)
        return Commands(added, key)


def tell(text: str) -> None:
    """Say a line on standard error, where it is in nobody's way."""
    print(text, file=sys.stderr, flush=True)


def settings_of(flags: dict[str, str | None]) -> Settings:
    """Load the settings as the server would, and tell what is wrong in the environment."""
    settings, warnings = load_settings(flags, os.environ)
    for warning in warnings:
        tell(f"gateway: {warning}")
    return settings


def add_admin_flags(parser: Parser) -> None:
    """Take the address of a running gateway, and whether to print its answer as it is."""
    server = ServerSettings()
    parser.add_argument("--admin", metavar="URL", help=f"default: http://{server.admin_host}:{server.admin_port}")
    parser.add_argument("--json", action="store_true", help="the whole answer as JSON")


def admin_client(parsed: argparse.Namespace) -> AdminClient:
    """Make the way to the gateway that the flags or the settings name, with the token of the environment."""
    return AdminClient(parsed.admin or _admin_url(), token=os.environ.get(ADMIN_TOKEN, "").strip())


def _admin_url() -> str:
    server = settings_of({}).server
    host = f"[{server.admin_host}]" if ":" in server.admin_host else server.admin_host
    return f"http://{host}:{server.admin_port}"
