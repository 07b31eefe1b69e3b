"""What keeps one version from READY, found part by part, so that one fault does not hide the next.

Changes nothing and serves nothing; the version is loaded as a server would load it, and let go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.errors import GatewayError, InvalidModel, LoadFailed
from gateway.inference.columns import naming_faults
from gateway.inference.graph import external_files
from gateway.inference.loader import LoadedVersion, load_version
from gateway.inference.manifest import Golden, Manifest, parse_golden, parse_manifest, sha256_of
from gateway.inference.model_config import ModelConfig
from gateway.inference.repository import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    TRITON_FILE,
    VersionFiles,
    VersionFolder,
    read_file,
)
from gateway.inference.signature import Signature
from gateway.yardsticks import REFERENCE_FILE, load_yardstick

_KEYED = re.compile(r"key '(?P<key>[^']+)': (?P<reason>.*)", re.DOTALL)
_EXECUTION = re.compile(r"(?P<key>execution\.[\w.]+): (?P<reason>.*)", re.DOTALL)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know about a file.

    Attributes:
        key: Where in the file, "" for the whole.
        is_fault: Whether it keeps something from being served; else it is only worth knowing.
    """

    file: str
    key: str = ""
    reason: str
    is_fault: bool = True

    @classmethod
    def of(cls, file: object, text: object, *, is_fault: bool = True) -> Finding:
        """Take an error's text apart: the file it begins with, the key it names."""
        path, reason, key = str(file), str(text).removeprefix(f"{file}: "), ""
        for keyed in (_KEYED, _EXECUTION):
            if match := keyed.fullmatch(reason):
                key, reason = match["key"], match["reason"]
        return cls(file=path, key=key, reason=reason, is_fault=is_fault)

    @classmethod
    def located(cls, text: str, *, is_fault: bool = True) -> Finding:
        """Take apart the text of an error that begins with its file."""
        file, _, reason = text.partition(": ")
        return cls.of(file, reason, is_fault=is_fault)

    def __str__(self) -> str:
        """Write it as one line."""
        key = f"key '{self.key}': " if self.key else ""
        return " ".join(f"{self.file}: {key}{self.reason}".split("\n"))


class VersionCheck:
    """One version under examination."""

    def __init__(self, version: VersionFolder, config: ModelConfig, config_file: str) -> None:
        """Say what is to be checked.

        Args:
            config_file: Where the model's settings stand, for faults that come from them.
        """
        self._version = version
        self._config = config
        self._config_file = config_file
        self.findings: list[Finding] = []

    def run(self) -> LoadedVersion | None:
        """Find everything, and return the version as a server would load it; None when it could not."""
        version = self._version
        manifest = self._parsed(MANIFEST_FILE, parse_manifest)
        golden = self._parsed(GOLDEN_FILE, parse_golden)
        model = self._attempt(version.model_file, lambda: read_file(version.path, version.model_file))
        external = self._attempt(version.model_file, lambda: external_files(model)) if model is not None else None
        usable = self._check_hashes(manifest, model, external or set())
        self._name_unread(manifest, external or set())
        if model is None or external is None or not usable:
            return None
        loaded = self._load(model, manifest, golden, has_external=bool(external))
        if loaded is not None:
            self._check_names(manifest, loaded.signature)
            self._check_reference(loaded.signature)
            if not loaded.sharing.shares_runs and self._config.batching.enabled is not False:
                self._note(version.model_file, f"requests run one by one: {loaded.sharing.reason}")
        return loaded

    def _parsed(self, name: str, parse: Callable[..., T]) -> T | None:
        if not self._version.has(name):
            return None
        path = self._version.path
        return self._attempt(name, lambda: parse(read_file(path, name), where=f"{path / name}"))

    def _check_hashes(self, manifest: Manifest | None, model: bytes | None, external: set[str]) -> bool:
        """Compare every listed file with its hash; tell whether what is to be loaded is whole."""
        version = self._version
        listed = manifest.files if manifest else {}
        wrong = set()
        for name in sorted(external - listed.keys()):
            wrong.add(name)
            self._fault(version.model_file, f"external data '{name}' is not listed with its hash in {MANIFEST_FILE}")
        for name, expected in listed.items():
            if name == version.model_file and model is None:
                continue
            content = model if name == version.model_file else self._read(name)
            if content is None:
                wrong.add(name)
            elif (found := sha256_of(content)) != expected:
                wrong.add(name)
                self._fault(name, f"hash is {found}, the manifest says {expected}")
        return wrong.isdisjoint({version.model_file, *external})

    def _read(self, name: str) -> bytes | None:
        return self._attempt(name, lambda: read_file(self._version.path, name))

    def _name_unread(self, manifest: Manifest | None, external: set[str]) -> None:
        """Name files that have no effect: a slip of the name hides a manifest."""
        known = {self._version.model_file, MANIFEST_FILE, GOLDEN_FILE, REFERENCE_FILE, *external}
        known |= manifest.files.keys() if manifest else set()
        for name, *_ in self._version.stamp:
            if name and not name.endswith("/") and name not in known and not name.split("/")[-1].startswith("."):
                self._note(name, "has no effect; nothing reads a file of this name")

    def _load(
        self, model: bytes, manifest: Manifest | None, golden: Golden | None, *, has_external: bool
    ) -> LoadedVersion | None:
        files = VersionFiles(
            model=model,
            sha256=sha256_of(model),
            manifest=manifest,
            golden=golden,
            external_folder=self._version.path.resolve() if has_external else None,
        )
        try:
            return load_version(self._version.key, files, self._config)
        except LoadFailed as exc:
            text = str(exc)
            if text.startswith(f"{GOLDEN_FILE}: "):
                self._fault(GOLDEN_FILE, text.removeprefix(f"{GOLDEN_FILE}: "))
            elif text.startswith((f"{TRITON_FILE}: ", "execution.", "execution provider")):
                self.findings.append(Finding.of(self._config_file, text.removeprefix(f"{TRITON_FILE}: ")))
            else:
                self._fault(self._version.model_file, text)
            return None

    def _check_names(self, manifest: Manifest | None, signature: Signature) -> None:
        if manifest is None:
            return
        file = str(self._version.path / MANIFEST_FILE)
        for table, names, specs, role in (
            ("features", manifest.features, signature.input_by_name, "input"),
            ("labels", manifest.labels, signature.output_by_name, "output"),
        ):
            for tensor, fault in naming_faults(names, specs, role=role).items():
                self.findings.append(Finding(file=file, key=f"{table}.{tensor}", reason=fault))

    def _check_reference(self, signature: Signature) -> None:
        if self._version.has(REFERENCE_FILE):
            try:
                load_yardstick(self._version, signature, self._config.monitoring)
            except GatewayError as exc:
                self._fault(REFERENCE_FILE, str(exc).removeprefix(f"{REFERENCE_FILE}: "))

    def _attempt(self, name: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except InvalidModel as exc:
            self._fault(name, str(exc))
            return None

    def _fault(self, name: str, text: str) -> None:
        self.findings.append(Finding.of(self._version.path / name, text))

    def _note(self, name: str, text: str) -> None:
        self.findings.append(Finding.of(self._version.path / name, text, is_fault=False))
