"""Run all that one machine can show without containers: `python -m loadtests.demo`, or `make demo`.

Two replicas, Redis, Prometheus, and traffic that drifts after a while; ends at Ctrl-C or when its time is over.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from loadtests.processes import ROOT, Child, LoadTestFailure, RunningGateway, gateway, locust, prometheus, redis_server
from loadtests.story.stage import prometheus_settings

DONE, NOT_STARTED = 0, 3
MODEL = "breast_cancer"
DRIFT = f"shift:{MODEL}/worst_texture:1.5"
SCRAPE_S = 5

SETTINGS = """\
[server]
drain_delay_s = 0

[monitoring]
bucket_s = 10
window_buckets = 3
min_rows = 100

[routes.breast_cancer]
reason = "the demo's split"
variants = [
  {name = "stable", model = "breast_cancer", version = 2, weight = 90},
  {name = "challenger", model = "breast_cancer", version = 1, weight = 10},
]
shadows = [{name = "mirror", model = "breast_cancer", version = 1, sample = 50, tolerance = 0.1}]
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns: 0 when it ended, by itself or by Ctrl-C; 3 when something could not be started.
    """
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.demo", description="Two replicas, Redis, Prometheus and traffic.", allow_abbrev=False
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="how long it runs (15)")
    parser.add_argument("--drift-after-s", type=float, default=120.0, help="when a feature begins to drift (120)")
    parser.add_argument("--users", type=int, default=8, help="users, each 10 requests per second (8)")
    parser.add_argument("--port", type=int, default=8000, help="of predictions (8000; 0 picks a free one)")
    parser.add_argument("--admin-port", type=int, default=8002, help="of the first replica (8002; 0 picks free ones)")
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        try:
            with on_show(Path(name), parsed) as load:
                load.wait(parsed.minutes * 60 + 60)
            if load.exit_code:
                print(f"demo: the traffic ended early: {load.last_lines()}", file=sys.stderr)
        except LoadTestFailure as exc:
            print(f"demo: {exc}", file=sys.stderr)
            return NOT_STARTED
        except KeyboardInterrupt:
            print("\nstopped")
    return DONE


@contextlib.contextmanager
def on_show(folder: Path, parsed: argparse.Namespace) -> Iterator[Child]:
    """Start everything, print where it is, and stop everything at the end; the traffic.

    Raises: LoadTestFailure: something does not start.
    """
    repository = folder / "models"
    shutil.copytree(ROOT / "models", repository, ignore=shutil.ignore_patterns("build.py", "README.md", ".gateway"))
    with ExitStack() as running:
        flags = [
            "--port",
            str(parsed.port),
            "--admin-port",
            str(parsed.admin_port),
            "--state-dir",
            str(folder / "state"),
        ]
        replicas = 1
        if shutil.which("redis-server"):
            flags += ["--redis", running.enter_context(redis_server(folder / "redis"))]
            replicas = 2
        else:
            print("redis-server is not installed: one replica by itself (Debian: apt-get install redis-server)")
        served = running.enter_context(
            gateway(repository, folder=folder, config=SETTINGS, arguments=flags, replicas=replicas)
        )
        watched = ""
        if shutil.which("prometheus"):
            settings = prometheus_settings(served.admin_urls, SCRAPE_S)
            watched = running.enter_context(prometheus(settings, folder=folder / "prometheus"))
        else:
            print("prometheus is not installed: metrics are on the admin planes only (apt-get install prometheus)")
        options = ["--peak-users", str(parsed.users), "--duration-s", f"{parsed.minutes * 60:g}"]
        options += ["--drift", f"{DRIFT}@{parsed.drift_after_s:g}"]
        options += ["--max-failure-ratio", "1", "--max-p99-ms", "60000", "--min-rps", "0"]  # nothing to pass here
        load = running.enter_context(locust(served.data_url, options, folder=folder))
        print("\n".join(addresses(served, watched, parsed)), flush=True)
        yield load


def addresses(served: RunningGateway, watched: str, parsed: argparse.Namespace) -> list[str]:
    """List where everything is, and what will happen."""
    lines = [f"predictions  {served.data_url}/v2"]
    for number, url in enumerate(served.admin_urls, start=1):
        lines.append(f"replica {number}    {url}/console   {url}/metrics")
    if watched:
        lines.append(f"Prometheus   {watched}/alerts   {watched}/graph?g0.expr=gateway_drift_state&g0.tab=1")
    command = Path(sys.executable).with_name("gateway")
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    return [
        *lines,
        "",
        f"{parsed.users * 10} requests a second over every example model, a tenth of {MODEL} goes to its challenger.",
        f"After {parsed.drift_after_s:g} s worst_texture shifts by 1.5 standard deviations. Windows are 30 s long, so",
        "the alarm is there a minute or two later. Look at it, then take the challenger's traffic away:",
        f"  {shown} drift {MODEL}:2 --admin {served.admin_urls[0]}",
        f"  {shown} routes abort {MODEL} --admin {served.admin_urls[0]}",
        f"It ends by itself after {parsed.minutes:g} minutes, or at Ctrl-C.",
    ]


if __name__ == "__main__":
    sys.exit(main())
