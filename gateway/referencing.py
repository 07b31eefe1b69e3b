"""Makes the reference of a version: its data's rows run through its model, summarised, written beside the model.

Never changes another file of the version and never talks to a server: whoever watches the repository sees it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.candidate import Report, load_as_server
from gateway.data_files import DataFile
from gateway.errors import (
    CannotStart,
    GatewayError,
    InferenceFailed,
    InvalidData,
    InvalidInput,
    InvalidReference,
    UnknownModel,
)
from gateway.inference.execution import Outputs, run_batch
from gateway.inference.loader import LoadedVersion
from gateway.inference.manifest import Manifest
from gateway.inference.repository import Repository
from gateway.inference.samples import Inputs
from gateway.messages import Array, ModelVersion, Tensors, TensorSpec
from gateway.monitoring.reference import MAX_FEATURES, Reference, encode_reference
from gateway.monitoring.reference_builder import build_reference
from gateway.yardsticks import REFERENCE_FILE, row_values

Progress = Callable[[int, int], None]
"""Is told how many of how many rows have been run."""

_RUN_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class _Rows:
    """A run's rows, as `run_batch` takes them."""

    inputs: Inputs
    rows: int
    outputs: tuple[str, ...] = ()

    @staticmethod
    def is_abandoned() -> bool:
        """Say no: somebody waits."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReference:
    """A reference that now lies beside its model."""

    key: ModelVersion
    path: Path
    reference: Reference


def write_reference(
    model: str,
    version: int,
    data: Path,
    *,
    repository: Path,
    drop: Sequence[str] = (),
    report: Report = lambda _: None,
    progress: Progress = lambda _done, _total: None,
) -> WrittenReference:
    """Make a version's reference.json of a data file, in place of the one it may have.

    Args:
        data: Rows (.csv, .parquet, .npz, .jsonl) as the model sees them in production.
        drop: Columns of the data that are no features.
        report: Is told every step, a sentence each.
    Raises:
        UnknownModel: the repository has no such version.
        LoadFailed: no server could serve it.
        InvalidData, InvalidReference: the data cannot be read, does not fit, or makes no reference.
        WrongUsage: no such data file. CannotStart: the reference cannot be written.
    """
    folder = Repository(repository).scan_model(model)
    if folder is None or version not in folder.versions:
        known = ", ".join(map(str, folder.versions)) if folder else ""
        there = f"it has {known}" if known else "it has no version of that model"
        raise UnknownModel(f"{repository} has no {model}:{version}; {there}")
    place = folder.versions[version]
    files = Repository(repository).read_version(place)
    loaded = load_as_server(place.key, files, folder.config, report)
    rows = DataFile(data, loaded.sessions[0].signature, drop=drop)
    reference = make_reference(rows, loaded, manifest=files.manifest, progress=progress)
    target = place.path / REFERENCE_FILE
    _replace(target, encode_reference(reference))
    return WrittenReference(key=place.key, path=target, reference=reference)


def make_reference(
    rows: DataFile,
    loaded: LoadedVersion,
    *,
    manifest: Manifest | None,
    progress: Progress = lambda _done, _total: None,
) -> Reference:
    """Run a data file's rows through a model and summarise both.

    Watched is what has the same values in every row: inputs whose size the model leaves open are not, nor BF16.

    Args:
        manifest: Names the columns; what it does not name, the data file does.
    Raises:
        InvalidData: a value does not fit, or the model fails on these rows.
        InvalidReference: the model's requests have no rows, or nothing in them can be watched.
    """
    signature = loaded.signature
    if signature.rows is None:
        raise InvalidReference(f"{loaded.key}: its inputs and outputs have no rows in common, so none can be counted")
    inputs = _joined(list(rows.blocks()))
    outputs = run_rows(loaded, inputs, where=str(rows.path), progress=progress)
    names = rows.features | (manifest.features | manifest.labels if manifest else {})
    watched_inputs = _watched(inputs, signature.inputs, open_sizes=False)
    watched_outputs = _watched(outputs, signature.outputs, open_sizes=True)
    columns = {name: _width(array) for name, array in (watched_inputs | watched_outputs).items()}
    if not columns:
        raise InvalidReference(f"{loaded.key}: no input or output has rows of a fixed size, so nothing can be watched")
    wide = sum(columns[name] for name in watched_inputs) > MAX_FEATURES
    return build_reference(
        watched_inputs,
        watched_outputs,
        # As many names as columns: those of a label's classes name no column of it.
        names={name: names[name] for name in columns if len(names.get(name, ())) == columns[name]},
        selected=loaded.config.monitoring.features if wide else None,
    )


def run_rows(loaded: LoadedVersion, inputs: Inputs, *, where: str, progress: Progress) -> Outputs:
    """Run rows as a server would: together where they do not influence each other, else one by one.

    Raises: InvalidData: the model refuses a row or fails on it.
    """
    sharing, session = loaded.sharing, loaded.sessions[0]
    step = _RUN_ROWS if sharing.shares_runs else 1
    total = len(next(iter(inputs.values())))
    parts: list[Outputs] = []
    for first in range(0, total, step):
        piece = {name: array[first : first + step] for name, array in inputs.items()}
        count = len(next(iter(piece.values())))
        limit = loaded.config.batching.max_rows if sharing.shares_runs else None
        try:
            loaded.signature.check(piece, model=str(loaded.key))
            run = run_batch(session, [_Rows(piece, count)], count, rows_per_run=limit, fixed_rows=sharing.fixed_rows)
        except (InvalidInput, InferenceFailed) as exc:
            raise InvalidData(f"{where}: the model refuses rows {first + 1} to {first + count}: {exc}") from exc
        (outcome,) = run.outcomes
        if isinstance(outcome, GatewayError):
            raise outcome
        parts.append(outcome)
        progress(first + count, total)
    return _joined(parts)


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Set blocks below each other; a tensor whose rows differ in size is left out."""
    joined: dict[str, Array] = {}
    for name in parts[0] if parts else ():
        arrays = [part[name] for part in parts]
        if len({array.shape[1:] for array in arrays}) == 1:
            joined[name] = np.concatenate(arrays)
    return joined


def _watched(tensors: Tensors, specs: Sequence[TensorSpec], *, open_sizes: bool) -> dict[str, Array]:
    """Pick the tensors whose columns mean the same in every row.

    Args:
        open_sizes: Whether a size that the model leaves open may be taken as it was found.
    """
    return {
        spec.name: tensors[spec.name]
        for spec in specs
        if spec.name in tensors
        and spec.datatype != "BF16"  # travels as its bits, which are no numbers
        and (open_sizes or row_values(spec) is not None)
        and _width(tensors[spec.name])
    }


def _width(array: Array) -> int:
    width: int = array[:1].size
    return width


def _replace(target: Path, content: bytes) -> None:
    """Write a file in one rename, so that nobody reads half of it.

    Raises: CannotStart: it cannot be written.
    """
    hidden = ""
    try:
        descriptor, hidden = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(hidden).replace(target)
    except OSError as exc:
        if hidden:
            Path(hidden).unlink(missing_ok=True)
        raise CannotStart(f"{target}: cannot be written: {exc.strerror}") from exc
