"""Tell the whole story on real processes: `python -m loadtests.story`, or `make story`.

Needs redis-server and prometheus beside the packages; takes about two minutes and leaves a report.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gateway import __version__
from loadtests.processes import ROOT, LoadTestFailure
from loadtests.story.phases import Story
from loadtests.story.report import page
from loadtests.story.stage import MODEL, stage
from loadtests.story.telling import tell

PASSED, FAILED, NOT_STARTED = 0, 1, 3
NEEDED = ("redis-server", "prometheus")
_LONGEST_S = 600


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell it.

    Returns: 0 every phase passed, 1 one failed, 3 something could not be started.
    """
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.story", description="Tell the whole story on real processes.", allow_abbrev=False
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "story", help="the report's folder (build/story)"
    )
    parser.add_argument("--users", type=int, default=12, help="locust's users, each 10 requests per second (12)")
    parsed = parser.parse_args(arguments)
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        print(f"story: needs {' and '.join(absent)}; Debian's packages have them", file=sys.stderr)
        return NOT_STARTED
    traffic = ["--models", MODEL, "--duration-s", str(_LONGEST_S), "--peak-users", str(parsed.users)]
    traffic += ["--max-failure-ratio", "0", "--max-p99-ms", "10000"]
    output: Path = parsed.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="story-") as name, stage(Path(name), traffic_options=traffic) as ready:
            told = tell(Story(ready).chapters(), say=lambda line: print(line, flush=True))
            keep_logs(Path(name), output / "logs")
    except LoadTestFailure as exc:
        print(f"story: {exc}", file=sys.stderr)
        return NOT_STARTED
    about = (
        f"onnx-gateway {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {parsed.users} users, "
        f"{os.cpu_count()} processors with a load of {os.getloadavg()[1]:.0f}"
    )
    report = output / "index.html"
    report.write_text(page(told, title="From a split to an abort", about=about))
    print(f"report: {report}")
    return PASSED if all(one.verdict == "passed" for one in told) else FAILED


def keep_logs(folder: Path, kept: Path) -> None:
    """Copy what every process wrote beside the report."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in folder.rglob("*.log"):
        shutil.copy2(log, kept)


if __name__ == "__main__":
    sys.exit(main())
