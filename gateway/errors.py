"""Every failure the gateway names, one class per reason, its facts kept as fields.

Knows no HTTP: `api/problems.py` alone turns a leaf into a status.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal


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


class Unauthenticated(RequestError):
    """The call needs a token, and came with none, or with none that is known."""


class MissingScope(RequestError):
    """The caller's token does not grant what the call needs.

    Attributes:
        scopes: Any of these would do.
    """

    def __init__(self, caller: str, scopes: tuple[str, ...]) -> None:
        super().__init__(f"token '{caller}' may not do this, expected the scope {' or '.join(scopes)}")
        self.scopes = scopes


class ForeignHost(RequestError):
    """The call names a host that is not this one: a page may have had its own name resolved to this address."""


class ForeignOrigin(RequestError):
    """A web page of another origin made the call."""


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
    """A running gateway refused a call of the command line.

    Attributes:
        status: Of its answer; 0 where it was no refusal but no answer of a gateway's.
    """

    def __init__(self, detail: str, *, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status


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


# --- monitoring -----------------------------------------------------------------------------------


class InvalidReference(GatewayError):
    """A reference window cannot be built or read, or is not what its hash says."""


class WindowMismatch(GatewayError):
    """Counts do not lie on the bins they are compared with."""


class InvalidBaseline(RequestError):
    """A baseline document does not name a period.

    Attributes:
        errors: Every fault found, as (JSON pointer into the document, what is wrong there).
    """

    def __init__(self, errors: tuple[tuple[str, str], ...]) -> None:
        faults = "; ".join(f"{pointer or 'the document'}: {detail}" for pointer, detail in errors)
        super().__init__(f"baseline: {faults}")
        self.errors = errors


class InsufficientBaseline(GatewayError):
    """Too few windows were declared in control to calibrate on."""


# --- routes ----------------------------------------------------------------------------------------


class InvalidRoute(RequestError):
    """A route document, or a change to one, breaks the rules.

    Attributes:
        errors: Every fault found, as (JSON pointer into the document, what is wrong there).
    """

    def __init__(self, route: str, errors: tuple[tuple[str, str], ...]) -> None:
        faults = "; ".join(f"{pointer or 'the document'}: {detail}" for pointer, detail in errors)
        super().__init__(f"route '{route}': {faults}")
        self.route = route
        self.errors = errors


class UnknownRoute(RequestError):
    """The store holds no route of that name, or not that revision of it."""


class PreconditionRequired(RequestError):
    """The change would overwrite whatever is there: it has to say which revision it means."""


class RevisionMismatch(GatewayError):
    """The route is not at the revision the writer expected; nothing was written.

    Attributes:
        expected: The entity tag the writer stated, None for "there is no such route".
        current: The entity tag of the route as stored, None when there is no such route.
    """

    def __init__(self, route: str, *, expected: str | None, current: str | None) -> None:
        said = f"revision {expected}" if expected else "no such route"
        found = f"revision {current}" if current else "no such route"
        super().__init__(f"route '{route}': expected {said}, found {found}")
        self.route = route
        self.expected = expected
        self.current = current


class StoreUnavailable(Unavailable):
    """The store did not answer in time.

    Attributes:
        outcome: "not_written": nothing was written and nothing will be; "unknown": the answer was lost, read again.
    """

    def __init__(self, detail: str, *, outcome: Literal["not_written", "unknown"]) -> None:
        super().__init__(detail)
        self.outcome = outcome


class StoreRegressed(GatewayError):
    """The store went back, or changed what it had said; its route is not obeyed until somebody adopts it.

    Attributes:
        known: The entity tag this replica obeys.
        stored: The entity tag the store holds, None when what it holds cannot be read.
    """

    def __init__(self, route: str, detail: str, *, known: str | None, stored: str | None) -> None:
        super().__init__(f"route '{route}': {detail}")
        self.route = route
        self.known = known
        self.stored = stored


class UnreadableRevision(GatewayError):
    """The store holds a revision that this release cannot serve; the text is the reason."""
