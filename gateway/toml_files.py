"""Reads TOML into typed Structs; every fault names the file, the key and the nearest known key.

Gives no meaning to any key: the Structs do.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from gateway.errors import InvalidSetting, unknown_name

Table = dict[str, Any]
StructT = TypeVar("StructT", bound=msgspec.Struct)


def parse_toml(text: bytes, *, where: str) -> Table:
    """Parse TOML bytes.

    Raises: InvalidSetting: not UTF-8 or not TOML.
    """
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as exc:  # not UTF-8, not TOML, thousands of digits or of brackets
        raise InvalidSetting(f"{where}: not TOML: {exc}") from exc


def read_toml(path: Path) -> Table:
    """Read and parse a TOML file.

    Raises: InvalidSetting: it cannot be read, or is not TOML.
    """
    try:
        text = path.read_bytes()
    except OSError as exc:
        raise InvalidSetting(f"{path}: cannot be read: {exc.strerror}") from exc
    return parse_toml(text, where=str(path))


def convert_table(table: Table, into: type[StructT], *, where: str, strict: bool = True) -> StructT:
    """Convert a parsed table into a Struct, refusing unknown keys at every level.

    Args:
        where: The file's name, for errors.
        strict: False lets strings stand for numbers and booleans (environment variables).
    Raises: InvalidSetting: an unknown key, or a value of the wrong type or range.
    """
    _refuse_unknown(table, into, where=where, prefix="")
    try:
        return msgspec.convert(table, into, strict=strict)
    except msgspec.ValidationError as exc:
        text, _, pointer = str(exc).partition(" - at `$.")
        key = pointer.rstrip("`")
        raise InvalidSetting(f"{where}: key '{key}': {text}" if key else f"{where}: {text}") from exc


def _refuse_unknown(table: Table, into: type[msgspec.Struct], *, where: str, prefix: str) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(into)}
    for key, value in table.items():
        if key not in fields:
            raise InvalidSetting(unknown_name(f"{where}: key '{prefix}{key}'", key, fields))
        nested = _struct_in(fields[key].type)
        for inner in value if isinstance(value, list) else [value]:
            if nested is not None and isinstance(inner, dict):
                _refuse_unknown(inner, nested, where=where, prefix=f"{prefix}{key}.")


def _struct_in(annotation: object) -> type[msgspec.Struct] | None:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next((found for choice in get_args(annotation) if (found := _struct_in(choice)) is not None), None)
