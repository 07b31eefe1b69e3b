"""One file that survives a crash whole: a checksum and a body, replaced in one rename.

Never interprets the body, and never passes over a damaged file in silence.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from gateway.errors import CannotStart, StoreUnavailable

_MAGIC = b"gateway-state 1 sha256="


class StateFile:
    """A file that one process writes; a second process needs a path of its own.

    Args:
        path: The file; its directory is made, readable by the owner only, when there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        """Read the body back, None when there is no file yet.

        Raises:
            CannotStart: the file is damaged, or of a format this release does not read, or cannot be read.
        """
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise CannotStart(f"{self._path}: cannot be read ({exc.strerror}); check its permissions") from exc
        header, separator, body = raw.partition(b"\n")
        if not header.startswith(_MAGIC) or not separator:
            raise self.refused("does not begin like a state file of this release")
        if hashlib.sha256(body).hexdigest().encode() != header.removeprefix(_MAGIC):
            raise self.refused("does not match its checksum")
        return body

    def save(self, body: bytes) -> None:
        """Replace the body: written beside the file, forced to disk, then renamed over it. Blocks.

        Raises:
            StoreUnavailable: the disk refused; "unknown" when only the rename may not have reached it.
        """
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as exc:
            raise StoreUnavailable(f"{self._path}: not written ({exc.strerror})", outcome="not_written") from exc
        try:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as exc:
            raise StoreUnavailable(f"{self._path}: rename not confirmed ({exc.strerror})", outcome="unknown") from exc

    def refused(self, fault: str) -> CannotStart:
        """Word the refusal of a file whose content cannot be used."""
        return CannotStart(
            f"{self._path}: {fault}; the routes it held are not dropped silently: "
            f"restore the file from a backup, or move it away to start without them"
        )
