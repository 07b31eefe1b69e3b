"""Owns a peer's virtual environment: `.bench/<peer>-<version>/`, made once from a file of pinned releases.

Never changes an environment that is complete, and never touches the project's own.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.process import BenchFailure, run_pinned

_STAMP = "complete"
_MAKE_WITHIN_S = 120.0
_INSTALL_WITHIN_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Where one peer is installed, and what."""

    peer: str
    requirements: Path = Path(__file__).parent
    """Folder of `<peer>.txt`."""
    cache: Path = Path(__file__).resolve().parents[3] / ".bench"

    def pins(self) -> dict[str, str]:
        """Return the releases that `<peer>.txt` names, in its order: the server itself is first.

        Raises: ValueError: a line is not `name==version`, or there is none.
        """
        found = {}
        for line in self._file().read_text(encoding="utf-8").splitlines():
            requirement = line.partition("#")[0].strip()
            if requirement:
                name, _, version = requirement.partition("==")
                if not name or not version:
                    raise ValueError(f"{self.peer}.txt: expected name==version, got {requirement!r}")
                found[name] = version
        if not found:
            raise ValueError(f"{self.peer}.txt: expected name==version, got no line")
        return found

    @property
    def path(self) -> Path:
        """Where it is, or will be: the name tells the release of the server."""
        return self.cache / f"{self.peer}-{next(iter(self.pins().values()))}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    def is_complete(self) -> bool:
        """Say whether it holds exactly what `<peer>.txt` names, for this Python, at this place."""
        try:
            return (self.path / _STAMP).read_text(encoding="utf-8") == self._fingerprint()
        except OSError:
            return False

    def make(self, say: Callable[[str], None]) -> None:
        """Make it unless it is complete; what an earlier attempt left is removed first.

        Raises: BenchFailure: pip could not install a release, or took longer than ten minutes.
        """
        if self.is_complete():
            return
        say(f"installing {self.peer} into {self.cache.name}/{self.path.name} (once)")
        cores = sorted(os.sched_getaffinity(0))
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        try:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            # All that lies here is made; none of it is the project's.
            (self.cache / ".gitignore").write_text("*\n", encoding="utf-8")
            run_pinned([sys.executable, "-m", "venv", str(self.path)], cores, within_s=_MAKE_WITHIN_S)
            run_pinned([*pip, "--requirement", str(self._file())], cores, within_s=_INSTALL_WITHIN_S)
            (self.path / _STAMP).write_text(self._fingerprint(), encoding="utf-8")
        except (BenchFailure, OSError) as exc:
            raise BenchFailure(f"{self.peer}: its environment could not be made: {exc}") from exc

    def _file(self) -> Path:
        return self.requirements / f"{self.peer}.txt"

    def _fingerprint(self) -> str:
        # The place too: an environment's commands name it by its full path, so one that was moved is broken.
        return f"{hashlib.sha256(self._file().read_bytes()).hexdigest()} {sys.version.split()[0]} {self.path}\n"
