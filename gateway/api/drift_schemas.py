"""The JSON forms of the calls about drift, as JSON Schema.

Describes what the others write and read; nothing is checked against it but in the tests.
"""

from __future__ import annotations

from gateway.api.schemas import COUNT, FLAG, TEXT, TIME, Json, list_form, object_form

_STATE: Json = {"type": "string", "enum": ["ok", "insufficient", "watch", "drift"]}
_MODE: Json = {"type": "string", "enum": ["iid", "calibrated"]}
_ROLE: Json = {"type": "string", "enum": ["primary", "shadow"]}
_MEASURES: Json = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
_VALUES: Json = {"type": "array", "items": {"type": ["string", "integer", "boolean"]}}
_DRIFT_WINDOW = object_form({"start": TIME, "end": TIME, "rows": COUNT, "attempt": COUNT})
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

DRIFT: dict[str, Json] = {
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
            "window": {"anyOf": [object_form({"start": TIME, "end": TIME}), {"type": "null"}]},
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
    "BaselinePeriod": object_form({"from": TIME, "to": TIME}),
    "Baseline": object_form(
        {"model": TEXT, "version": COUNT, "role": _ROLE, "from": TIME, "to": TIME}
        | {"windows": COUNT, "declared_at": TIME}
    ),
}
"""Forms of the calls about drift."""
