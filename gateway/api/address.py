"""Paths of inference requests: what they ask for, and what is wrong with those that ask for nothing.

Knows no header and no body.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.api.v1 import PREDICT, split_verb
from gateway.errors import GatewayError, UnknownModel, UnknownPath

_MAX_VERSION_DIGITS = 18


class Address(NamedTuple):
    """What the path of an inference request asks for.

    Attributes:
        is_v1: Whether body and answer are REST v1's.
        name: Of a route or a model.
        version: The version it pins, None to follow the route.
    """

    is_v1: bool
    name: str
    version: int | None


def is_infer(parts: list[str]) -> bool:
    """Tell whether a split path has the form of an infer path of v2, or of a predict path of v1."""
    if parts[-1] == "infer":
        return parts[1:3] == ["v2", "models"] and len(parts) in (5, 7)
    return parts[-1].endswith(PREDICT) and parts[1:3] == ["v1", "models"] and len(parts) in (4, 6)


def infer_address(path: str) -> Address | None:
    """Return what a path asks for; None when it is no infer path, or one with a mistake in it."""
    parts = path.split("/")
    try:
        return address_of(parts) if is_infer(parts) else None
    except GatewayError:
        return None


def address_of(parts: list[str]) -> Address:
    """Return what an infer path asks for; see version_in for what it raises."""
    is_v1 = parts[1] == "v1"
    if is_v1:
        parts, _ = split_verb(parts)
    return Address(is_v1, parts[3], version_in(parts))


def version_in(parts: list[str]) -> int | None:
    """Return the version that a path below /v2/models/{m} or /v1/models/{m}, without its verb, pins, or None.

    Raises:
        UnknownPath: the path has another form, or the version is no number.
        UnknownModel: the number is too long to be a version.
    """
    if len(parts) < 6 or parts[4] != "versions":
        if len(parts) > 5 or (len(parts) == 5 and parts[4] == "versions"):
            raise UnknownPath(f"no such path: {'/'.join(parts)[:200]}")
        return None
    digits = parts[5]
    if not (digits.isascii() and digits.isdigit()):
        raise UnknownPath(f"no such path: versions are numbers, got '{digits[:50]}'")
    if len(digits) > _MAX_VERSION_DIGITS:
        raise UnknownModel(f"model '{parts[3]}' has no version {digits[:50]}")
    return int(digits)
