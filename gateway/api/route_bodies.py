"""The bodies of the calls that change a route, beside the route document itself: every fault with its pointer.

Pure; never asks whether the change can be made.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.errors import InvalidRoute, unknown_name
from gateway.routing.document import pointer_to, reason_fault

_MAX_REVISION = 2**53


class ShiftBody(msgspec.Struct, frozen=True):
    """What a shift asks for; the weights themselves are judged with the route."""

    weights: dict[str, object]
    reason: str


class AbortBody(msgspec.Struct, frozen=True):
    """What an abort asks for."""

    shadows: bool
    reason: str


class RollbackBody(msgspec.Struct, frozen=True):
    """What a rollback asks for; None goes back by one."""

    revision: int | None
    reason: str


def read_shift(route: str, body: object) -> ShiftBody:
    """Read `{"weights": {…}, "reason"}`.

    Raises: InvalidRoute: with every fault.
    """
    table, faults = _table(body, ("weights", "reason"))
    weights = table.get("weights")
    if not isinstance(weights, dict):
        what = "is missing, expected percent by variant" if "weights" not in table else "expected an object"
        faults.append(("/weights", what))
    _refuse(route, faults)
    return ShiftBody(dict(weights) if isinstance(weights, dict) else {}, _text(table))


def read_abort(route: str, body: object) -> AbortBody:
    """Read `{"shadows", "reason"}`, both optional.

    Raises: InvalidRoute: with every fault.
    """
    table, faults = _table(body, ("shadows", "reason"))
    shadows = table.get("shadows", False)
    if not isinstance(shadows, bool):
        faults.append(("/shadows", "expected true or false"))
    _refuse(route, faults)
    return AbortBody(shadows is True, _text(table))


def read_rollback(route: str, body: object) -> RollbackBody:
    """Read `{"revision", "reason"}`, both optional.

    Raises: InvalidRoute: with every fault.
    """
    table, faults = _table(body, ("revision", "reason"))
    revision = table.get("revision")
    is_number = isinstance(revision, int) and not isinstance(revision, bool)
    if "revision" in table and not (is_number and 1 <= revision <= _MAX_REVISION):  # type: ignore[operator]  # a number
        faults.append(("/revision", "expected the number of an earlier revision"))
    _refuse(route, faults)
    return RollbackBody(revision if isinstance(revision, int) else None, _text(table))


def read_reason(route: str, body: object) -> str:
    """Read `{"reason"}`, which is optional.

    Raises: InvalidRoute: with every fault.
    """
    table, faults = _table(body, ("reason",))
    _refuse(route, faults)
    return _text(table)


def _table(body: object, known: tuple[str, ...]) -> tuple[Mapping[str, object], list[tuple[str, str]]]:
    if not isinstance(body, dict):
        return {}, [("", "expected an object")]
    faults = [(pointer_to(key), unknown_name("body", key[:60], known)) for key in body if key not in known]
    if (fault := reason_fault(body.get("reason", ""))) is not None:
        faults.append(("/reason", fault))
    return body, faults


def _text(table: Mapping[str, object]) -> str:
    reason = table.get("reason", "")
    return reason if isinstance(reason, str) else ""


def _refuse(route: str, faults: list[tuple[str, str]]) -> None:
    if faults:
        raise InvalidRoute(route, tuple(faults))
