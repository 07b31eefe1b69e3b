"""The OpenAPI 3.1 description of the admin plane, noun by noun.

Written beside the code it describes; tests hold every answer they see against it.
"""

from __future__ import annotations

from gateway.api.admin_schemas import ADMIN
from gateway.api.auth import OPEN_PATHS, scopes_for
from gateway.api.openapi import (
    EVERYWHERE,
    MODEL,
    VERSION,
    document,
    get,
    header,
    json_form,
    operation,
    query,
    repository_paths,
)
from gateway.api.problems import PROBLEM_JSON
from gateway.api.schemas import Json, ref

_REFUSED = {
    401: "No token, or none that is known; where there are tokens.",
    403: "The token lacks the scope, or a page of another site made the call.",
}
_PROBLEM: Json = {PROBLEM_JSON: {"schema": ref("Problem")}}
_ROUTE: Json = {"name": "route", "in": "path", "required": True, "schema": {"type": "string"}}
_CHANGE_ERRORS = {
    400: "The version cannot be loaded; the detail says why.",
    404: "No such model or version.",
    409: "A route names it.",
}


def admin_description() -> Json:
    """Describe the admin plane."""
    paths = _replica_paths() | _model_paths() | _route_paths() | _drift_paths() | repository_paths({})
    guarded = {
        path: {key: _guarded(path, key.upper(), part) for key, part in item.items()} for path, item in paths.items()
    }
    return document("onnx-gateway admin plane", guarded, ADMIN)


def call(
    summary: str,
    form: str = "",
    errors: dict[int, str] | None = None,
    *,
    body: str = "",
    also: tuple[int, ...] = (),
) -> Json:
    """Describe a call below /admin/v1, whose refusals are problem details.

    Args:
        form: Of the answer; "" for 204 and no body.
        errors: Beside those that any address may answer.
        body: Form of what is sent; "" for nothing.
        also: Statuses of success beside 200.
    """
    done: Json = {"description": "Done.", **({"content": json_form(form)} if form else {})}
    responses = {str(status): done for status in ((200, *also) if form else (204,))}
    for status, says in sorted((EVERYWHERE | (errors or {})).items()):
        # What the listener itself refuses, before anybody read the path, has the data plane's form.
        content = _PROBLEM | json_form("Error") if status in EVERYWHERE else _PROBLEM
        responses[str(status)] = {"description": says, "content": content}
    sent: Json = {"requestBody": {"required": False, "content": json_form(body)}} if body else {}
    return {"summary": summary, "responses": responses} | sent


def _replica_paths() -> dict[str, Json]:
    return {
        "/livez": {"get": get("Whether the process runs; depends on nothing else", "Live")},
        "/readyz": {"get": get("Whether traffic may come", "Ready", refusal="Ready")},
        "/metrics": {"get": operation("Prometheus text", {}, {"text/plain": {"schema": {"type": "string"}}})},
        "/openapi.json": {"get": get("This description", "Description")},
        "/console": {"get": operation("A page for people", {}, {"text/html": {"schema": {"type": "string"}}})},
    }


def _model_paths() -> dict[str, Json]:
    paths: dict[str, Json] = {
        "/admin/v1/models": {"get": call("Models: states, reasons, signatures, batching, memory", "Models")}
    }
    for action in ("load", "unload"):
        paths[f"/admin/v1/models/{{model}}/versions/{{version}}/{action}"] = {
            "parameters": [MODEL, VERSION],
            "post": call(f"{action.capitalize()} a version on this replica", "Models", _CHANGE_ERRORS),
        }
    return paths


def _route_paths() -> dict[str, Json]:
    unknown = {404: "No such route.", 503: "The store is away; the outcome says whether anything was written."}
    unreadable = unknown | {500: "This release cannot read what is stored."}
    bad = {400: "The body is not JSON, or a header cannot be read.", 422: "A fault for each pointer."}
    moved = {412: "The route is elsewhere; ETag says where."}
    regressed = {409: "The store went back; adopt what it holds, or bring it back."}
    changing = unreadable | bad | regressed
    tag = header("if-match", "The entity tag of the revision that is meant, or *.", {"type": "string"})
    new = header("if-none-match", "Only *: to create.", {"type": "string"})
    limit = query("limit", "Of records, at most 1000.", {"type": "integer", "minimum": 1})
    stated = moved | {428: "Neither If-Match nor If-None-Match: *."}
    place = "/admin/v1/routes/{route}"
    acts: dict[str, Json] = {
        "validate": call("What a PUT of this document would do", "Validation", {400: bad[400]}, body="RouteDocument"),
        "shift": call("Move weights; the first variant takes the rest", "Route", changing | moved, body="Shift")
        | {"parameters": [tag]},
        "abort": call("Everything to the first variant, now", "Route", changing, body="Abort"),
        "rollback": call("An earlier document, with its slots", "Route", changing | moved, body="Rollback")
        | {"parameters": [tag]},
        "adopt": call("Accept what a store holds that went back", "Route", changing | moved, body="Reason"),
    }
    return {
        "/admin/v1/routes": {"get": call("Every route", "Routes")},
        place: {
            "parameters": [_ROUTE],
            "get": call("One route; its ETag is what a change needs", "Route", unreadable),
            "put": call("Create a route, or replace it", "Route", changing | stated, body="RouteDocument", also=(201,))
            | {"parameters": [tag, new]},
            "delete": call("Delete a route", "", changing | stated, body="Reason") | {"parameters": [tag]},
        },
        **{f"{place}/{name}": {"parameters": [_ROUTE], "post": act} for name, act in acts.items()},
        f"{place}/history": {"parameters": [_ROUTE], "get": call("Its revisions still kept", "History", unknown)},
        f"{place}/shadows": {
            "parameters": [_ROUTE],
            "get": call("How far each shadow agrees with what callers got, on this replica", "Shadows", unreadable),
        },
        "/admin/v1/audit": {
            "get": call("Who did what, when and why", "Audit", {400: "A query is wrong."}) | {"parameters": [limit]}
        },
        "/admin/v1/replicas": {"get": call("Which replica serves which revision, or why it cannot", "Replicas")},
    }


def _drift_paths() -> dict[str, Json]:
    unknown = {404: "No such version is loaded.", 503: "The store does not answer."}
    role = query("role", "Rows answered to callers, or seen as a shadow.", {"enum": ["primary", "shadow"]})
    report = call("The last decided window of a version", "DriftReport", unknown | {400: "A query is wrong."})
    baseline = call(
        "Declare the windows of a period in control: later ones are ranked against them, on every replica",
        "Baseline",
        unknown | {400: "The body is not JSON.", 422: "No period, or fewer than 200 windows with enough rows in it."},
        body="BaselinePeriod",
    )
    return {
        "/admin/v1/drift": {"get": call("The state of every version, without its features", "DriftReports")},
        "/admin/v1/drift/{model}/{version}": {
            "parameters": [MODEL, VERSION],
            "get": report
            | {
                "parameters": [
                    role,
                    query("history", "Adds so many earlier windows, at most 500.", {"type": "integer", "minimum": 0}),
                    query("counts", "Adds the rows per bin of window and reference.", {"enum": ["false", "true"]}),
                    query(
                        "window",
                        "The last decided one, or the latest complete buckets, which decide nothing.",
                        {"enum": ["decided", "sliding"]},
                    ),
                ]
            },
        },
        "/admin/v1/drift/{model}/{version}/baseline": {
            "parameters": [MODEL, VERSION],
            "post": baseline | {"parameters": [role]},
        },
        "/admin/v1/routes/{route}/comparison": {
            "parameters": [_ROUTE],
            "get": call(
                "Predictions of every variant on the first variant's edges",
                "RouteComparison",
                {404: "No such route.", 503: "The store does not answer."},
            ),
        },
    }


def _guarded(path: str, method: str, described: object) -> object:
    """Add what the gate may answer, and the scopes of which any lets a call in; where there are no tokens none does."""
    if not isinstance(described, dict):  # the parameters of a path
        return described
    if path in OPEN_PATHS:
        return described | {"security": []}
    content = json_form("Error") if path.startswith("/v2/") else _PROBLEM
    refused = {str(status): {"description": says, "content": content} for status, says in _REFUSED.items()}
    alternatives = [{"token": [scope]} for scope in sorted(scopes_for(method, path))]
    if path == "/console":  # a page without anything in it, for whoever asks under the right name
        refused, alternatives = {"403": refused["403"]}, []
    return described | {"responses": described["responses"] | refused, "security": [*alternatives, {}]}
