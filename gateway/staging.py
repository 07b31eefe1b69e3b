"""A version's directory while it is written: hidden from servers, locked, put into place by one rename.

Never looks at what is written there. A publisher that is killed leaves the hidden directory and nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import CannotStart, PublishRefused

_PREFIX = ".publishing-"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Leftover:
    """A hidden directory of a publisher.

    Attributes:
        is_live: Whether its publisher still runs.
    """

    path: Path
    is_live: bool


class StagedVersion:
    """The directory of a version that is not in the repository yet."""

    def __init__(self, repository: Path, model: str, hidden: Path) -> None:
        self._repository = repository
        self._model = model
        self.root = hidden
        """A repository of its own, which holds this version only."""
        self.path = hidden / model / "1"
        """Where the files go."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it survives a crash of the machine.

        Args:
            name: Path inside the version directory.
        """
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def put_in_place(self, version: int | None) -> int:
        """Rename the directory to its place under the next free number.

        Two publishers never get one number: the rename fails where a version is, and the loser takes the next.

        Args:
            version: The only acceptable number; None takes the next.
        Returns: The number.
        Raises: PublishRefused: that version exists.
        """
        for folder, _, _ in os.walk(self.path):
            _sync(Path(folder))
        target = self._repository / self._model
        created = not target.exists()
        target.mkdir(exist_ok=True)
        while True:
            number = next_version(target) if version is None else version
            if version is not None:
                refuse_existing(self._repository, self._model, version)
            try:
                self.path.rename(target / str(number))
            except OSError as exc:
                if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                break
        _sync(target)
        if created:
            _sync(self._repository)
        return number


@contextmanager
def staged_version(repository: Path, model: str) -> Iterator[StagedVersion]:
    """Open a hidden directory in the repository, and remove what is left of it at the end.

    A repository that does not exist is made, if only its last directory is missing.
    Raises: CannotStart: nothing can be written there.
    """
    hidden: Path | None = None
    is_new = not repository.exists()
    try:
        repository.mkdir(exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{model}-", dir=repository))
        with (hidden / _LOCK).open("wb") as lock:
            _lock(lock.fileno())
            staged = StagedVersion(repository, model, hidden)
            staged.path.mkdir(parents=True)
            yield staged
    except OSError as exc:
        where = exc.filename or repository
        raise CannotStart(f"{where}: cannot be written: {exc.strerror}; publish where you may write") from exc
    finally:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # not empty: something was published
                repository.rmdir()


def find_leftovers(repository: Path) -> list[Leftover]:
    """List the hidden directories of publishers, running ones and killed ones."""
    return [Leftover(path, is_live=_is_locked(path / _LOCK)) for path in sorted(repository.glob(f"{_PREFIX}*"))]


def next_version(model: Path) -> int:
    """Return the number after the highest that stands in a model's directory, whatever it stands on."""
    names = [path.name for path in model.iterdir()]
    return max((int(name) for name in names if name.isascii() and name.isdigit() and len(name) <= 18), default=0) + 1


def refuse_existing(repository: Path, model: str, version: int) -> None:
    """Keep a version as it was published.

    Raises: PublishRefused: something of that number exists.
    """
    target = repository / model / str(version)
    if os.path.lexists(target):
        raise PublishRefused(
            f"{model}:{version}: {target} exists, and versions never change; leave out --version for the next number"
        )


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as exc:  # a file system without locks: a running publisher then looks like a killed one
        if exc.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
