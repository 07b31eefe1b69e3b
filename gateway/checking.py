"""Checks a repository and the settings without serving: every fault with the file and the key it stands in.

Changes nothing. A fault is what would keep a version from READY, or a model from being found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from gateway.errors import GatewayError, LoadFailed
from gateway.inference.loader import LoadedVersion
from gateway.inference.model_config import Execution
from gateway.inference.repository import CONFIG_FILE, TRITON_FILE, ModelFolder, Repository, is_model_name
from gateway.inference.session import resolve_providers
from gateway.inference.signature_changes import naming_changes, signature_changes
from gateway.inference.triton_config import TritonModelConfig
from gateway.monitoring.webhook import http_post
from gateway.routing.document import configured_routes
from gateway.settings import ServerSettings, load_settings, settings_file
from gateway.staging import find_leftovers
from gateway.version_check import Finding, VersionCheck

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """All that was found, and how much was looked at."""

    findings: list[Finding]
    models: int
    versions: int

    @property
    def faults(self) -> list[Finding]:
        """What keeps something from being served."""
        return [finding for finding in self.findings if finding.is_fault]

    @property
    def notes(self) -> list[Finding]:
        """What is only worth knowing."""
        return [finding for finding in self.findings if not finding.is_fault]


def check_settings(
    repository: str | None, environment: Mapping[str, str], config: Path | None
) -> tuple[list[Finding], Path]:
    """Read gateway.toml and the `GATEWAY_*` variables as a server would.

    Args:
        repository: From the command line; None when it was not given.
    Returns: What was found, and the repository that a server would open.
    """
    try:
        settings, warnings = load_settings({"repository": repository}, environment, config=config)
        configured_routes(settings.routes, where=str(settings_file(config, environment)))
        if settings.monitoring.webhook:
            http_post(settings.monitoring.webhook)
    except GatewayError as exc:
        return [Finding.located(str(exc))], Path(repository or ServerSettings().repository)
    return [Finding.located(text, is_fault=False) for text in warnings], Path(settings.server.repository)


def check_repository(root: Path, *, report: Report = lambda _: None) -> CheckResult:
    """Load every version there is, one after the other, and name what is wrong.

    Args:
        report: Is told each version before it is loaded.
    """
    try:
        folders = Repository(root).scan()
    except LoadFailed as exc:
        return CheckResult([Finding.of(root, exc)], 0, 0)
    findings = [*_misplaced(root), *_leftovers(root)]
    for folder in folders.values():
        findings += _check_model(root / folder.name, folder, report)
    return CheckResult(findings, len(folders), sum(len(folder.versions) for folder in folders.values()))


# --- what lies in the wrong place -----------------------------------------------------------------------


def _leftovers(root: Path) -> Iterator[Finding]:
    for leftover in find_leftovers(root):
        reason = "left behind by a publish that was killed; no server looks inside, remove it"
        yield Finding.of(leftover.path, "a publish is running" if leftover.is_live else reason, is_fault=False)


def _misplaced(root: Path) -> Iterator[Finding]:
    """Name what looks like a model or a version and is none for a server."""
    for entry in _entries(root):
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and entry.is_dir():
            yield Finding.of(path, "is a link; servers follow no links, so this is no model")
        elif not entry.is_dir() and path.suffix == ".onnx":
            yield Finding.of(path, f"lies beside the models; its place is {root}/<model>/<version>/model.onnx")
        elif entry.is_dir() and is_model_name(entry.name):
            yield from _misplaced_versions(path)
        elif any(_holds_model(inner) for inner in _entries(path)):
            yield Finding.of(path, "holds versions, but is no name that a client could ask for")


def _misplaced_versions(model: Path) -> Iterator[Finding]:
    for entry in _entries(model):
        is_version = entry.name.isascii() and entry.name.isdigit() and len(entry.name) <= 18 and entry.name[0] != "0"
        if is_version and entry.is_symlink():
            yield Finding.of(entry.path, "is a link; servers follow no links, so this is no version")
        elif is_version and not entry.is_dir():
            yield Finding.of(entry.path, "is a file, expected a directory with model.onnx in it")
        elif not is_version and entry.is_dir() and not entry.name.startswith(".") and _holds_model(entry):
            yield Finding.of(entry.path, "holds a model, but a version is a positive integer without leading zeros")
        elif not entry.is_dir() and entry.name.endswith(".onnx"):
            yield Finding.of(entry.path, f"lies beside the versions; its place is {model}/<version>/model.onnx")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # no directory, or gone meanwhile
        return []


def _holds_model(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and any(inner.name.endswith(".onnx") for inner in _entries(Path(entry.path)))


# --- one model ---------------------------------------------------------------------------------------------


def _check_model(place: Path, folder: ModelFolder, report: Report) -> Iterator[Finding]:
    config, config_file = folder.config, str(place / CONFIG_FILE)
    if isinstance(config, TritonModelConfig):
        if not (place / CONFIG_FILE).exists():
            config_file = str(place / TRITON_FILE)
        for ignored in config.ignored:
            text = f"key '{ignored.field}': has no effect: {ignored.reason}"
            yield Finding.of(place / TRITON_FILE, text, is_fault=False)
    if folder.fault:
        yield Finding.located(folder.fault)
    try:
        resolve_providers(config.execution)
    except LoadFailed as exc:
        yield Finding.of(config_file, f"key 'execution.providers': {exc}")
        config = replace(config, execution=Execution())
    config = replace(config, execution=replace(config.execution, instances=1))
    if not folder.versions:
        yield Finding.of(place, "holds no version", is_fault=False)
    if isinstance(config.versions, tuple):
        for number in set(config.versions) - folder.versions.keys():
            yield Finding.of(config_file, f"key 'versions': there is no version {number}", is_fault=False)
    before: LoadedVersion | None = None
    for version in folder.versions.values():
        report(f"loading {version.key}")
        check = VersionCheck(version, config, config_file)
        loaded = check.run()
        yield from check.findings
        if loaded is not None and before is not None:
            for change in _changes(before, loaded):
                yield Finding.of(version.path, f"differs from {before.key}: {change}", is_fault=False)
        before = loaded or before


def _changes(old: LoadedVersion, new: LoadedVersion) -> list[str]:
    changes = signature_changes(old.signature, new.signature)
    if old.manifest and new.manifest:
        changes += naming_changes(old.manifest.features, new.manifest.features)
    return changes
