"""Routes, their history and the replicas that serve them, as lines and tables for a terminal.

Asks nobody; everything comes from answers of the admin API.
"""

from __future__ import annotations

from typing import Any

from gateway.tables import text_table

Json = dict[str, Any]


def routes_table(routes: list[Json]) -> str:
    """Write a line for each route."""
    rows = [
        [
            route["name"],
            str(route["revision"]),
            _shares(route["variants"]),
            ", ".join(f"{shadow['name']} {shadow['sample']:g} %" for shadow in route["shadows"]),
            _trouble(route),
            route["reason"],
        ]
        for route in routes
    ]
    return text_table(["ROUTE", "REVISION", "VARIANTS", "SHADOWS", "TROUBLE", "REASON"], rows)


def route_line(route: Json) -> str:
    """Write a route in one line."""
    return f"{route['name']}: revision {route['revision']}: {_shares(route['variants'])}"


def route_page(route: Json, etag: str) -> str:
    """Write everything about one route."""
    status = route["status"]
    served = "not on this replica" if status is None else f"revision {status['revision']} on this replica"
    head = [
        ["route", route["name"]],
        ["revision", f"{route['revision']}  {etag}"],
        ["served", served],
        ["sticky by", route["routing_key_header"]],
        ["reason", route["reason"]],
    ]
    if status is not None and status["balance"] is not None:
        verdict = "mismatch" if status["balance"]["mismatch"] else "as promised"
        head.append(["shares", f"{verdict} (p {status['balance']['p_value']:.3g})"])
    width = max(len(key) for key, _ in head)
    lines = [f"{key.ljust(width)}  {value}".rstrip() for key, value in head]
    states = {} if status is None else {state["name"]: state for state in status["variants"]}
    variants = [
        [
            variant["name"],
            f"{variant['model']}:{variant['version']}",
            f"{variant['weight']:g} %",
            *_state(states, variant),
        ]
        for variant in route["variants"]
    ]
    lines += ["", text_table(["VARIANT", "MODEL", "WEIGHT", "READY", "BREAKER", "REASON"], variants)]
    if route["shadows"]:
        shadows = [
            [
                shadow["name"],
                f"{shadow['model']}:{shadow['version']}",
                f"{shadow['sample']:g} %",
                f"{shadow['tolerance']:g}",
            ]
            for shadow in route["shadows"]
        ]
        lines += ["", text_table(["SHADOW", "MODEL", "SAMPLE", "TOLERANCE"], shadows)]
    return "\n".join(lines)


def history_table(revisions: list[Json]) -> str:
    """Write a line for each revision."""
    rows = [
        [
            str(revision["revision"]),
            revision["at"],
            revision["actor"],
            revision["action"],
            _shares(revision["document"]["variants"]),
            revision["reason"],
        ]
        for revision in revisions
    ]
    return text_table(["REVISION", "AT", "ACTOR", "ACTION", "VARIANTS", "REASON"], rows)


def replicas_table(replicas: list[Json]) -> str:
    """Write a line for each route of each replica."""
    rows = []
    for replica in replicas:
        who = [replica["id"], replica["admin"], replica["last_seen"]]
        routes = replica["routes"] or {"": {"revision": "", "applied": True, "reason": ""}}
        for name, route in routes.items():
            applied = "" if not name else "yes" if route["applied"] else "no"
            rows.append([*who, name, str(route["revision"]), applied, route["reason"]])
    return text_table(["REPLICA", "ADMIN", "SEEN", "ROUTE", "REVISION", "APPLIED", "REASON"], rows)


def change_lines(found: Json) -> list[str]:
    """Write what a validation found: a line for each change, and the share of keys that it moves."""
    changes = found.get("changes", [])
    lines = [
        f"{change['pointer'] or 'the route'}: {_value(change['from'])} -> {_value(change['to'])}" for change in changes
    ]
    if any(change["pointer"] for change in changes):
        lines.append(f"{found['moved_percent']:g} % of the keys move")
    return lines


def _shares(variants: list[Json]) -> str:
    return ", ".join(f"{variant['name']} {variant['weight']:g} % {_model_version(variant)}" for variant in variants)


def _model_version(member: Json) -> str:
    return f"{member['model']}:{member['version']}"


def _trouble(route: Json) -> str:
    status = route["status"]
    if status is None:
        return "not served here"
    found = [] if status["revision"] == route["revision"] else [f"serves revision {status['revision']}"]
    for state in status["variants"]:
        if not state["ready"]:
            found.append(f"{state['name']} not READY")
        elif state["breaker"] is not None and state["breaker"]["state"] != "closed":
            found.append(f"{state['name']} breaker {state['breaker']['state']}")
    if status["balance"] is not None and status["balance"]["mismatch"]:
        found.append("shares not as promised")
    return ", ".join(found)


def _state(states: dict[str, Json], variant: Json) -> list[str]:
    state = states.get(variant["name"])
    if state is None:
        return ["", "", ""]
    breaker = state["breaker"]
    shown = ["", ""] if breaker is None else [breaker["state"], breaker["reason"]]
    return ["yes" if state["ready"] else "no", *shown]


def _value(value: object) -> str:
    """Write one side of a change: a number or text, a whole variant or shadow, or a whole route."""
    if not isinstance(value, dict):
        return "nothing" if value is None else str(value)
    if "variants" in value:
        return _shares(value["variants"])
    return f"{value['name']} {value.get('weight', value.get('sample')):g} % {_model_version(value)}"
