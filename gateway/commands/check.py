"""`gateway check`.

Judges nothing itself: checking does.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from gateway.commands.arguments import NO, OK, Commands, tell
from gateway.settings import ServerSettings


def add(commands: Commands) -> None:
    """Add the command."""
    check = commands.add(
        "check",
        _run,
        "validate repository, models and settings without serving",
        "Validate everything a server would read. A line for each fault; exit code 1 if there is any.",
    )
    check.add_argument("repository", nargs="?", metavar="REPOSITORY", help=f"default: {ServerSettings().repository}")
    check.add_argument("--config", type=Path, metavar="FILE", help="default: ./gateway.toml if there is one")
    check.add_argument("--json", action="store_true", help="faults and notes as one JSON document")


def _run(parsed: argparse.Namespace) -> int:
    from gateway.checking import check_repository, check_settings
    from gateway.telemetry.logs import configure_logging

    configure_logging("text")
    about_settings, repository = check_settings(parsed.repository, os.environ, parsed.config)
    result = check_repository(repository, report=tell)
    findings = [*about_settings, *result.findings]
    faults = [finding for finding in findings if finding.is_fault]
    notes = [finding for finding in findings if not finding.is_fault]
    if parsed.json:
        listed = {
            name: [{"file": finding.file, "key": finding.key, "reason": finding.reason} for finding in some]
            for name, some in (("faults", faults), ("notes", notes))
        }
        print(json.dumps(listed | {"models": result.models, "versions": result.versions}, indent=2))
    else:
        for finding in faults:
            print(finding)
        for finding in notes:
            print(f"note: {finding}")
    tell(f"checked {repository}: {result.versions} versions of {result.models} models, {len(faults)} faults")
    return NO if faults else OK
