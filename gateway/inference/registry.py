"""What is loaded: the state of every model version in memory, swapped record by record.

Never reads the disk and never loads; the control plane does both and puts the outcome here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import NotReady, UnknownModel
from gateway.inference.batcher import Batcher
from gateway.inference.loader import LoadedVersion
from gateway.messages import ModelVersion


class VersionState(StrEnum):
    """LOADING → READY → DRAINING → UNLOADED, or FAILED with a reason."""

    LOADING = "LOADING"
    READY = "READY"
    DRAINING = "DRAINING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A READY version: what it is and the way to its sessions."""

    key: ModelVersion
    loaded: LoadedVersion
    batcher: Batcher


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One model version's state, and why it is in it.

    Attributes:
        served: Present while READY, so that nobody can reach a version that is not.
    """

    key: ModelVersion
    state: VersionState
    reason: str = ""
    served: ServedVersion | None = None


class Registry:
    """Model versions by name and number."""

    def __init__(self) -> None:
        self._models: dict[str, dict[int, VersionRecord]] = {}

    def __iter__(self) -> Iterator[VersionRecord]:
        """Yield every record, models by name, versions ascending."""
        for model in sorted(self._models):
            yield from self.versions(model)

    def models(self) -> list[str]:
        """Return the names of all known models."""
        return sorted(self._models)

    def versions(self, model: str) -> list[VersionRecord]:
        """Return the records of one model, versions ascending; none for an unknown model."""
        records = self._models.get(model, {})
        return [records[version] for version in sorted(records)]

    def ready_versions(self, model: str) -> list[int]:
        """Return the numbers of a model's READY versions, ascending."""
        return [record.key.version for record in self.versions(model) if record.state is VersionState.READY]

    def record(self, key: ModelVersion) -> VersionRecord | None:
        """Return one version's record, or None when it was never seen."""
        return self._models.get(key.model, {}).get(key.version)

    def put(self, record: VersionRecord) -> None:
        """Replace a version's record."""
        self._models.setdefault(record.key.model, {})[record.key.version] = record

    def remove(self, key: ModelVersion) -> None:
        """Forget a version that is gone from memory and disk."""
        versions = self._models.get(key.model, {})
        versions.pop(key.version, None)
        if not versions:
            self._models.pop(key.model, None)

    def served(self, model: str, version: int) -> ServedVersion:
        """Return a READY version.

        Raises:
            UnknownModel: no such version, or unloaded.
            NotReady: known, but loading, draining or failed.
        """
        record = self._models.get(model, {}).get(version)
        if record is None or record.state is VersionState.UNLOADED:
            known = ", ".join(map(str, self.ready_versions(model)))
            hint = f"READY versions: {known}" if known else "no version of it is READY"
            raise UnknownModel(
                f"model '{model}' has no version {version} ({hint})"
                if self._models.get(model)
                else f"no model '{model}'"
            )
        if record.served is None:
            raise NotReady(f"{record.key}: is {record.state}{f': {record.reason}' if record.reason else ''}")
        return record.served
