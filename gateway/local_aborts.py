"""Aborts that work on this replica alone until the store takes them, kept over a restart.

Never decides what an abort does to a route (`routes_in_force.py`), and never hands one in (`route_upkeep.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.errors import StoreUnavailable
from gateway.store.state_file import StateFile

log = logging.getLogger(__name__)


FRESH_S = 600.0
"""For how long an abort that a restart has interrupted still wins over whatever others decided meanwhile."""


class LocalAbort(msgspec.Struct, frozen=True, kw_only=True):
    """Who aborted a route, and why, while the store could not take it.

    Attributes:
        at: When, in seconds since 1970.
        base: Entity tag of the revision that was in force here.
        yields: Whether the route is left alone if it is another by now: the replica was away for long, and a rollout
            that goes on elsewhere is not what was aborted.
    """

    actor: str
    reason: str
    request_id: str
    removes_shadows: bool
    at: float
    base: str
    yields: bool = False


class KeptAborts:
    """The file of one replica's aborts.

    Args:
        path: None keeps nothing: a restart while the store is away then forgets the abort.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else StateFile(path)
        self._saved: dict[str, LocalAbort] = {}
        self._saving = asyncio.Lock()

    async def load(self, *, now: float) -> dict[str, LocalAbort]:
        """Read back what was kept; what is no longer fresh yields.

        Args:
            now: Seconds since 1970.
        Raises:
            CannotStart: the file is damaged.
        """
        body = None if self._file is None else await asyncio.to_thread(self._file.load)
        if self._file is None or body is None:
            return {}
        try:
            self._saved = msgspec.json.decode(body, type=dict[str, LocalAbort])
        except msgspec.DecodeError as exc:
            raise self._file.refused(f"cannot be read ({exc})") from exc
        return {
            name: msgspec.structs.replace(abort, yields=abort.yields or now - abort.at > FRESH_S)
            for name, abort in self._saved.items()
        }

    async def save(self, aborts: Mapping[str, LocalAbort]) -> None:
        """Keep these; a disk that refuses is only told of, since the abort itself works."""
        async with self._saving:
            wanted = dict(aborts)
            if self._file is None or wanted == self._saved:
                return
            try:
                await asyncio.to_thread(self._file.save, msgspec.json.encode(wanted))
            except StoreUnavailable as exc:
                log.warning("local_aborts_not_kept", extra={"reason": str(exc)})
            else:
                self._saved = wanted
