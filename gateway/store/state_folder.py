"""The directory in which replicas of one machine keep their state, each in a file of its own.

Never reads or writes that state; it hands out a path that nobody else uses while this process lives.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gateway.errors import CannotStart

_PLACES = 1000


class StateFolder:
    """One directory; the first free place in it is claimed.

    A replica that is started again finds what it left as long as no other took its place meanwhile, and one that takes
    over another's place begins with what that one knew: all of them follow the same store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._locks: list[int] = []

    def claim(self) -> Path:
        """Find a file that no other process uses, and keep it until `release` or the end of the process.

        Raises:
            CannotStart: the directory cannot be made or written.
        """
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(1, _PLACES):
                name = "routes" if number == 1 else f"routes-{number}"
                if self._lock(self._path / f"{name}.lock"):
                    return self._path / f"{name}.state"
        except OSError as exc:
            raise CannotStart(
                f"state directory {self._path}: cannot be written ({exc.strerror}); "
                "choose another with --state-dir DIR, or keep no state with --state-dir none"
            ) from exc
        raise CannotStart(f"state directory {self._path}: {_PLACES} gateways use it already")

    def release(self) -> None:
        """Let others have the place."""
        while self._locks:
            os.close(self._locks.pop())

    def _lock(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._locks.append(descriptor)
        return True
