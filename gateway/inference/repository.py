"""The model repository on disk: which models and versions lie there, and their bytes, read safely.

Never loads a model and keeps nothing in memory but parsed settings. No link is ever followed below the root.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from gateway.errors import InvalidModel, InvalidSetting, LoadFailed
from gateway.inference.graph import external_files
from gateway.inference.manifest import (
    MODEL_FILE,
    Golden,
    Manifest,
    check_hashes,
    parse_golden,
    parse_manifest,
    sha256_of,
)
from gateway.inference.model_config import ModelConfig, parse_model_config
from gateway.inference.triton_config import TritonModelConfig, parse_triton_config
from gateway.messages import ModelVersion

MANIFEST_FILE = "manifest.toml"
GOLDEN_FILE = "golden.json"
CONFIG_FILE = "model.toml"
TRITON_FILE = "config.pbtxt"
SETTLED_AFTER_S = 2.0
INCOMPLETE_AFTER_S = 30.0
RESERVED_NAMES = frozenset({"stats"})

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")

Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """A version as a listing shows it.

    Attributes:
        stamp: Path, size, change time and inode of all that lies in it: differs when anything was written.
        changed_at: Wall-clock second of the last write, also of the directory itself.
        model_file: Another name than model.onnx only where config.pbtxt gives one and there is such a file.
    """

    key: ModelVersion
    path: Path
    stamp: Stamp
    changed_at: float
    model_file: str = MODEL_FILE

    def has(self, name: str) -> bool:
        """Tell whether the file lies there."""
        return any(entry[0] == name for entry in self.stamp)

    def is_settled(self, wall_now: float) -> bool:
        """Tell whether a load may be tried: there is a manifest to check against, or nothing changed for 2 s."""
        if self.has(self.model_file) and self.has(MANIFEST_FILE):
            return True
        return self.has(self.model_file) and wall_now - self.changed_at >= SETTLED_AFTER_S

    def may_still_change(self, wall_now: float) -> bool:
        """Tell whether a version that cannot be loaded yet may just be half written."""
        return wall_now - self.changed_at < INCOMPLETE_AFTER_S


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model as a listing shows it.

    Attributes:
        config: What config.pbtxt says, and model.toml over it.
        fault: What is wrong with one of them, else "".
    """

    name: str
    config: ModelConfig
    fault: str
    versions: dict[int, VersionFolder]


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """A version's bytes, hashes checked."""

    model: bytes
    sha256: str
    manifest: Manifest | None
    golden: Golden | None
    external_folder: Path | None


class Repository:
    """A directory of models."""

    def __init__(self, root: Path, defaults: ModelConfig | None = None) -> None:
        """Open a directory.

        Args:
            defaults: What holds where a model's own files say nothing.
        """
        self.root = root
        self._defaults = defaults or ModelConfig()
        self._configs: dict[str, tuple[Stamp, ModelConfig, str]] = {}

    def scan(self) -> dict[str, ModelFolder]:
        """List every model and version.

        Raises: LoadFailed: the root cannot be read.
        """
        found = {}
        for name in self._directories(self.root):
            if is_model_name(name):
                found[name] = self._scan_model(name)
        return found

    def misnamed(self) -> list[str]:
        """Return directories that hold versions but whose name no client could ask for."""
        return [
            name
            for name in self._directories(self.root)
            if not is_model_name(name)
            and any(_VERSION.fullmatch(version) for version in self._directories(self.root / name))
        ]

    def scan_model(self, name: str) -> ModelFolder | None:
        """List one model, or None when there is none of that name."""
        if not is_model_name(name) or name not in self._directories(self.root):
            return None
        return self._scan_model(name)

    def read_version(self, folder: VersionFolder) -> VersionFiles:
        """Read and check everything a load needs.

        Raises: InvalidModel: a file is missing, is a link, differs from its hash or refers to data it may not read.
        """
        reader = _Reader(folder.path)
        model = reader.read(folder.model_file)
        manifest = None
        if folder.has(MANIFEST_FILE):
            manifest = parse_manifest(reader.read(MANIFEST_FILE), where=f"{folder.path / MANIFEST_FILE}")
            check_hashes(manifest, lambda name: model if name == folder.model_file else reader.read(name))
        golden = None
        if folder.has(GOLDEN_FILE):
            golden = parse_golden(reader.read(GOLDEN_FILE), where=f"{folder.path / GOLDEN_FILE}")
        external = external_files(model)
        listed = manifest.files if manifest else {}
        for name in sorted(external):
            if name not in listed:
                raise InvalidModel(f"external data '{name}' is not listed with its hash in {MANIFEST_FILE}")
        return VersionFiles(
            model=model,
            sha256=sha256_of(model),
            manifest=manifest,
            golden=golden,
            external_folder=folder.path.resolve() if external else None,
        )

    def _scan_model(self, name: str) -> ModelFolder:
        path = self.root / name
        config, fault = self._config(path)
        versions = {
            int(entry): _version_folder(ModelVersion(name, int(entry)), path / entry, config)
            for entry in self._directories(path)
            if _VERSION.fullmatch(entry)
        }
        return ModelFolder(name=name, config=config, fault=fault, versions=dict(sorted(versions.items())))

    def _config(self, path: Path) -> tuple[ModelConfig, str]:
        stamp = (*_stamps(path, only=TRITON_FILE), *_stamps(path, only=CONFIG_FILE))
        if not stamp:
            return self._defaults, ""
        cached = self._configs.get(path.name)
        if cached is None or cached[0] != stamp:
            try:
                cached = (stamp, _read_config(path, {entry[0] for entry in stamp}, self._defaults), "")
            except (InvalidSetting, InvalidModel) as exc:
                cached = (stamp, self._defaults, str(exc))
            self._configs[path.name] = cached
        return cached[1], cached[2]

    def _directories(self, path: Path) -> list[str]:
        try:
            with os.scandir(path) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError) as exc:
            if path != self.root:  # removed while it was listed
                return []
            raise LoadFailed(f"{path}: no such directory") from exc
        except OSError as exc:
            raise LoadFailed(f"{path}: cannot be read: {exc.strerror}") from exc


def is_model_name(name: str) -> bool:
    """Tell whether a client could ask for a model of that name."""
    return _MODEL_NAME.fullmatch(name) is not None and name not in RESERVED_NAMES


def read_file(folder: Path, name: str) -> bytes:
    """Read a file of any directory as those of a version are read: no links, nothing outside.

    Raises: InvalidModel: there is no such file, or it is not a plain one.
    """
    return _Reader(folder).read(name)


class _Reader:
    """Reads files below one directory through its descriptor: no links, no second names, nothing outside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        descriptor = -1
        parent = -1
        try:
            parent = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            *folders, leaf = name.split("/")
            for part in folders:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                os.close(parent)
                parent = inner
            descriptor = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidModel(f"{self._folder / name}: expected a regular file")
            if status.st_nlink != 1:
                raise InvalidModel(f"{self._folder / name}: has {status.st_nlink} hard links, expected one")
            with os.fdopen(descriptor, "rb") as file:
                descriptor = -1
                return file.read()
        except FileNotFoundError as exc:
            raise InvalidModel(f"{self._folder / name}: no such file") from exc
        except OSError as exc:
            raise InvalidModel(
                f"{self._folder / name}: cannot be read (links are not followed): {exc.strerror}"
            ) from exc
        finally:
            for opened in (descriptor, parent):
                if opened >= 0:
                    os.close(opened)


def _read_config(path: Path, files: set[str], config: ModelConfig) -> ModelConfig:
    reader = _Reader(path)
    if TRITON_FILE in files:
        triton = parse_triton_config(reader.read(TRITON_FILE), model=path.name, where=f"{path / TRITON_FILE}")
        config = msgspec.structs.replace(triton, monitoring=config.monitoring)
    if CONFIG_FILE in files:
        config = parse_model_config(reader.read(CONFIG_FILE), where=f"{path / CONFIG_FILE}", base=config)
    return config


def _version_folder(key: ModelVersion, path: Path, config: ModelConfig) -> VersionFolder:
    stamp = tuple(sorted(_stamps(path)))
    newest = max((entry[2] for entry in stamp), default=0)
    folder = VersionFolder(key=key, path=path, stamp=stamp, changed_at=newest / 1e9)
    if isinstance(config, TritonModelConfig) and folder.has(config.model_file):
        return replace(folder, model_file=config.model_file)
    return folder


def _stamps(path: Path, *, only: str = "", below: str = "") -> Iterator[tuple[str, int, int, int]]:
    """Stamp the directory itself and all that lies below it, or one entry of it alone."""
    try:
        if not only:
            yield _stamp(below, path.lstat())
        with os.scandir(path) as entries:
            for entry in entries:
                if only and entry.name != only:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _stamps(Path(entry.path), below=f"{below}{entry.name}/")
                else:
                    yield _stamp(f"{below}{entry.name}", entry.stat(follow_symlinks=False))
    except OSError:  # removed while it was listed: the next scan sees the rest
        return


def _stamp(name: str, status: os.stat_result) -> tuple[str, int, int, int]:
    # The change time, not the modification time: a copy that keeps its times may come from the future.
    return name, status.st_size, status.st_ctime_ns, status.st_ino
