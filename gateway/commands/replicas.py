"""`gateway replicas`: a table of which replica serves which revision, or why it cannot."""

from __future__ import annotations

import argparse
import json

from gateway.commands.arguments import OK, Commands, add_admin_flags, admin_client
from gateway.commands.route_tables import replicas_table


def add(commands: Commands) -> None:
    """Add the command."""
    add_admin_flags(commands.add("replicas", _run, "show which replica serves which revision"))


def _run(parsed: argparse.Namespace) -> int:
    document = admin_client(parsed).get("/admin/v1/replicas")
    print(json.dumps(document, indent=2) if parsed.json else replicas_table(document["replicas"]))
    return OK
