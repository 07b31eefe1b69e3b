"""`gateway reference`: what a version's features and predictions look like, written beside its model.

Makes nothing itself: referencing does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.commands.arguments import OK, Commands, settings_of, tell
from gateway.commands.progress import ProgressBar
from gateway.settings import ServerSettings


def add(commands: Commands) -> None:
    """Add the command."""
    reference = commands.add(
        "reference",
        _run,
        "make a version's reference of a data file",
        "Run a data file's rows through a version's model and write its reference.json: what live traffic is compared "
        "with. A running gateway takes it within a second.",
    )
    reference.usage = "gateway reference MODEL VERSION --data FILE [--drop COLUMN ...] [--repository DIR]"
    reference.add_argument("model", metavar="MODEL", help="its name")
    # Not "version": the whole command has a --version of its own.
    reference.add_argument("number", type=int, metavar="VERSION", help="its number")
    reference.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help=".csv, .parquet, .npz or .jsonl; names the features"
    )
    reference.add_argument(
        "--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="no features of --data"
    )
    reference.add_argument("--repository", metavar="DIR", help=f"default: {ServerSettings().repository}")


def _run(parsed: argparse.Namespace) -> int:
    repository = settings_of({"repository": parsed.repository}).server.repository
    from gateway.monitoring.reference_summary import summarise_reference
    from gateway.referencing import write_reference
    from gateway.telemetry.logs import configure_logging

    configure_logging("text")
    written = write_reference(
        parsed.model,
        parsed.number,
        parsed.data,
        repository=Path(repository),
        drop=parsed.drop,
        report=tell,
        progress=ProgressBar(f"{parsed.model}:{parsed.number}"),
    )
    print(summarise_reference(written.reference))
    tell(f"wrote {written.path}")
    return OK
