"""Owns the command line of the calibration run: `python -m loadtests.calibration`.

Never measures by itself; it runs the parts and writes latest.json, docs/monitoring-calibration.md and its plots.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import scipy

from loadtests.calibration.model_days import correlated_days, independent_days
from loadtests.calibration.null_rates import null_rates
from loadtests.calibration.plot import draw
from loadtests.calibration.power import power
from loadtests.calibration.report import render
from loadtests.calibration.results import Calibration, joined

ROOT = Path(__file__).parents[2]
SEEDS = (1, 2, 3)


def main(arguments: list[str] | None = None) -> int:
    """Run the calibration, or render an earlier one; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.calibration", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fortieth of the work, written to --output")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=SEEDS, metavar="N", help="a part of the work, written to --output"
    )
    parser.add_argument(
        "--render",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="write page and plots of an earlier latest.json, or of the parts of one",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write instead of docs/ and results/")
    options = parser.parse_args(arguments)
    seeds = tuple(options.seeds)
    if (options.quick or seeds != SEEDS) and options.output is None:
        parser.error("--quick and --seeds need --output: the committed page is of a whole run")
    if options.render:
        found = joined([msgspec.json.decode(file.read_bytes(), type=Calibration) for file in options.render])
    else:
        found = _measure(quick=options.quick, seeds=SEEDS[:1] if options.quick else seeds)
    docs = options.output or ROOT / "docs"
    results = options.output or Path(__file__).parent / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    draw(found, docs / "images")
    (docs / "monitoring-calibration.md").write_text(render(found))
    _say(f"{found.took_s:.0f} s; wrote {results / 'latest.json'} and {docs / 'monitoring-calibration.md'}")
    return 0


def _measure(*, quick: bool, seeds: Sequence[int]) -> Calibration:
    started = time.monotonic()
    references, windows, days, correlated, runs = (5, 500, 1, 1, 1) if quick else (100, 1_000, 20, 10, 20)
    rates = [rate for seed in seeds for rate in null_rates(seed, references=references, windows=windows, say=_say)]
    model_days = [
        entry
        for seed in seeds
        for entry in (*independent_days(seed, days=days, say=_say), *correlated_days(seed, days=correlated, say=_say))
    ]
    powers = [entry for seed in seeds for entry in power(seed, runs=runs, say=_say)]
    return Calibration(
        versions={"numpy": np.__version__, "scipy": scipy.__version__},
        took_s=round(time.monotonic() - started, 1),
        null_rates=rates,
        model_days=model_days,
        power=powers,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
