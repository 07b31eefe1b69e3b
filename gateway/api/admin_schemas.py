"""The JSON forms of requests and answers on the admin plane, as JSON Schema.

Describes what the others write and read; nothing is checked against it but in the tests.
"""

from __future__ import annotations

from gateway.api.drift_schemas import DRIFT
from gateway.api.route_schemas import ROUTES
from gateway.api.schemas import COMMON, COUNT, FAULTS, FLAG, NUMBER, TENSORS, TEXT, Json, list_form, object_form

_VERSION_STATE: Json = {"type": "string", "enum": ["LOADING", "READY", "DRAINING", "UNLOADED", "FAILED"]}


ADMIN: dict[str, Json] = (
    COMMON
    | ROUTES
    | DRIFT
    | {
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
                "errors": FAULTS,
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
    }
)
"""Forms of the admin plane."""
