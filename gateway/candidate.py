"""A version on its way into the repository: its files, whether a server could serve it, what differs from the last one.

Never decides where it goes and never leaves the hidden directory it is staged in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from gateway.data_files import DataFile
from gateway.errors import GatewayError, InferenceFailed, InvalidData, InvalidInput, InvalidModel, LoadFailed
from gateway.inference.columns import naming_faults
from gateway.inference.graph import external_files
from gateway.inference.loader import LoadedVersion, load_version
from gateway.inference.manifest import MODEL_FILE, Manifest, encode_manifest, parse_golden, sha256_of
from gateway.inference.model_config import Execution, ModelConfig
from gateway.inference.repository import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    ModelFolder,
    Repository,
    VersionFiles,
    read_file,
)
from gateway.inference.samples import Inputs, repeated_rows
from gateway.inference.session import Session
from gateway.inference.signature_changes import described_tensor, file_signature, naming_changes, signature_changes
from gateway.messages import ModelVersion
from gateway.staging import StagedVersion

Report = Callable[[str], None]

_TRIED_ROWS = 8
_OWN_FILES = frozenset({MODEL_FILE, MANIFEST_FILE, GOLDEN_FILE, "reference.json"})


@dataclass(frozen=True, slots=True)
class GivenModel:
    """What the publisher gave.

    Attributes:
        beside: Where external data lies; None for a model that came as bytes.
        golden: The content of golden.json.
    """

    model: bytes
    beside: Path | None
    golden: bytes | None


def stage_files(staged: StagedVersion, given: GivenModel, report: Report) -> tuple[VersionFiles, dict[str, str]]:
    """Write the model, its external data and its golden requests.

    Returns: What a server would read, still without a manifest, and the hash of every file.
    Raises: InvalidModel: external data is missing, or lies where it may not.
    """
    external = sorted(external_files(given.model))
    staged.write(MODEL_FILE, given.model)
    hashes = {MODEL_FILE: sha256_of(given.model)}
    for name in external:
        content = _external_data(given, name)
        staged.write(name, content)
        hashes[name] = sha256_of(content)
    if given.golden is not None:
        staged.write(GOLDEN_FILE, given.golden)
        hashes[GOLDEN_FILE] = sha256_of(given.golden)
    report(f"read {len(given.model):,} bytes{', with external data in ' + ', '.join(external) if external else ''}")
    files = VersionFiles(
        model=given.model,
        sha256=hashes[MODEL_FILE],
        manifest=None,
        golden=parse_golden(given.golden, where=GOLDEN_FILE) if given.golden is not None else None,
        external_folder=staged.path.resolve() if external else None,
    )
    return files, hashes


def load_as_server(key: ModelVersion, files: VersionFiles, config: ModelConfig, report: Report) -> LoadedVersion:
    """Open, ask, test and warm the version with the settings its model has.

    Where this machine lacks the execution provider they ask for, the CPU has to do, and the report says so.

    Raises: LoadFailed: with the reason why it could never be READY.
    """
    config = replace(config, execution=replace(config.execution, instances=1))
    try:
        loaded = load_version(key, files, config)
    except InvalidModel:
        raise
    except LoadFailed as exc:
        if config.execution.providers == ("cpu",):
            raise
        try:
            loaded = load_version(key, files, replace(config, execution=Execution()))
        except GatewayError:
            raise exc from None
        report(f"tested on the cpu only, not as its model's settings ask: {exc}")
    signature = loaded.sessions[0].signature
    for role, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in tensors:
            report(f"{role} '{spec.name}': {described_tensor(spec)}")
    if files.golden is not None:
        report(f"golden requests: {len(files.golden.cases)} answered as promised")
    shares = "requests share runs" if loaded.sharing.shares_runs else "requests run one by one"
    report(f"{shares}: {loaded.sharing.reason}")
    return loaded


def try_rows(rows: DataFile, session: Session, wanted: int) -> tuple[Inputs, int]:
    """Read all of the data and ask the model the first rows of it.

    Args:
        wanted: How many rows to ask; 0 for a few.
    Returns: The request that was asked, and the rows of the file.
    Raises: InvalidData: a value does not fit, or the model refuses these rows.
    """
    asked: Inputs | None = None
    count = 0
    for block in rows.blocks():
        count += len(next(iter(block.values())))
        if asked is None:
            asked = _request_of(block, session, wanted or _TRIED_ROWS)
            try:
                session.signature.check(asked, model=str(rows.path))
                session.run(asked, ())
            except (InvalidInput, InferenceFailed) as exc:
                raise InvalidData(f"{rows.path}: the model refuses the first rows: {exc}") from exc
    if asked is None:
        raise InvalidData(f"{rows.path}: has no rows")
    return asked, count


def check_names(manifest: Manifest, session: Session) -> None:
    """Hold the names of features and classes against the model.

    Raises: InvalidModel: a name stands for nothing.
    """
    signature = session.signature
    for key, names, specs, role in (
        ("features", manifest.features, signature.input_by_name, "input"),
        ("labels", manifest.labels, signature.output_by_name, "output"),
    ):
        for tensor, fault in naming_faults(names, specs, role=role).items():
            raise InvalidModel(f"{key} '{tensor}': {fault}")


def seal(staged: StagedVersion, key: ModelVersion, manifest: Manifest) -> VersionFiles:
    """Write the manifest, then read the whole version as a server does, hashes and all."""
    staged.write(MANIFEST_FILE, encode_manifest(manifest))
    repository = Repository(staged.root)
    folder = repository.scan_model(key.model)
    if folder is None:
        raise InvalidModel(f"{staged.path}: is gone")
    return repository.read_version(next(iter(folder.versions.values())))


def changes_since(repository: Path, folder: ModelFolder | None, key: ModelVersion, files: VersionFiles) -> list[str]:
    """Say what a caller would notice who comes from the newest version in the repository."""
    if folder is None or not folder.versions:
        return []
    newest = folder.versions[max(folder.versions)]
    try:
        before = Repository(repository).read_version(newest)
        changes = signature_changes(file_signature(newest.key, before), file_signature(key, files))
    except LoadFailed as exc:
        return [f"{newest.key} cannot be compared: {exc}"]
    if before.manifest and files.manifest:
        changes += naming_changes(before.manifest.features, files.manifest.features)
    return [f"{newest.key}: {change}" for change in changes]


def _external_data(given: GivenModel, name: str) -> bytes:
    if given.beside is None:
        raise InvalidModel(
            f"external data '{name}': give the model's path instead of its bytes, so that it can be found"
        )
    parts = name.split("/")
    if "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise InvalidModel(f"external data '{name}': expected a path below the model's own directory")
    if name in _OWN_FILES:
        raise InvalidModel(f"external data '{name}': this name has a meaning in a version; store it under another")
    return read_file(given.beside, name)


def _request_of(block: Inputs, session: Session, wanted: int) -> Inputs:
    """Cut the first rows, repeated where the model takes a fixed number."""
    fixed = session.signature.rows
    first = {name: array[:wanted] for name, array in block.items()}
    if fixed is None:
        return {name: array[:1] for name, array in first.items()}
    return repeated_rows(first, fixed) if fixed > 0 else first
