"""The JSON forms of requests and answers on the data plane, and of both planes, as JSON Schema.

Describes what the others write and read; nothing is checked against it but in the tests.
"""

from __future__ import annotations

Json = dict[str, object]


def ref(name: str) -> Json:
    """Point at a form by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_form(required: dict[str, Json], optional: dict[str, Json] | None = None, **more: object) -> Json:
    """Describe an object by what it must and what it may have."""
    return {"type": "object", "required": list(required), "properties": required | (optional or {}), **more}


def list_form(items: Json, **more: object) -> Json:
    """Describe a list."""
    return {"type": "array", "items": items, **more}


TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
INTEGER: Json = {"type": "integer"}
COUNT: Json = {"type": "integer", "minimum": 0}
NUMBER: Json = {"type": "number", "minimum": 0}
TIME: Json = {"type": "string", "format": "date-time"}
ANY_OBJECT: Json = {"type": "object"}
_DATATYPE: Json = {
    "type": "string",
    "enum": [
        *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
        *("FP16", "BF16", "FP32", "FP64", "BYTES"),
    ],
}
_SCALARS: Json = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
_SIGNED_TENSOR: dict[str, Json] = {
    "name": TEXT,
    "datatype": _DATATYPE,
    "shape": list_form(INTEGER, description="-1 takes any size."),
}
TENSORS: dict[str, Json] = {
    "inputs": list_form(object_form(_SIGNED_TENSOR)),
    "outputs": list_form(object_form(_SIGNED_TENSOR)),
}
_DURATION = object_form({"count": COUNT, "ns": COUNT})
_BATCH_TIMES = ("compute_input", "compute_infer", "compute_output")
_REQUEST_TIMES = ("success", "fail", "queue", *_BATCH_TIMES, "cache_hit", "cache_miss")

FAULTS = list_form(
    object_form({"pointer": {"type": "string", "description": "JSON pointer into the body."}, "detail": TEXT})
)

COMMON: dict[str, Json] = {
    "Error": object_form({"error": {"type": "string", "description": "Who, what was expected, what was got."}}),
    "Live": object_form({"live": FLAG}),
    "Ready": object_form({"ready": FLAG}),
    "Description": object_form({"openapi": TEXT, "info": ANY_OBJECT, "paths": ANY_OBJECT}),
    "IndexRequest": object_form({}, {"ready": FLAG}, description="With `ready`, READY versions only."),
    "LoadRequest": object_form({}, {"parameters": object_form({}, {"unload_dependents": FLAG})}),
    "Index": list_form(
        object_form(
            {
                "name": TEXT,
                "version": TEXT,
                "state": {"type": "string", "enum": ["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]},
            },
            {"reason": TEXT},
        )
    ),
}
"""Forms of both planes."""

DATA: dict[str, Json] = COMMON | {
    "Alive": object_form({"status": TEXT}),
    "ModelNames": object_form({"models": list_form(TEXT)}),
    "ServerMetadata": object_form({"name": TEXT, "version": TEXT, "extensions": list_form(TEXT)}),
    "ModelReady": object_form({"name": TEXT, "ready": FLAG}),
    "ModelMetadata": object_form({"name": TEXT, "versions": list_form(TEXT), "platform": TEXT, **TENSORS}),
    "ModelConfiguration": object_form(
        {"name": TEXT, "platform": TEXT, "max_batch_size": COUNT, "input": list_form(ANY_OBJECT)}
        | {"output": list_form(ANY_OBJECT)},
        description="In the words of Triton's ModelConfig.",
    ),
    "Statistics": object_form(
        {
            "model_stats": list_form(
                object_form(
                    {
                        "name": TEXT,
                        "version": TEXT,
                        "last_inference": {
                            "type": "integer",
                            "description": "Milliseconds since the epoch; 0 for never.",
                        },
                        "inference_count": {"type": "integer", "description": "Rows that were answered."},
                        "execution_count": {"type": "integer", "description": "Runs that answered them."},
                        "inference_stats": object_form(dict.fromkeys(_REQUEST_TIMES, _DURATION)),
                        "response_stats": ANY_OBJECT,
                        "batch_stats": list_form(
                            object_form({"batch_size": COUNT} | dict.fromkeys(_BATCH_TIMES, _DURATION)),
                        ),
                        "memory_usage": list_form(ANY_OBJECT),
                    }
                )
            )
        }
    ),
    "InferRequest": object_form(
        {
            "inputs": list_form(
                object_form(
                    {"name": TEXT, "shape": list_form(COUNT), "datatype": _DATATYPE},
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
                "items": object_form({"name": TEXT}, {"parameters": _SCALARS}),
            },
        },
    ),
    "InferResponse": object_form(
        {
            "id": TEXT,
            "model_name": {"type": "string", "description": "The name that was asked for."},
            "model_version": {"type": "string", "description": "The version that answered."},
            "outputs": list_form(
                object_form(
                    {"name": TEXT, "shape": list_form(COUNT), "datatype": _DATATYPE},
                    {
                        "parameters": _SCALARS,
                        "data": {"type": "array", "description": "Flat, row-major; null where a float is not finite."},
                    },
                )
            ),
        }
    ),
    "PredictRequest": object_form(
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
    "PredictResponse": object_form(
        {},
        {
            "predictions": {"type": "array", "description": "To `instances`: an entry for each example."},
            "outputs": {"description": "To `inputs`: the tensor of the one output, else an object of tensors."},
        },
    ),
    "ModelStatus": object_form(
        {
            "name": TEXT,
            "ready": FLAG,
            "model_version_status": list_form(object_form({"version": TEXT, "state": TEXT, "status": ANY_OBJECT})),
        }
    ),
    "ModelSignature": object_form({"model_spec": ANY_OBJECT, "metadata": ANY_OBJECT}),
}
"""Forms of the data plane."""
