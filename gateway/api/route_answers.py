"""What the admin API says of routes: statuses, revisions, audit records, shadows and replicas as JSON objects.

Pure; asks nobody and decides nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from gateway.api.problems import quoted
from gateway.api.v2 import Json
from gateway.route_health import RouteStatus
from gateway.routing.agreement import WorstRequest
from gateway.shadow_lane import ShadowAgreement
from gateway.store.records import AuditRecord, ReplicaReport, RouteRecord


def route_status(status: RouteStatus) -> Json:
    """Write how a route does on this replica."""
    names, balance = [variant.name for variant in status.variants], status.balance
    return {
        "variants": [
            {
                "name": variant.name,
                "ready": variant.is_ready,
                "breaker": None if variant.breaker is None else msgspec.to_builtins(variant.breaker),
            }
            for variant in status.variants
        ],
        "balance": None
        if balance is None
        else {
            "mismatch": balance.is_mismatch,
            "p_value": balance.p_value,
            "sticky": dict(zip(names, balance.sticky, strict=True)),
            "sampled": balance.sampled,
            "random": dict(zip(names, balance.random, strict=True)),
        },
    }


def agreement(found: ShadowAgreement) -> Json:
    """Write how far a shadow agrees with the answers that callers got."""
    worst = msgspec.convert(found.summary["worst"], list[WorstRequest])
    return {
        "name": found.name,
        "model": found.model,
        "version": found.version,
        "requests": found.requests,
        "dropped": found.dropped,
        **found.summary,
        "worst": [msgspec.to_builtins(request) | {"at": _timestamp(request.at)} for request in worst],
    }


def revision(record: RouteRecord) -> Json:
    """Write one revision of the history; its document may be sent back."""
    document: Json = msgspec.json.decode(record.content.document) if record.content is not None else {}
    return {
        "revision": record.revision,
        "document": document | {"reason": record.reason},
        "action": record.action,
        "actor": record.actor,
        "reason": record.reason,
        "at": _timestamp(record.at),
        "etag": quoted(record.position.etag),
    }


def audited(record: AuditRecord) -> Json:
    """Write who did what, when and why."""
    return {
        "at": _timestamp(record.at),
        "actor": record.actor,
        "action": record.action,
        "route": record.route,
        "revision": record.revision,
        "reason": record.reason,
        "request_id": record.request_id,
        "changes": list(record.changes),
    }


def replica(report: ReplicaReport) -> Json:
    """Write which revisions a replica serves, or why it cannot."""
    return {
        "id": report.id,
        "admin": report.admin,
        "last_seen": _timestamp(report.last_seen),
        "routes": {name: msgspec.to_builtins(applied) for name, applied in sorted(report.routes.items())},
    }


def _timestamp(seconds: float) -> str:
    """Write a time since 1970 as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
