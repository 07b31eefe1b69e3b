"""`gateway models`: a table of what a running gateway serves."""

from __future__ import annotations

import argparse
import json

from gateway.commands.arguments import OK, Commands, add_admin_flags, admin_client
from gateway.tables import byte_size, text_table


def add(commands: Commands) -> None:
    """Add the command."""
    add_admin_flags(commands.add("models", _run, "show what a running gateway serves"))


def _run(parsed: argparse.Namespace) -> int:
    document = admin_client(parsed).get("/admin/v1/models")
    if parsed.json:
        print(json.dumps(document, indent=2))
        return OK
    rows = []
    for model in document["models"]:
        for version in model["versions"]:
            batching, memory = version.get("batching"), version.get("memory")
            rows.append(
                [
                    model["name"],
                    str(version["version"]),
                    version["state"],
                    ", ".join(version.get("providers", [])),
                    "" if batching is None else "shared" if batching["shares_runs"] else "one by one",
                    "" if memory is None else byte_size(memory["file_bytes"]),
                    version.get("sha256", "").removeprefix("sha256:")[:12],
                    version["reason"],
                ]
            )
    print(text_table(["MODEL", "VERSION", "STATE", "PROVIDERS", "RUNS", "FILE", "SHA256", "REASON"], rows))
    return OK
