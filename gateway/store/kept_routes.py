"""What a state file holds of the routes: one form for every store, so that a gateway may change from one to another.

Never decides which of it is obeyed; the store that reads it does.
"""

from __future__ import annotations

import msgspec

from gateway.store.records import AuditRecord, RouteRecord, Unreadable
from gateway.store.state_file import StateFile


class KeptRoutes(msgspec.Struct, frozen=True):
    """Routes by name, deleted ones included; replaced whole, so that a failed save leaves the old ones standing.

    Attributes:
        history: Revisions by route, newest first; a store that keeps them elsewhere leaves them out.
        audit: Newest first; likewise.
    """

    records: dict[str, RouteRecord]
    history: dict[str, list[RouteRecord]] = {}
    audit: list[AuditRecord] = []

    @classmethod
    def load(cls, file: StateFile) -> KeptRoutes:
        """Read a file back; without one there are no routes.

        Raises:
            CannotStart: the file is damaged or holds something else.
        """
        body = file.load()
        if body is None:
            return cls({})
        try:
            kept = msgspec.json.decode(body, type=cls)
        except msgspec.DecodeError as exc:
            raise file.refused(f"cannot be read ({exc})") from exc
        for record in kept.records.values():
            if isinstance(checked := record.checked(), Unreadable):
                raise file.refused(f"route '{record.name}': {checked.reason}")
        return kept

    def save(self, file: StateFile) -> None:
        """Replace the file. Blocks.

        Raises:
            StoreUnavailable: as `StateFile.save`.
        """
        file.save(msgspec.json.encode(self))
