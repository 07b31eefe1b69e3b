"""`gateway drift`: a table of what a running gateway finds in its traffic.

Decides nothing: the states are the gateway's.
"""

from __future__ import annotations

import argparse
import json
import urllib.parse
from typing import Any

from gateway.commands.arguments import NO, OK, Commands, add_admin_flags, admin_client, tell
from gateway.tables import text_table

_GRAVITY = ("drift", "watch", "insufficient", "ok")
_SHOWN = ("ks", "w1", "psi", "tvd")


def add(commands: Commands) -> None:
    """Add the command."""
    drift = commands.add(
        "drift",
        _run,
        "show which models and features drift",
        "Show the last decided window of every version; with MODEL, of its features and predictions too.",
    )
    drift.add_argument("model", nargs="?", metavar="MODEL", help="or MODEL:VERSION; default: all, without features")
    drift.add_argument("--role", choices=["primary", "shadow"], help="rows answered to callers, or seen as a shadow")
    add_admin_flags(drift)


def _run(parsed: argparse.Namespace) -> int:
    client = admin_client(parsed)
    reports = client.get("/admin/v1/drift")["reports"]
    if parsed.role:
        reports = [report for report in reports if report["role"] == parsed.role]
    if parsed.model is not None:
        name, _, version = parsed.model.partition(":")
        reports = [
            client.get(
                f"/admin/v1/drift/{urllib.parse.quote(report['model'])}/{report['version']}?role={report['role']}"
            )
            for report in reports
            if report["model"] == name and version in ("", str(report["version"]))
        ]
        if not reports:
            tell(f"gateway: nothing is known of '{parsed.model}'; `gateway drift` lists what is loaded")
            return NO
    if parsed.json:
        print(json.dumps({"reports": reports}, indent=2))
        return OK
    print(text_table(["MODEL", "VERSION", "ROLE", "STATE", "MODE", "ROWS", "WINDOW", "REASON"], _versions(reports)))
    for report in reports:
        if report.get("features"):
            print(f"\n{report['model']}:{report['version']} {report['role']}")
            print(_features(report["features"]))
        for warning in report["warnings"]:
            tell(f"{report['model']}:{report['version']}: {warning}")
    return OK


def _versions(reports: list[dict[str, Any]]) -> list[list[str]]:
    """Write a line for each report."""
    rows = []
    for report in reports:
        window = report["window"]
        rows.append(
            [
                report["model"],
                str(report["version"]),
                report["role"],
                report["state"],
                report["mode"],
                f"{window['rows']:,}" if window else "",
                f"{window['start']} to {window['end'][11:]}" if window else "",
                report["reason"],
            ]
        )
    return rows


def _features(features: list[dict[str, Any]]) -> str:
    """Write a line for each feature, the gravest first."""
    ordered = sorted(features, key=lambda feature: _GRAVITY.index(feature["state"]))
    rows = [
        [
            feature["name"],
            feature["role"],
            feature["state"],
            f"{feature['rows']:,}",
            _number(feature["p_value"]),
            *(_number(feature["statistics"][name]) for name in _SHOWN),
            ", ".join(f"{name} {ratio:.2%}" for name, ratio in feature["quality"].items() if ratio),
            feature["reason"],
        ]
        for feature in ordered
    ]
    header = ["FEATURE", "ROLE", "STATE", "ROWS", "P", *(name.upper() for name in _SHOWN), "QUALITY", "REASON"]
    return text_table(header, rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
