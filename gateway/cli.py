"""The command `gateway`: flags in, exit code out.

Does no work itself; a command imports what it needs only when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from gateway import __version__
from gateway.commands import check, drift, models, publish, reference, replicas, routes, serve, token
from gateway.commands.arguments import NO, NOT_STARTED, USAGE, Command, Commands, Parser, tell
from gateway.errors import CannotStart, GatewayError, InvalidSetting, WrongUsage


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
    except GatewayError as exc:
        return _fail(exc, NO)
    except KeyboardInterrupt:
        return _fail("interrupted", NO)


def _fail(error: GatewayError | str, code: int) -> int:
    tell(f"gateway: {error}")
    return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="gateway", description="Serves versioned ONNX models over HTTP.")
    parser.add_argument("--version", action="version", version=f"onnx-gateway {__version__}")
    commands = Commands(parser, "command")
    for noun in (serve, publish, reference, check, routes, models, drift, replicas, token):
        noun.add(commands)
    parsed, extras = parser.parse_known_args(arguments)
    if extras:
        chosen: Parser = parsed.parser
        chosen.refuse_unknown(extras)
    return parsed
