"""Owns the facts a reader needs beside the figures: machine, versions, commit, date.

Never names the machine or its owner.
"""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import msgspec

_PACKAGES = ("onnxruntime", "uvicorn", "uvloop", "httptools", "starlette", "orjson", "msgspec", "numpy")
# What an earlier run has written says nothing of what is measured now.
_MADE_BY_RUNS = (":!loadtests/bench/results", ":!docs/performance.md", ":!docs/images/performance.png")
_ROOT = Path(__file__).resolve().parents[2]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what a run was made."""

    at: str
    commit: str
    processor: str
    cores: int
    memory_gib: float
    kernel: str
    threads_per_core: int
    """With 2, server and load generator may sit on one physical core, and slow each other down."""
    load_average: float
    """Processes that wanted to run in the minute before the start; more than 0.5 means somebody else was at work."""
    versions: dict[str, str]


def describe() -> Machine:
    """Read this machine's facts."""
    versions = {"Python": platform.python_version()}
    for package in _PACKAGES:
        versions[package] = importlib.metadata.version(package)
    return Machine(
        at=datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z"),
        commit=_commit(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        kernel=f"{platform.system()} {platform.release().split('-')[0]}",
        threads_per_core=_threads_per_core(),
        load_average=os.getloadavg()[0],
        versions=versions,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _threads_per_core() -> int:
    try:
        siblings = Path("/sys/devices/system/cpu/cpu0/topology/core_cpus_list").read_text()
    except OSError:
        return 1  # Not told.
    return len(siblings.replace("-", ",").split(","))


def _commit() -> str:
    """Return the short hash of the checked-out commit, marked when tracked files differ from it."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", *_MADE_BY_RUNS],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with uncommitted changes" if changes.strip() else commit
