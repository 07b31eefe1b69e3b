"""Owns what Linux says of processes and processors: CPU time, resident memory, children, cores.

Never starts, signals or changes a process.
"""

import contextlib
import os
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KIB = 1024


def stat_fields(stat: str) -> list[str]:
    """Return the fields of /proc/PID/stat from the third (state) on; the second may hold spaces and brackets."""
    return stat.rpartition(")")[2].split()


def cpu_ticks(stat: str) -> int:
    """Return utime + stime of a /proc/PID/stat line, in clock ticks (10 ms on common kernels)."""
    fields = stat_fields(stat)
    return int(fields[11]) + int(fields[12])


def parent_pid(stat: str) -> int:
    """Return the parent of a /proc/PID/stat line."""
    return int(stat_fields(stat)[1])


def started_ticks(stat: str) -> int:
    """Return when the process of a /proc/PID/stat line began, in ticks since the machine did.

    Together with its id it names a process for good: ids are given again, but not at the same time.
    """
    return int(stat_fields(stat)[19])


def memory_bytes(status: str) -> tuple[int, int]:
    """Return (VmRSS, VmHWM) of a /proc/PID/status text: resident now, and at its highest."""
    kib = {"VmRSS": 0, "VmHWM": 0}
    for line in status.splitlines():
        key, _, value = line.partition(":")
        if key in kib:
            kib[key] = int(value.split()[0])
    return kib["VmRSS"] * _KIB, kib["VmHWM"] * _KIB


def busy_ticks(stat: str) -> int:
    """Return the time all processors spent on anything but idling, from the first line of /proc/stat.

    Stolen time counts as busy: it was taken from the measurement.
    """
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split("\n", 1)[0].split()[1:9])
    return user + nice + system + irq + softirq + steal


def process_tree(root: int) -> list[int]:
    """Return `root` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = parent_pid((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended between the listing and the reading.
            children.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree


def births(pids: list[int]) -> dict[int, int]:
    """Return `started_ticks` of those of `pids` that still live."""
    found = {}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[pid] = started_ticks((_PROC / str(pid) / "stat").read_text())
    return found


def cpu_s(pids: list[int]) -> float:
    """Return the CPU seconds (user and system) that `pids` have used.

    Raises: FileNotFoundError: one of them has ended.
    """
    return sum(cpu_ticks((_PROC / str(pid) / "stat").read_text()) for pid in pids) / _TICKS_PER_S


def machine_busy_s() -> float:
    """Return the CPU seconds that all processors of this machine have worked."""
    return busy_ticks((_PROC / "stat").read_text()) / _TICKS_PER_S


def resident_bytes(pids: list[int]) -> tuple[int, int]:
    """Return (resident, highest resident) summed over `pids`; pages they share are counted once for each."""
    pairs = [memory_bytes((_PROC / str(pid) / "status").read_text()) for pid in pids]
    return sum(now for now, _ in pairs), sum(highest for _, highest in pairs)


def default_cores() -> tuple[list[int], list[int]]:
    """Return the cores that the server and the load generator are pinned to: the first and the last allowed one.

    On a machine with one core both share it.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[0]], [allowed[-1]]
