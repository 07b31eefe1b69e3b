"""Every failure the gateway names, one class per reason, its facts kept as fields.

Knows no HTTP: `api/problems.py` alone turns a leaf into a status.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GatewayError(Exception):
    """The root of the tree; its text says who, what was expected and what was got."""


# --- the caller's request is wrong -------------------------------------------------------------


class RequestError(GatewayError):
    """The caller can mend it."""


class InvalidRequest(RequestError):
    """The message as a whole cannot be read: framing, JSON, a header or a parameter."""


class InvalidInput(RequestError):
    """A tensor does not fit the model's signature."""


class UnknownPath(RequestError):
    """No such address."""


class MethodNotAllowed(RequestError):
    """The address exists, the method does not."""

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"method {method} is not allowed here, expected {' or '.join(allowed)}")
        self.allowed = allowed


class UnknownModel(RequestError):
    """No route, model or version of that name is served."""


class NotSupported(RequestError):
    """A known extension of the protocol that this server does not implement."""


class Forbidden(RequestError):
    """The caller may not do this here."""


class TooLarge(RequestError):
    """A body, tensor or request is over its limit."""


class UnsupportedEncoding(RequestError):
    """The content encoding is neither gzip nor deflate."""


class HeadersTooLarge(RequestError):
    """The request line and headers are over their limit."""


class BodyTimeout(RequestError):
    """The request did not arrive whole in time."""


# --- the gateway cannot answer now -----------------------------------------------------------------


class Unavailable(GatewayError):
    """The same request may succeed later."""

    retry_after_s: int = 1


class NotReady(Unavailable):
    """The model version is known but not READY."""


class Overloaded(Unavailable):
    """The queue has no room for these rows."""


class ShuttingDown(Unavailable):
    """The process no longer takes requests."""


class DeadlineExceeded(GatewayError):
    """The caller's deadline passed before the answer was there."""


class InferenceFailed(GatewayError):
    """onnxruntime failed on inputs that fit the signature."""


# --- models, repository and settings -----------------------------------------------------------------


class LoadFailed(GatewayError):
    """A model version cannot become READY; the text is its reason."""


class InvalidModel(LoadFailed):
    """The model file, its signature or its files break a rule of the repository."""


class ModelInUse(GatewayError):
    """A route names the version, so it cannot be unloaded."""


class InvalidSetting(GatewayError):
    """A settings file, variable or flag is wrong."""


class WrongUsage(InvalidSetting):
    """A flag on the command line is wrong."""


class CannotStart(GatewayError):
    """The server could not start: what, where, what to do."""


# --- publishing and asking ---------------------------------------------------------------------------


class InvalidData(GatewayError):
    """A data file cannot be read, or its columns do not fit the model's inputs."""


class PublishRefused(GatewayError):
    """A version cannot be put into the repository as asked."""


class CallRefused(GatewayError):
    """A running gateway refused a call of the command line."""


def unknown_name(where: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is not known at `where`, with the nearest known name.

    Args:
        where: File and key, or endpoint, that holds the name.
        name: The name as it was written.
        known: What would have been understood.
    Returns: One sentence for an error's text.
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = (
        f"did you mean '{near[0]}'?"
        if near
        else f"expected one of {', '.join(choices)}"
        if choices
        else "expected none"
    )
    return f"{where}: unknown '{name}', {hint}"
