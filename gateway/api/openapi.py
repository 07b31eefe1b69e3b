"""OpenAPI 3.1 descriptions of both planes, each served by its own listener.

Written beside the code it describes; a test walks the paths and statuses of both against the running server.
"""

from __future__ import annotations

from gateway import __version__

Json = dict[str, object]

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "Who, what was expected, what was got."}},
}
_SCALARS: Json = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
_DATATYPES = [
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "BF16", "FP32", "FP64", "BYTES"),
]
_INFER_REQUEST: Json = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": _SCALARS,
        "inputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    "datatype": {"type": "string", "enum": _DATATYPES},
                    "parameters": _SCALARS,
                    "data": {"type": "array", "description": "Flat, or nested as the shape says; null is NaN."},
                },
            },
        },
        "outputs": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _SCALARS},
            },
        },
    },
}
_INFER_RESPONSE: Json = {
    "type": "object",
    "required": ["id", "model_name", "model_version", "outputs"],
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string", "description": "The name that was asked for."},
        "model_version": {"type": "string", "description": "The version that answered."},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "datatype": {"type": "string", "enum": _DATATYPES},
                    "parameters": _SCALARS,
                    "data": {"type": "array", "description": "Flat, row-major; null where a float is not finite."},
                },
            },
        },
    },
}
_PREDICT_REQUEST: Json = {
    "type": "object",
    "description": "One of `instances` (rows) and `inputs` (columns).",
    "properties": {
        "signature_name": {"type": ["string", "null"], "enum": ["serving_default", "", None]},
        "instances": {
            "type": "array",
            "minItems": 1,
            "description": "An example each: a value or nested list where there is one input, else an object by input.",
        },
        "inputs": {"description": "A whole tensor where there is one input, else an object of tensors by input."},
    },
}
_PREDICT_RESPONSE: Json = {
    "type": "object",
    "properties": {
        "predictions": {"type": "array", "description": "To `instances`: an entry for each example."},
        "outputs": {"description": "To `inputs`: the tensor of the one output, else an object of tensors by output."},
    },
}
_INFER_ERRORS = {
    400: "The request is wrong.",
    404: "No such model or version, or unloaded.",
    408: "The request did not arrive whole in time.",
    413: "The body, a tensor, or more rows than the queue can ever hold.",
    415: "The content encoding is neither gzip nor deflate.",
    431: "The headers are too large.",
    500: "The model failed on these inputs.",
    503: "Overloaded, or known but not READY; Retry-After says when to try again.",
    504: "The deadline passed.",
}
_MODEL: Json = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION: Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def data_description() -> Json:
    """Describe the data plane."""
    paths: dict[str, Json] = {
        "/v2": {"get": _get("The server and its extensions")},
        "/v2/health/live": {"get": _get("Whether the process runs")},
        "/v2/health/ready": {"get": _get("Whether traffic may come", {503: "Not ready."})},
        "/": {"get": _get("Whether the process runs, as KServe's v1 client asks")},
        "/v1/models": {"get": _get("Names that can be asked for")},
        "/v2/models": {"get": _get("Names that can be asked for")},
        "/v2/models/stats": {"get": _get("Statistics of every READY version")},
        "/openapi.json": {"get": _get("This description")},
        **_repository_paths({403: "Switched off here; use the admin port."}),
    }
    for base, parameters in (
        ("/v2/models/{model}", [_MODEL]),
        ("/v2/models/{model}/versions/{version}", [_MODEL, _VERSION]),
    ):
        unknown = {404: "No such model or version, or unloaded.", 503: "Known but not READY."}
        paths[base] = {"parameters": parameters, "get": _get("Inputs and outputs", unknown)}
        paths[f"{base}/ready"] = {"parameters": parameters, "get": _get("Whether it is READY", unknown)}
        paths[f"{base}/config"] = {"parameters": parameters, "get": _get("Settings, as Triton writes them", unknown)}
        paths[f"{base}/stats"] = {"parameters": parameters, "get": _get("Counters since the load", unknown)}
        paths[f"{base}/infer"] = {"parameters": parameters, "post": _infer()}
        older = base.replace("/v2/", "/v1/")
        paths[older] = {"parameters": parameters, "get": _get("States of its versions", unknown)}
        paths[f"{older}/metadata"] = {"parameters": parameters, "get": _get("Inputs and outputs", unknown)}
        paths[f"{older}:predict"] = {"parameters": parameters, "post": _predict()}
    return _document("onnx-gateway data plane", paths)


def admin_description() -> Json:
    """Describe the admin plane."""
    change_errors = {400: "The version cannot be loaded; the text says why.", 404: "No such model or version."}
    model_paths: dict[str, Json] = {
        f"/admin/v1/models/{{model}}/versions/{{version}}/{action}": {
            "parameters": [_MODEL, _VERSION],
            "post": _operation(
                f"{action.capitalize()} a version on this replica", errors=change_errors | {409: "In use."}
            ),
        }
        for action in ("load", "unload")
    }
    paths: dict[str, Json] = {
        "/livez": {"get": _get("Whether the process runs; depends on nothing else")},
        "/readyz": {"get": _get("Whether traffic may come", {503: "Not ready."})},
        "/metrics": {
            "get": {
                "summary": "Prometheus text",
                "responses": {"200": {"description": "Every series.", "content": {"text/plain": {}}}},
            }
        },
        "/openapi.json": {"get": _get("This description")},
        "/admin/v1/models": {"get": _get("Models, versions, states, reasons, signatures, batching, memory")},
        **model_paths,
        **_repository_paths({}),
    }
    return _document("onnx-gateway admin plane", paths)


def _repository_paths(refusals: dict[int, str]) -> dict[str, Json]:
    errors = {400: "The body is not what this call takes, or the load failed.", 404: "No such model."} | refusals
    paths: dict[str, Json] = {
        "/v2/repository/index": {"post": _operation("Every model version and its state", errors={400: "Wrong body."})}
    }
    for action in ("load", "unload"):
        paths[f"/v2/repository/models/{{model}}/{action}"] = {
            "parameters": [_MODEL],
            "post": _operation(f"{action.capitalize()} a model's versions on this replica", errors=errors),
        }
    return paths


def _infer() -> Json:
    binary = _header(
        "inference-header-content-length",
        "Bytes of the JSON part when binary tensors follow it; 0 for a raw body.",
        {"type": "integer", "minimum": 0},
    )
    operation = _operation("Predict", errors=_INFER_ERRORS, answer=_INFER_RESPONSE)
    return operation | {
        "parameters": [*_infer_headers(), binary],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _INFER_REQUEST},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
    }


def _predict() -> Json:
    errors = _INFER_ERRORS | {501: "A label, or another verb than predict."}
    return _operation("Predict", errors=errors, answer=_PREDICT_RESPONSE) | {
        "parameters": _infer_headers(),
        "requestBody": {"required": True, "content": {"application/json": {"schema": _PREDICT_REQUEST}}},
    }


def _infer_headers() -> list[Json]:
    text: Json = {"type": "string"}
    milliseconds: Json = {"type": "integer", "minimum": 1}
    return [
        _header("x-request-id", "Echoed; made up when absent.", text),
        _header("x-routing-key", "Sticky assignment to a variant.", text),
        _header("x-gateway-variant", "Asks for a variant by name.", text),
        _header("x-request-timeout-ms", "The answer is worthless after this long.", milliseconds),
    ]


def _header(name: str, says: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "required": False, "description": says, "schema": schema}


def _get(summary: str, errors: dict[int, str] | None = None) -> Json:
    return _operation(summary, errors=errors or {})


def _operation(summary: str, *, errors: dict[int, str], answer: Json | None = None) -> Json:
    ok: Json = {"description": "Done.", "content": {"application/json": {"schema": answer or {}}}}
    refused: dict[str, Json] = {
        str(status): {"description": says, "content": {"application/json": {"schema": _ERROR}}}
        for status, says in errors.items()
    }
    return {"summary": summary, "responses": {"200": ok, **refused}}


def _document(title: str, paths: dict[str, Json]) -> Json:
    return {"openapi": "3.1.0", "info": {"title": title, "version": __version__}, "paths": paths}
