"""The admin plane's calls on drift: reports on the windows of every version, and which windows are in control.

Decides nothing and keeps nothing: every call goes to the monitor.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.bodies import limited_body, parse_json
from gateway.errors import InvalidBaseline, InvalidRequest, UnknownModel
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.recordings import ROLES, Role
from gateway.monitoring.report import rfc3339
from gateway.store.windows import HISTORY_WINDOWS

_MAX_VERSION_DIGITS = 18


class BaselinePeriod(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a baseline: from when to when the windows were in control."""

    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")


class BaselineReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was declared in control, and how many windows of it later ones are ranked against."""

    model: str
    version: int
    role: Role
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    windows: int
    declared_at: str


def drift_calls(monitor: Monitor) -> list[Route]:
    """List the calls."""

    async def reports(_: Request) -> Response:
        return _json({"reports": monitor.reports()})

    async def report(request: Request) -> Response:
        model, version = _version_of(request)
        query = request.query_params
        role, bins = _role_of(query), _flag(query, "counts")
        found = None
        if _choice(query, "window", ("decided", "sliding")) == "sliding":
            found = await monitor.sliding(model, version, role, bins=bins)
        found = found or await monitor.report(model, version, role, history=_history_of(query), bins=bins)
        if found is None:
            raise UnknownModel(f"{model}:{version} is not loaded, so there is nothing to report on")
        return _json(found)

    async def declare_baseline(request: Request) -> Response:
        model, version = _version_of(request)
        period = _period_of(await limited_body(request))
        role = _role_of(request.query_params)
        declared = await monitor.declare_baseline(
            model, version, role, from_s=period.start.timestamp(), to_s=period.end.timestamp()
        )
        return _json(
            BaselineReport(
                model=model,
                version=version,
                role=role,
                start=rfc3339(declared.from_s),
                end=rfc3339(declared.to_s),
                windows=declared.windows,
                declared_at=rfc3339(declared.declared_at_s),
            )
        )

    place = "/admin/v1/drift/{model}/{version}"
    return [
        Route("/admin/v1/drift", reports),
        Route(place, report),
        Route(f"{place}/baseline", declare_baseline, methods=["POST"]),
    ]


def _version_of(request: Request) -> tuple[str, int]:
    model, digits = request.path_params["model"], request.path_params["version"]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_VERSION_DIGITS):
        raise UnknownModel(f"model '{model}' has no version '{digits[:50]}': versions are numbers")
    return model, int(digits)


def _role_of(query: Mapping[str, str]) -> Role:
    role: Role = "shadow" if _choice(query, "role", ROLES) == "shadow" else "primary"
    return role


def _history_of(query: Mapping[str, str]) -> int | None:
    given = query.get("history")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise InvalidRequest(f"query 'history': expected a number of windows, at most {HISTORY_WINDOWS}")
    return min(int(given), HISTORY_WINDOWS)


def _flag(query: Mapping[str, str], name: str) -> bool:
    return _choice(query, name, ("false", "true")) == "true"


def _choice(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Read one of some words; the first one when nothing is said."""
    given = query.get(name, choices[0])
    if given not in choices:
        raise InvalidRequest(f"query '{name}': expected {' or '.join(choices)}, got '{given[:50]}'")
    return given


def _period_of(body: bytes) -> BaselinePeriod:
    try:
        period = msgspec.convert(parse_json(body), BaselinePeriod)
    except msgspec.ValidationError as exc:
        detail, _, path = str(exc).partition(" - at `$")
        raise InvalidBaseline(((path.rstrip("`").replace(".", "/"), detail),)) from exc
    faults = [
        (f"/{name}", "expected RFC 3339 with an offset from UTC, for instance 2026-01-31T08:00:00Z")
        for name, moment in (("from", period.start), ("to", period.end))
        if moment.tzinfo is None
    ]
    if not faults and period.start >= period.end:
        faults = [("/to", f"expected a time after 'from', {period.start.astimezone(UTC).isoformat()}")]
    if faults:
        raise InvalidBaseline(tuple(faults))
    return period


def _json(value: object) -> Response:
    # msgspec writes NaN as null.
    return Response(msgspec.json.encode(value), media_type="application/json")
