"""`gateway publish`.

Writes nothing itself: publishing does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.commands.arguments import OK, Commands, settings_of, tell
from gateway.commands.progress import ProgressBar
from gateway.settings import ServerSettings


def add(commands: Commands) -> None:
    """Add the command."""
    publish = commands.add(
        "publish",
        _run,
        "put a new version of a model into the repository",
        "Validate an ONNX file as a server would, and put it into the repository as a new version.",
    )
    # The model first: --drop takes every word that follows.
    publish.usage = (
        "gateway publish MODEL FILE.onnx [--version N] [--data FILE] [--drop COLUMN ...] "
        "[--golden FILE | --golden-rows N] [--strip-zipmap] [--repository DIR]"
    )
    publish.add_argument("model", metavar="MODEL", help="its name, as clients ask for it")
    publish.add_argument("file", type=Path, metavar="FILE.onnx", help="external data is taken from beside it")
    # Not "version": the whole command has a --version of its own.
    publish.add_argument("--version", type=int, dest="number", metavar="N", help="default: the next free number")
    publish.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help=".csv, .parquet, .npz or .jsonl; names the features and makes the reference",
    )
    publish.add_argument(
        "--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="no features of --data"
    )
    publish.add_argument("--golden", type=Path, metavar="FILE", help="requests with the answers they must get")
    publish.add_argument(
        "--golden-rows",
        type=int,
        default=0,
        metavar="N",
        help="make golden.json of the first rows of --data and the answers of now; they can be read in the repository",
    )
    publish.add_argument("--strip-zipmap", action="store_true", help="make scikit-learn's probabilities a tensor")
    publish.add_argument("--repository", metavar="DIR", help=f"default: {ServerSettings().repository}")


def _run(parsed: argparse.Namespace) -> int:
    repository = settings_of({"repository": parsed.repository}).server.repository
    from gateway.monitoring.reference_summary import summarise_reference
    from gateway.publishing import publish
    from gateway.telemetry.logs import configure_logging

    configure_logging("text")
    published = publish(
        parsed.model,
        parsed.file,
        repository=repository,
        version=parsed.number,
        data=parsed.data,
        drop=parsed.drop,
        golden=parsed.golden,
        golden_rows=parsed.golden_rows,
        strip_zipmap=parsed.strip_zipmap,
        report=tell,
        progress=ProgressBar(parsed.model),
    )
    if published.reference is not None:
        tell(summarise_reference(published.reference))
    print(f"published {published.key} in {published.path}")
    return OK
