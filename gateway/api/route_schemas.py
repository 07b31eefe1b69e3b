"""The JSON forms of the calls about routes, as JSON Schema.

Describes what the others write and read; nothing is checked against it but in the tests.
"""

from __future__ import annotations

from gateway.api.schemas import COUNT, FAULTS, FLAG, NUMBER, TEXT, TIME, Json, list_form, object_form

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

ROUTES: dict[str, Json] = {
    "RouteDocument": object_form(
        {"variants": _ROUTE["variants"]},
        {key: form for key, form in _ROUTE.items() if key != "variants"}
        | {"revision": {"description": "Passed over, as is `status`: what was read may be sent back."}, "status": {}},
    ),
    "Route": _ANSWERED_ROUTE,
    "Routes": object_form({"routes": list_form(_ANSWERED_ROUTE)}),
    "Validation": object_form({"valid": FLAG, "errors": FAULTS, "moved_percent": _PERCENT, "changes": _CHANGES}),
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
                        "at": TIME,
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
                                {"request_id": TEXT, "at": TIME, "reason": TEXT, "class_flips": COUNT}
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
                    {"at": TIME, "actor": TEXT, "action": TEXT, "route": TEXT, "revision": COUNT, "reason": TEXT}
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
                        "last_seen": TIME,
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
"""Forms of the calls about routes."""
