"""Run a short load test against a gateway of its own: `python -m loadtests`, or `make loadtest`.

Starts and stops the server; what it asks of a run is in locustfile.py, and further options go there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests.processes import ROOT, LoadTestFailure, gateway, locust

NOT_STARTED = 3
_QUICK_STOP = "[server]\ndrain_delay_s = 0\n"
_BEYOND_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns: locust's exit code: 0 passed, 1 a threshold was broken, 2 wrong options; 3 where nothing could start.
    """
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description="Load one gateway with the example models; unknown options are those of loadtests/locustfile.py.",
        allow_abbrev=False,
    )
    parser.add_argument("--repository", type=Path, default=ROOT / "models", help="the models to serve (models/)")
    parser.add_argument("--duration-s", type=float, default=30.0, help="length of the run (30)")
    parser.add_argument("--html", type=Path, default=ROOT / "build" / "loadtest.html", help="where the report goes")
    parsed, others = parser.parse_known_args(arguments)
    report = parsed.html.resolve()
    options = ["--duration-s", f"{parsed.duration_s:g}", "--html", str(report), *others]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="loadtest-") as name,
            gateway(parsed.repository.resolve(), folder=Path(name), config=_QUICK_STOP) as server,
        ):
            print(f"{parsed.duration_s:g} s of load on {server.data_url}", flush=True)
            with locust(server.data_url, options, folder=Path(name)) as load:
                code = load.wait(parsed.duration_s + _BEYOND_S)
            print(load.written())
            if server.child.exit_code is not None:
                raise LoadTestFailure(f"the gateway ended: {server.child.last_lines()}")
    except LoadTestFailure as exc:
        print(f"loadtests: {exc}", file=sys.stderr)
        return NOT_STARTED
    if report.is_file():
        print(f"report: {report}")
    return code


if __name__ == "__main__":
    sys.exit(main())
