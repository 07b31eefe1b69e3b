"""Publishes a model: validated as a server would, described by a manifest, put into the repository in one rename.

Never changes a version that is there, and never talks to a server: whoever watches the repository sees the new one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from gateway.candidate import (
    GivenModel,
    Report,
    changes_since,
    check_names,
    load_as_server,
    seal,
    stage_files,
    try_rows,
)
from gateway.data_files import DataFile
from gateway.errors import CannotStart, InvalidModel, InvalidReference, PublishRefused, WrongUsage
from gateway.inference.golden_rows import encode_golden
from gateway.inference.manifest import Manifest, Scalar, parse_golden, sha256_of
from gateway.inference.model_config import ModelConfig
from gateway.inference.repository import GOLDEN_FILE, ModelFolder, Repository, is_model_name
from gateway.inference.signature import Signature
from gateway.inference.zipmap import StrippedModel
from gateway.inference.zipmap import strip_zipmap as take_zipmap_off
from gateway.messages import ModelVersion
from gateway.monitoring.reference import Reference, encode_reference
from gateway.referencing import Progress, make_reference
from gateway.staging import next_version, refuse_existing, staged_version
from gateway.yardsticks import REFERENCE_FILE

PathName = str | os.PathLike[str]

_MAX_GOLDEN_ROWS = 1000
_MAX_VERSION = 10**18 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """A version that now lies in the repository.

    Attributes:
        shares_runs, reason: Whether requests will share runs, and why.
        reference: What the data and the predictions on it look like; None without data, or where none can be made.
        changes: What differs from the newest version before it, in words.
    """

    key: ModelVersion
    path: Path
    manifest: Manifest
    signature: Signature
    shares_runs: bool
    reason: str
    reference: Reference | None
    changes: tuple[str, ...]


def publish(
    model: str,
    file: PathName | bytes,
    *,
    repository: PathName = "models",
    version: int | None = None,
    data: PathName | None = None,
    drop: Sequence[str] = (),
    golden: PathName | None = None,
    golden_rows: int = 0,
    strip_zipmap: bool = False,
    features: Mapping[str, Sequence[str]] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    source: Mapping[str, Scalar] | None = None,
    metrics: Mapping[str, float] | None = None,
    data_version: str = "",
    report: Report = lambda _: None,
    progress: Progress = lambda _done, _total: None,
) -> PublishedVersion:
    """Put a new version of a model into a repository, where servers find it by themselves.

    It is validated first as a server does before READY: signature, golden requests, self-test, warm-up. After an error,
    and when the process is killed, the repository holds the versions it held before.

    Args:
        model: Its name; a new one makes a new model.
        file: The ONNX file, or its bytes. External tensor data is taken from beside the file.
        version: Its number; the next free one when None.
        data: Rows (.csv, .parquet, .npz, .jsonl) that must fit the model and that name its features; reference.json is
            made of them, with which live traffic is compared.
        drop: Columns of the data that are no features.
        golden: A golden.json: requests with the answers that the version must give wherever it is loaded.
        golden_rows: Makes golden.json of so many first rows of the data and the answers the model gives now. These
            rows can then be read in the repository.
        strip_zipmap: Turns scikit-learn's maps of probabilities into a tensor.
        features: Input → names of its columns, where the data does not name them.
        labels: Output → names of its classes.
        source: Where the model came from: commit, run.
        metrics: How good it was found to be.
        data_version: The data's revision, for instance DVC's.
        report: Is told every step, a sentence each.
        progress: Is told how many of how many rows of the data have been run.
    Raises:
        InvalidModel: it cannot be served. LoadFailed: onnxruntime refuses it.
        InvalidData: the data cannot be read or does not fit.
        PublishRefused: the number is taken, or the model's place is no directory.
        WrongUsage: the arguments make no sense. CannotStart: something cannot be read or written.
    """
    root = Path(repository)
    _check_name(model, version)
    _check_use_of_data(has_data=data is not None, drop=drop, golden_rows=golden_rows, has_golden=golden is not None)
    content, beside = (file, None) if isinstance(file, bytes) else (_read(Path(file)), Path(file).parent)
    promised = _read(Path(golden)) if golden is not None else None
    if promised is not None:
        parse_golden(promised, where=str(golden))
    stripped = _strip(content, report) if strip_zipmap else StrippedModel(model=content)
    folder = _model_folder(root, model, version)
    expected = version or (next_version(root / model) if folder else 1)
    key = ModelVersion(model, expected)
    config = folder.config if folder else ModelConfig()
    manifest = Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        files={},
        features=_lists(features),
        labels=stripped.labels | _lists(labels),
        data={"version": data_version} if data_version else {},
        source=(_lineage_of(stripped, content) | dict(source or {})),
        metrics=dict(metrics or {}),
    )
    reference: Reference | None = None
    with staged_version(root, model) as staged:
        files, hashes = stage_files(staged, GivenModel(stripped.model, beside, promised), report)
        loaded = load_as_server(key, files, config, report)
        session = loaded.sessions[0]
        if data is not None:
            rows = DataFile(Path(data), session.signature, drop=drop)
            asked, count = try_rows(rows, session, golden_rows)
            report(f"{rows.path.name}: {count:,} rows fit the inputs")
            named = {"name": _printable(rows.path.name), "sha256": rows.sha256(), "rows": count}
            manifest = replace(manifest, features=rows.features | manifest.features, data=named | manifest.data)
            if golden_rows:
                made = encode_golden(session, asked)
                staged.write(GOLDEN_FILE, made)
                hashes[GOLDEN_FILE] = sha256_of(made)
            try:
                reference = make_reference(rows, loaded, manifest=manifest, progress=progress)
            except InvalidReference as exc:
                report(f"no reference is made, so nothing will be watched: {exc}")
            else:
                staged.write(REFERENCE_FILE, encode_reference(reference))
                report(f"reference.json: {reference.rows:,} rows and what the model says to them, {reference.hash}")
        check_names(manifest, session)
        files = seal(staged, key, replace(manifest, files=hashes))
        if golden_rows:  # servers will start from these rows
            loaded = load_as_server(key, files, config, lambda _: None)
        changes = changes_since(root, folder, key, files)
        for change in changes:
            report(f"differs from {change}")
        number = staged.put_in_place(version)
    if folder and number not in config.selects({*folder.versions, number}):
        report(f"the settings of '{model}' do not select version {number}: servers load it only when asked to")
    return PublishedVersion(
        key=ModelVersion(model, number),
        path=root / model / str(number),
        manifest=replace(manifest, files=hashes),
        signature=loaded.signature,
        shares_runs=loaded.sharing.shares_runs,
        reason=loaded.sharing.reason,
        reference=reference,
        changes=tuple(changes),
    )


def _check_name(model: str, version: int | None) -> None:
    if not is_model_name(model):
        raise WrongUsage(
            f"model '{model}': expected a name of letters, digits, '.', '_' and '-', 64 at most, "
            "that starts with a letter or digit and is not 'stats'"
        )
    if version is not None and not 1 <= version <= _MAX_VERSION:
        raise WrongUsage(f"--version {version}: expected a positive integer of at most 18 digits")


def _check_use_of_data(*, has_data: bool, drop: Sequence[str], golden_rows: int, has_golden: bool) -> None:
    if not 0 <= golden_rows <= _MAX_GOLDEN_ROWS:
        raise WrongUsage(f"--golden-rows {golden_rows}: expected 0 to {_MAX_GOLDEN_ROWS}")
    for flag, is_given in (("--drop", bool(drop)), ("--golden-rows", golden_rows > 0)):
        if is_given and not has_data:
            raise WrongUsage(f"{flag}: has no effect without --data")
    if golden_rows and has_golden:
        raise WrongUsage("--golden-rows: has no effect beside --golden")


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise WrongUsage(f"{path}: no such file")
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CannotStart(f"{path}: cannot be read: {exc.strerror}") from exc


def _strip(model: bytes, report: Report) -> StrippedModel:
    stripped = take_zipmap_off(model)
    if not stripped.tensors:
        report("the model has no ZipMap to strip")
    for name in stripped.tensors:
        report(f"output '{name}' is a tensor now, without its ZipMap")
    for old, new in stripped.renamed.items():
        report(f"output '{new}' was called '{old}'")
    for name in stripped.freed:
        report(f"output '{name}' has the rows of the input now, the file said 1 for any")
    return stripped


def _lineage_of(stripped: StrippedModel, given: bytes) -> dict[str, Scalar]:
    """Remember the file that was given where another is published."""
    return {"zipmap_stripped_from": sha256_of(given)} if stripped.tensors else {}


def _model_folder(root: Path, model: str, version: int | None) -> ModelFolder | None:
    """Return the model as servers see it, None when it is new.

    Raises:
        PublishRefused: the version exists, or something else has the model's place.
        InvalidModel: its settings are wrong, so that no version of it could be served.
    """
    place = root / model
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise PublishRefused(f"{place}: expected a directory; servers follow no links")
    if version is not None:
        refuse_existing(root, model, version)
    folder = Repository(root).scan_model(model) if root.is_dir() else None
    if folder is not None and folder.fault:
        raise InvalidModel(f"no version of '{model}' can be served: {folder.fault}")
    return folder


def _lists(names: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    return {tensor: list(given) for tensor, given in (names or {}).items()}


def _printable(name: str) -> str:
    """Return a file's name as text, whatever bytes it is made of."""
    return name.encode(errors="replace").decode()
