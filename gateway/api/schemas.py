"""The JSON forms of requests and answers on both planes, as JSON Schema.

Describes what the others write and read; nothing is checked against it but in the tests.
"""

from __future__ import annotations

Json = dict[str, object]


def ref(name: str) -> Json:
    """Point at a form by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Json], optional: dict[str, Json] | None = None, **more: object) -> Json:
    return {"type": "object", "required": list(required), "properties": required | (optional or {}), **more}


def _list(items: Json, **more: object) -> Json:
    return {"type": "array", "items": items, **more}


_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_INTEGER: Json = {"type": "integer"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_NUMBER: Json = {"type": "number", "minimum": 0}
_ANY_OBJECT: Json = {"type": "object"}
_DATATYPE: Json = {
    "type": "string",
    "enum": [
        *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
        *("FP16", "BF16", "FP32", "FP64", "BYTES"),
    ],
}
_SCALARS: Json = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
_SIGNED_TENSOR: dict[str, Json] = {
    "name": _TEXT,
    "datatype": _DATATYPE,
    "shape": _list(_INTEGER, description="-1 takes any size."),
}
_TENSORS: dict[str, Json] = {"inputs": _list(_object(_SIGNED_TENSOR)), "outputs": _list(_object(_SIGNED_TENSOR))}
_DURATION = _object({"count": _COUNT, "ns": _COUNT})
_BATCH_TIMES = ("compute_input", "compute_infer", "compute_output")
_REQUEST_TIMES = ("success", "fail", "queue", *_BATCH_TIMES, "cache_hit", "cache_miss")
_VERSION_STATE: Json = {"type": "string", "enum": ["LOADING", "READY", "DRAINING", "UNLOADED", "FAILED"]}

COMMON: dict[str, Json] = {
    "Error": _object({"error": {"type": "string", "description": "Who, what was expected, what was got."}}),
    "Live": _object({"live": _FLAG}),
    "Ready": _object({"ready": _FLAG}),
    "Description": _object({"openapi": _TEXT, "info": _ANY_OBJECT, "paths": _ANY_OBJECT}),
    "IndexRequest": _object({}, {"ready": _FLAG}, description="With `ready`, READY versions only."),
    "LoadRequest": _object({}, {"parameters": _object({}, {"unload_dependents": _FLAG})}),
    "Index": _list(
        _object(
            {
                "name": _TEXT,
                "version": _TEXT,
                "state": {"type": "string", "enum": ["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]},
            },
            {"reason": _TEXT},
        )
    ),
}
"""Forms of both planes."""

DATA: dict[str, Json] = COMMON | {
    "Alive": _object({"status": _TEXT}),
    "ModelNames": _object({"models": _list(_TEXT)}),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
    "ModelReady": _object({"name": _TEXT, "ready": _FLAG}),
    "ModelMetadata": _object({"name": _TEXT, "versions": _list(_TEXT), "platform": _TEXT, **_TENSORS}),
    "ModelConfiguration": _object(
        {"name": _TEXT, "platform": _TEXT, "max_batch_size": _COUNT, "input": _list(_ANY_OBJECT)}
        | {"output": _list(_ANY_OBJECT)},
        description="In the words of Triton's ModelConfig.",
    ),
    "Statistics": _object(
        {
            "model_stats": _list(
                _object(
                    {
                        "name": _TEXT,
                        "version": _TEXT,
                        "last_inference": {
                            "type": "integer",
                            "description": "Milliseconds since the epoch; 0 for never.",
                        },
                        "inference_count": {"type": "integer", "description": "Rows that were answered."},
                        "execution_count": {"type": "integer", "description": "Runs that answered them."},
                        "inference_stats": _object(dict.fromkeys(_REQUEST_TIMES, _DURATION)),
                        "response_stats": _ANY_OBJECT,
                        "batch_stats": _list(
                            _object({"batch_size": _COUNT} | dict.fromkeys(_BATCH_TIMES, _DURATION)),
                        ),
                        "memory_usage": _list(_ANY_OBJECT),
                    }
                )
            )
        }
    ),
    "InferRequest": _object(
        {
            "inputs": _list(
                _object(
                    {"name": _TEXT, "shape": _list(_COUNT), "datatype": _DATATYPE},
                    {
                        "parameters": _SCALARS,
                        "data": {"type": "array", "description": "Flat, or nested as the shape says; null is NaN."},
                    },
                )
            )
        },
        {
            "id": {"type": ["string", "null"]},
            "parameters": _SCALARS,
            "outputs": {
                "type": ["array", "null"],
                "items": _object({"name": _TEXT}, {"parameters": _SCALARS}),
            },
        },
    ),
    "InferResponse": _object(
        {
            "id": _TEXT,
            "model_name": {"type": "string", "description": "The name that was asked for."},
            "model_version": {"type": "string", "description": "The version that answered."},
            "outputs": _list(
                _object(
                    {"name": _TEXT, "shape": _list(_COUNT), "datatype": _DATATYPE},
                    {
                        "parameters": _SCALARS,
                        "data": {"type": "array", "description": "Flat, row-major; null where a float is not finite."},
                    },
                )
            ),
        }
    ),
    "PredictRequest": _object(
        {},
        {
            "signature_name": {"type": ["string", "null"], "enum": ["serving_default", "", None]},
            "instances": {
                "type": "array",
                "minItems": 1,
                "description": "An example each: a value or nested list for one input, else an object by input.",
            },
            "inputs": {"description": "A whole tensor for one input, else an object of tensors by input."},
        },
        description="One of `instances` (rows) and `inputs` (columns).",
    ),
    "PredictResponse": _object(
        {},
        {
            "predictions": {"type": "array", "description": "To `instances`: an entry for each example."},
            "outputs": {"description": "To `inputs`: the tensor of the one output, else an object of tensors."},
        },
    ),
    "ModelStatus": _object(
        {
            "name": _TEXT,
            "ready": _FLAG,
            "model_version_status": _list(_object({"version": _TEXT, "state": _TEXT, "status": _ANY_OBJECT})),
        }
    ),
    "ModelSignature": _object({"model_spec": _ANY_OBJECT, "metadata": _ANY_OBJECT}),
}
"""Forms of the data plane."""

_TIME: Json = {"type": "string", "format": "date-time"}
_STATE: Json = {"type": "string", "enum": ["ok", "insufficient", "watch", "drift"]}
_MODE: Json = {"type": "string", "enum": ["iid", "calibrated"]}
_ROLE: Json = {"type": "string", "enum": ["primary", "shadow"]}
_MEASURES: Json = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
_VALUES: Json = {"type": "array", "items": {"type": ["string", "integer", "boolean"]}}
_DRIFT_WINDOW = _object({"start": _TIME, "end": _TIME, "rows": _COUNT, "attempt": _COUNT})
_DRIFT_FEATURE = _object(
    {
        "name": _TEXT,
        "role": {"type": "string", "enum": ["input", "prediction"]},
        "kind": {"type": "string", "enum": ["numeric", "categorical"]},
        "state": _STATE,
        "rows": _COUNT,
        "p_value": {"type": ["number", "null"], "description": "Before Benjamini-Hochberg."},
        "statistics": _MEASURES,
        "w1_is_lower_bound": _FLAG,
        "quality": _MEASURES,
        "reason": _TEXT,
    },
    {
        "bins": _object(
            {"reference": _list(_COUNT), "current": _list(_COUNT)},
            {"edges": _list({"type": "number"}), "values": _VALUES},
            description="Rows per bin: of a numeric feature one more than inner edges, of a categorical one a last one "
            "for all other values.",
        )
    },
)
_DRIFT_SUMMARY: dict[str, Json] = {
    "model": _TEXT,
    "version": _COUNT,
    "role": _ROLE,
    "state": _STATE,
    "mode": _MODE,
    "reference": {"type": ["string", "null"]},
    "window": {"anyOf": [_DRIFT_WINDOW, {"type": "null"}]},
    "reason": _TEXT,
    "assumptions": _list(_TEXT),
    "warnings": _list(_TEXT),
}

ADMIN: dict[str, Json] = COMMON | {
    "DriftReports": _object({"reports": _list(_object(_DRIFT_SUMMARY))}),
    "DriftReport": _object(
        _DRIFT_SUMMARY | {"features": _list(_DRIFT_FEATURE)},
        {
            "history": _list(
                _object({"state": _STATE, "mode": _MODE, "window": _DRIFT_WINDOW, "features": _list(_DRIFT_FEATURE)}),
                description="Newest first.",
            )
        },
    ),
    "BaselinePeriod": _object({"from": _TIME, "to": _TIME}),
    "Baseline": _object(
        {"model": _TEXT, "version": _COUNT, "role": _ROLE, "from": _TIME, "to": _TIME}
        | {"windows": _COUNT, "declared_at": _TIME}
    ),
    "Models": _object(
        {
            "models": _list(
                _object(
                    {
                        "name": _TEXT,
                        "versions": _list(
                            _object(
                                {"version": _COUNT, "state": _VERSION_STATE, "reason": _TEXT},
                                {
                                    "sha256": _TEXT,
                                    "providers": _list(_TEXT),
                                    "instances": _COUNT,
                                    "intra_op_threads": _COUNT,
                                    "signature": _object(_TENSORS),
                                    "batching": _object({"shares_runs": _FLAG, "reason": _TEXT, "queued_rows": _COUNT}),
                                    "memory": _object({"file_bytes": _COUNT, "grown_bytes": _COUNT}),
                                    "load_s": _NUMBER,
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
"""Forms of the admin plane."""
