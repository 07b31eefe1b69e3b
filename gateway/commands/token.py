"""`gateway token`: makes a token, shows it once, and says what gateway.toml has to know of it.

Keeps nothing and asks nobody.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
from typing import get_args

import msgspec

from gateway.commands.arguments import OK, Commands, tell
from gateway.errors import WrongUsage
from gateway.settings import Scope, TokenSettings

_RANDOM_BYTES = 32
SCOPES: tuple[str, ...] = get_args(Scope)


def add(commands: Commands) -> None:
    """Add the command."""
    token = commands.add(
        "token",
        _run,
        "make a token for gateway.toml",
        "Make a token: it is printed once, on the first line; gateway.toml gets its hash. To replace a token, add "
        "the new one under the same name, restart, hand it out, then remove the old one.",
    )
    token.add_argument("name", metavar="NAME", help="who holds it, as history and audit will say")
    token.add_argument(
        "--scope", action="append", choices=SCOPES, required=True, dest="scopes", help="may be given several times"
    )


def _run(parsed: argparse.Namespace) -> int:
    secret = secrets.token_urlsafe(_RANDOM_BYTES)
    settings = {
        "name": parsed.name,
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "scopes": sorted(set(parsed.scopes), key=SCOPES.index),
    }
    try:
        msgspec.convert(settings, TokenSettings)
    except msgspec.ValidationError as exc:
        raise WrongUsage(f"NAME '{parsed.name}': expected letters, digits and . _ @ -, at most 64") from exc
    print(secret)
    tell("\nThe line above is the token; it is shown this once. Into gateway.toml:\n")
    print("\n[[auth.tokens]]")
    for key, value in settings.items():
        print(f"{key} = {json.dumps(value)}")
    return OK
