"""Print the part of a lock that some packages need: `python deploy/lock_part.py LOCK PACKAGE...`.

Decides no version and fetches nothing: the lock says beside each pin who needs it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==")
_VIA = re.compile(r"^ +#(?: via)? +([a-z0-9][a-z0-9._-]*)(?: .*)?$")


def lock_part(lock: str, wanted: Sequence[str]) -> str:
    """Return the pins of `wanted` and of everything they need, as they stand in the lock.

    Raises: ValueError: a wanted package is not in the lock.
    """
    pins: dict[str, list[str]] = {}
    needed_by: dict[str, set[str]] = {}
    name = ""
    for line in lock.splitlines():
        if match := _PIN.match(line):
            name = match[1]
            pins.setdefault(name, [])  # a package may have a pin for each Python
            needed_by.setdefault(name, set())
        elif match := _VIA.match(line):
            needed_by[name].add(match[1])
        if name:
            pins[name].append(line)
    absent = [package for package in wanted if package not in pins]
    if absent:
        raise ValueError(f"not in the lock: {', '.join(absent)}")
    chosen = set(wanted)
    while more := {package for package, parents in needed_by.items() if parents & chosen} - chosen:
        chosen |= more
    return "\n".join(line for package, lines in pins.items() if package in chosen for line in lines) + "\n"


if __name__ == "__main__":
    try:
        print(lock_part(Path(sys.argv[1]).read_text(), sys.argv[2:]), end="")  # noqa: T201 - its job is to print
    except (IndexError, OSError, ValueError) as exc:
        sys.exit(f"lock_part: {exc}")
