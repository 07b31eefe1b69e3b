"""Errors as answers: the one place that knows which failure has which HTTP status.

Words come from the error itself; no path of the disk, no traceback.
"""

from __future__ import annotations

import orjson

from gateway import errors
from gateway.errors import GatewayError

STATUS: dict[type[GatewayError], int] = {
    errors.InvalidRequest: 400,
    errors.InvalidInput: 400,
    errors.Forbidden: 403,
    errors.UnknownPath: 404,
    errors.UnknownModel: 404,
    errors.MethodNotAllowed: 405,
    errors.BodyTimeout: 408,
    errors.ModelInUse: 409,
    errors.TooLarge: 413,
    errors.UnsupportedEncoding: 415,
    errors.HeadersTooLarge: 431,
    errors.UnknownRoute: 404,
    errors.RevisionMismatch: 412,
    errors.StoreRegressed: 409,
    errors.InvalidRoute: 422,
    errors.InvalidBaseline: 422,
    errors.InsufficientBaseline: 422,
    errors.UnreadableRevision: 500,
    errors.WindowMismatch: 500,
    errors.NotSupported: 501,
    errors.NotReady: 503,
    errors.Overloaded: 503,
    errors.ShuttingDown: 503,
    errors.StoreUnavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.InferenceFailed: 500,
    errors.LoadFailed: 400,
    errors.InvalidModel: 400,
    errors.InvalidReference: 400,
    errors.InvalidSetting: 400,
    errors.WrongUsage: 400,
    errors.CannotStart: 500,
    errors.InvalidData: 400,
    errors.PublishRefused: 409,
    errors.CallRefused: 502,
}
"""Every leaf of the error tree; a test checks that none is missing."""

REASON: dict[type[GatewayError], str] = {
    errors.InvalidRequest: "invalid",
    errors.InvalidInput: "invalid",
    errors.BodyTimeout: "body_timeout",
    errors.TooLarge: "too_large",
    errors.UnsupportedEncoding: "encoding",
    errors.HeadersTooLarge: "headers_too_large",
    errors.UnknownModel: "unknown_model",
    errors.NotReady: "not_ready",
    errors.Overloaded: "overloaded",
    errors.ShuttingDown: "shutting_down",
    errors.DeadlineExceeded: "deadline",
    errors.InferenceFailed: "failed",
}
"""Label values of `rejected_total` for failures of inference requests; "cancelled" is counted without an error."""

CLIENT_CLOSED = 499
_MAX_TEXT = 2000

Headers = list[tuple[bytes, bytes]]


def status_of(error: GatewayError) -> int:
    """Return the HTTP status of a failure."""
    return STATUS[type(error)]


def extra_headers(error: GatewayError) -> Headers:
    """Return what the status obliges to say beside the text: when to retry, what is allowed, what is understood."""
    if isinstance(error, errors.Unavailable):
        return [(b"retry-after", str(error.retry_after_s).encode())]
    if isinstance(error, errors.MethodNotAllowed):
        return [(b"allow", ", ".join(error.allowed).encode())]
    if isinstance(error, errors.UnsupportedEncoding):
        return [(b"accept-encoding", b"gzip, deflate")]
    return []


def error_body(error: GatewayError) -> bytes:
    """Write `{"error": "<text>"}`, the form every client of the protocol reads; what the text quotes may be long."""
    text = str(error)
    return orjson.dumps({"error": text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"})
