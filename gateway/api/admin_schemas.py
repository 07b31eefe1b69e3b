"""The JSON forms of requests and answers on the admin plane, as JSON Schema.

Describes what the others write and read; nothing is checked against it but in the tests.
"""

from __future__ import annotations

from gateway.api.schemas import COMMON, COUNT, FLAG, NUMBER, TENSORS, TEXT, Json, list_form, object_form

_VERSION_STATE: Json = {"type": "string", "enum": ["LOADING", "READY", "DRAINING", "UNLOADED", "FAILED"]}

_TIME: Json = {"type": "string", "format": "date-time"}
_STATE: Json = {"type": "string", "enum": ["ok", "insufficient", "watch", "drift"]}
_MODE: Json = {"type": "string", "enum": ["iid", "calibrated"]}
_ROLE: Json = {"type": "string", "enum": ["primary", "shadow"]}
_MEASURES: Json = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
_VALUES: Json = {"type": "array", "items": {"type": ["string", "integer", "boolean"]}}
_DRIFT_WINDOW = object_form({"start": _TIME, "end": _TIME, "rows": COUNT, "attempt": COUNT})
_DRIFT_FEATURE = object_form(
    {
        "name": TEXT,
        "role": {"type": "string", "enum": ["input", "prediction"]},
        "kind": {"type": "string", "enum": ["numeric", "categorical"]},
        "state": _STATE,
        "rows": COUNT,
        "p_value": {"type": ["number", "null"], "description": "Before Benjamini-Hochberg."},
        "statistics": _MEASURES,
        "w1_is_lower_bound": FLAG,
        "quality": _MEASURES,
        "reason": TEXT,
    },
    {
        "bins": object_form(
            {"reference": list_form(COUNT), "current": list_form(COUNT)},
            {"edges": list_form({"type": "number"}), "values": _VALUES},
            description="Rows per bin: of a numeric feature one more than inner edges, of a categorical one a last one "
            "for all other values.",
        )
    },
)
_DRIFT_SUMMARY: dict[str, Json] = {
    "model": TEXT,
    "version": COUNT,
    "role": _ROLE,
    "state": _STATE,
    "mode": _MODE,
    "reference": {"type": ["string", "null"]},
    "window": {"anyOf": [_DRIFT_WINDOW, {"type": "null"}]},
    "reason": TEXT,
    "assumptions": list_form(TEXT),
    "warnings": list_form(TEXT),
}

_NAME: Json = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
_PERCENT: Json = {"type": "number", "minimum": 0, "description": "At most two decimals."}
_VARIANT = object_form({"name": _NAME, "model": _NAME, "version": COUNT, "weight": _PERCENT})
_SHADOW = object_form(
    {"name": _NAME, "model": _NAME, "version": COUNT},
    {"sample": _PERCENT, "tolerance": {"type": "number", "minimum": 0}},
)
_ROUTE: dict[str, Json] = {
    "name": _NAME,
    "variants": list_form(_VARIANT, minItems=1, description="The first one takes the rest, and what falls back."),
    "shadows": list_form(_SHADOW),
    "routing_key_header": TEXT,
    "reason": TEXT,
}
_BREAKER = object_form(
    {
        "state": {"type": "string", "enum": ["closed", "open", "half_open"]},
        "reason": TEXT,
        "times_opened": COUNT,
        "retry_in_s": NUMBER,
        "window_requests": COUNT,
        "window_errors": COUNT,
    }
)
_COUNTS: Json = {"type": "object", "additionalProperties": COUNT}
_ROUTE_STATUS = object_form(
    {
        "revision": {"type": "integer", "description": "Served by this replica."},
        "variants": list_form(
            object_form({"name": TEXT, "ready": FLAG, "breaker": {"anyOf": [_BREAKER, {"type": "null"}]}})
        ),
        "balance": {
            "anyOf": [
                object_form(
                    {"mismatch": FLAG, "p_value": NUMBER, "sticky": _COUNTS, "sampled": NUMBER, "random": _COUNTS},
                    description="Whether the variants get the shares that their weights promise, by distinct keys "
                    "and by requests without one.",
                ),
                {"type": "null"},
            ]
        },
    }
)
_ANSWERED_ROUTE = object_form(
    _ROUTE | {"revision": COUNT, "status": {"anyOf": [_ROUTE_STATUS, {"type": "null"}]}},
    description="The document, its revision, and how it does on the replica that was asked (null: not served there).",
)
_CHANGES = list_form(object_form({"pointer": TEXT, "from": {}, "to": {}}))
_FAULTS = list_form(
    object_form({"pointer": {"type": "string", "description": "JSON pointer into the body."}, "detail": TEXT})
)

ADMIN: dict[str, Json] = COMMON | {
    "DriftReports": object_form({"reports": list_form(object_form(_DRIFT_SUMMARY))}),
    "DriftReport": object_form(
        _DRIFT_SUMMARY | {"features": list_form(_DRIFT_FEATURE)},
        {
            "history": list_form(
                object_form(
                    {"state": _STATE, "mode": _MODE, "window": _DRIFT_WINDOW, "features": list_form(_DRIFT_FEATURE)}
                ),
                description="Newest first.",
            )
        },
    ),
    "RouteComparison": object_form(
        {
            "route": TEXT,
            "revision": COUNT,
            "window": {"anyOf": [object_form({"start": _TIME, "end": _TIME}), {"type": "null"}]},
            "predictions": list_form(
                object_form(
                    {
                        "name": TEXT,
                        "kind": {"type": "string", "enum": ["numeric", "categorical"]},
                        "edges": list_form({"type": "number"}),
                        "values": _VALUES,
                        "variants": list_form(
                            object_form(
                                {
                                    "variant": TEXT,
                                    "model": TEXT,
                                    "version": COUNT,
                                    "rows": COUNT,
                                    "counts": list_form(COUNT),
                                    "p_value": {"type": ["number", "null"]},
                                    "statistics": _MEASURES,
                                }
                            )
                        ),
                    }
                )
            ),
            "reason": TEXT,
        },
        description="The first variant first; p-values and statistics are against it.",
    ),
    "BaselinePeriod": object_form({"from": _TIME, "to": _TIME}),
    "Baseline": object_form(
        {"model": TEXT, "version": COUNT, "role": _ROLE, "from": _TIME, "to": _TIME}
        | {"windows": COUNT, "declared_at": _TIME}
    ),
    "Problem": object_form(
        {
            "type": {"type": "string", "description": "Stable; urn:onnx-gateway:problem: and the failure's name."},
            "title": TEXT,
            "status": COUNT,
            "detail": {"type": "string", "description": "Who, what was expected, what was got."},
            "error": {"type": "string", "description": "The detail once more, where the other errors have it."},
            "instance": {"type": "string", "description": "The path that was asked for."},
            "request_id": TEXT,
        },
        {
            "errors": list_form(
                object_form(
                    {"pointer": {"type": "string", "description": "JSON pointer into the body."}, "detail": TEXT}
                )
            ),
            "etag": {"type": ["string", "null"], "description": "With 412: where the route is; null for nowhere."},
            "outcome": {
                "type": "string",
                "enum": ["not_written", "unknown"],
                "description": "With 503: whether the change may have been made; when unknown, read again.",
            },
            "known": {"type": ["string", "null"], "description": "With 409: the entity tag this replica obeys."},
            "stored": {"type": ["string", "null"], "description": "With 409: the entity tag the store holds."},
        },
        description="Problem details of RFC 9457.",
    ),
    "Models": object_form(
        {
            "models": list_form(
                object_form(
                    {
                        "name": TEXT,
                        "versions": list_form(
                            object_form(
                                {"version": COUNT, "state": _VERSION_STATE, "reason": TEXT},
                                {
                                    "sha256": TEXT,
                                    "providers": list_form(TEXT),
                                    "instances": COUNT,
                                    "intra_op_threads": COUNT,
                                    "signature": object_form(TENSORS),
                                    "batching": object_form(
                                        {"shares_runs": FLAG, "reason": TEXT, "queued_rows": COUNT}
                                    ),
                                    "memory": object_form({"file_bytes": COUNT, "grown_bytes": COUNT}),
                                    "load_s": NUMBER,
                                    "manifest": {"type": ["object", "null"]},
                                },
                                description="What follows the reason is there for READY versions.",
                            )
                        ),
                    }
                )
            )
        }
    ),
    "RouteDocument": object_form(
        {"variants": _ROUTE["variants"]},
        {key: form for key, form in _ROUTE.items() if key != "variants"}
        | {"revision": {"description": "Passed over, as is `status`: what was read may be sent back."}, "status": {}},
    ),
    "Route": _ANSWERED_ROUTE,
    "Routes": object_form({"routes": list_form(_ANSWERED_ROUTE)}),
    "Validation": object_form({"valid": FLAG, "errors": _FAULTS, "moved_percent": _PERCENT, "changes": _CHANGES}),
    "Shift": object_form(
        {"weights": {"type": "object", "additionalProperties": _PERCENT, "description": "Percent by variant."}},
        {"reason": TEXT},
    ),
    "Abort": object_form({}, {"shadows": {"type": "boolean", "description": "Remove them too."}, "reason": TEXT}),
    "Rollback": object_form(
        {}, {"revision": {"type": "integer", "minimum": 1, "description": "Default: the one before."}, "reason": TEXT}
    ),
    "Reason": object_form({}, {"reason": TEXT}),
    "History": object_form(
        {
            "revisions": list_form(
                object_form(
                    {
                        "revision": COUNT,
                        "document": object_form(_ROUTE),
                        "action": TEXT,
                        "actor": TEXT,
                        "reason": TEXT,
                        "at": _TIME,
                        "etag": TEXT,
                    }
                ),
                description="Newest first.",
            )
        }
    ),
    "Shadows": object_form(
        {
            "shadows": list_form(
                object_form(
                    {
                        "name": TEXT,
                        "model": TEXT,
                        "version": COUNT,
                        "requests": {"type": "object", "additionalProperties": COUNT, "description": "By result."},
                        "dropped": {"type": "object", "additionalProperties": COUNT, "description": "By reason."},
                        "matches": COUNT,
                        "mismatches": COUNT,
                        "errors": COUNT,
                        "rows": COUNT,
                        "class_flips": COUNT,
                        "absolute": object_form({"edges": list_form(NUMBER), "rows": list_form(COUNT)}),
                        "relative": object_form({"edges": list_form(NUMBER), "rows": list_form(COUNT)}),
                        "latency_ratio": object_form({"edges": list_form(NUMBER), "requests": list_form(COUNT)}),
                        "worst": list_form(
                            object_form(
                                {"request_id": TEXT, "at": _TIME, "reason": TEXT, "class_flips": COUNT}
                                | {"difference": {"type": ["number", "null"]}}
                            ),
                            description="The requests that differed most.",
                        ),
                    }
                )
            )
        }
    ),
    "Audit": object_form(
        {
            "records": list_form(
                object_form(
                    {"at": _TIME, "actor": TEXT, "action": TEXT, "route": TEXT, "revision": COUNT, "reason": TEXT}
                    | {"request_id": TEXT, "changes": _CHANGES}
                ),
                description="Newest first.",
            )
        }
    ),
    "Replicas": object_form(
        {
            "replicas": list_form(
                object_form(
                    {
                        "id": TEXT,
                        "admin": {"type": "string", "description": "URL of its admin plane."},
                        "last_seen": _TIME,
                        "routes": {
                            "type": "object",
                            "additionalProperties": object_form({"revision": COUNT, "applied": FLAG, "reason": TEXT}),
                        },
                    }
                )
            )
        }
    ),
}
"""Forms of the admin plane."""
