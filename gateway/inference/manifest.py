"""manifest.toml and golden.json: what a version's publisher promised about its files and answers.

Reads bytes already in memory; never opens a file.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import InvalidModel, InvalidSetting
from gateway.toml_files import convert_table, parse_toml

MODEL_FILE = "model.onnx"
Sha256 = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
Scalar = str | int | float | bool


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The hashes of a version's files, the names of its columns and where it came from.

    Attributes:
        files: Path inside the version directory → `sha256:<hex>`.
        features: Input → names of its columns. labels: Output → names of its classes.
        data, source: Lineage in free words: name, sha256, rows, version; commit, run.
    """

    created: str = ""
    files: dict[str, Sha256]
    features: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    data: dict[str, Scalar] = {}
    source: dict[str, Scalar] = {}
    metrics: dict[str, float] = {}


class GoldenCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request with the answer it must get, as nested lists."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    tolerance: Annotated[float, Meta(ge=0)] = 1e-5


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a version must answer before it may be READY."""

    cases: list[GoldenCase]


def parse_manifest(text: bytes, *, where: str) -> Manifest:
    """Read manifest.toml.

    Args:
        where: The file's path, for errors.
    Raises: InvalidModel: not TOML, an unknown key, a wrong value, no hash for the model, or a path that leaves
        the version directory.
    """
    try:
        manifest = convert_table(parse_toml(text, where=where), Manifest, where=where)
    except InvalidSetting as exc:
        raise InvalidModel(str(exc)) from exc
    if MODEL_FILE not in manifest.files:
        raise InvalidModel(f"{where}: key 'files': expected the hash of '{MODEL_FILE}'")
    for name in manifest.files:
        if "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise InvalidModel(f"{where}: key 'files.{name}': expected a path inside the version directory")
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as manifest.toml, leaving out what is empty."""
    lines = [f"created = {_toml_value(manifest.created)}"] if manifest.created else []
    for field in msgspec.structs.fields(manifest):
        table = getattr(manifest, field.name)
        if isinstance(table, dict) and table:
            lines += ["", f"[{field.encode_name}]"]
            lines += [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in table.items()]
    return ("\n".join(lines) + "\n").encode()


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_value(key)


def _toml_value(value: Scalar | list[str]) -> str:
    """Write a value as TOML, which is JSON but for DEL in strings, NaN and the infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def parse_golden(text: bytes, *, where: str) -> Golden:
    """Read golden.json.

    Raises: InvalidModel: not JSON of the expected form.
    """
    try:
        return msgspec.json.decode(text, type=Golden)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidModel(f"{where}: {exc}") from exc


def sha256_of(content: bytes) -> str:
    """Return `sha256:<hex>` of a file's bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def check_hashes(manifest: Manifest, read: Callable[[str], bytes]) -> None:
    """Compare every listed file with its hash.

    Args:
        read: Returns the bytes of a path inside the version directory.
    Raises: InvalidModel: a file's bytes differ from its hash.
    """
    for name, expected in manifest.files.items():
        found = sha256_of(read(name))
        if found != expected:
            raise InvalidModel(f"{name}: hash is {found}, the manifest says {expected}")
