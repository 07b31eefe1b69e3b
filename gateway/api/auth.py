"""Who may make which call: tokens and their scopes, and the pages of other sites that may make none.

Pure decisions over the method, the path and the headers as they came in; reads no body and knows no route.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from gateway.api.problems import Headers
from gateway.errors import ForeignHost, ForeignOrigin, MissingScope, Unauthenticated
from gateway.settings import AuthSettings, Scope, TokenSettings, is_loopback

ANONYMOUS = "anonymous"
"""Who acts where there are no tokens."""

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/openapi.json"})
"""Open to everybody under every name: probes and scrapers have no token, and the description is the same everywhere."""

_CONSOLE = re.compile(r"/console(/.*)?", re.DOTALL)
_ABORT = re.compile(r"/admin/v1/routes/[^/]+/abort")
_VALIDATE = re.compile(r"/admin/v1/routes/[^/]+/validate")
_BEARER = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/-]+=*) *")
_AUTHORITY = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_MAX_SHOWN = 100


class Caller(msgspec.Struct, frozen=True):
    """Who made a call, for history and audit."""

    name: str
    request_id: str


class TokenBook:
    """The tokens that are valid, by their hashes."""

    def __init__(self, tokens: Sequence[TokenSettings]) -> None:
        self._known = [(bytes.fromhex(token.sha256), token) for token in tokens]

    def __bool__(self) -> bool:
        return bool(self._known)

    def holder(self, authorization: bytes | None) -> TokenSettings:
        """Find whose token a request carries.

        Every known hash is compared in constant time, whichever fits: how long it takes says nothing.
        Args:
            authorization: The header's value.
        Raises: Unauthenticated: no token, or none that is known.
        """
        if authorization is None:
            raise Unauthenticated("this call needs a token, send it as 'Authorization: Bearer …'")
        presented = _BEARER.fullmatch(authorization)
        if presented is None:
            raise Unauthenticated("expected a header 'Authorization: Bearer …'")
        digest = hashlib.sha256(presented[1]).digest()
        holder = None
        for known, token in self._known:
            if hmac.compare_digest(known, digest):
                holder = token
        if holder is None:
            raise Unauthenticated("this token is not known, or not any more")
        return holder


class AdminAccess:
    """The rules of the admin plane.

    Args:
        admin_host: What its listener was told to listen on.
    """

    def __init__(self, settings: AuthSettings, admin_host: str) -> None:
        self._book = TokenBook(settings.tokens)
        self._is_loopback = is_loopback(admin_host)
        self._listens_as = admin_host.lower().strip("[]")
        self._hosts = frozenset(settings.hosts)

    def admit(self, method: str, path: str, headers: Headers) -> str:
        """Let a call in, before anybody looks for what stands at its path.

        Args:
            path: As the router sees it, percent-decoded.
        Returns: The caller's name.
        Raises:
            ForeignHost: the Host header has a name that is not this plane's.
            ForeignOrigin: a page of another origin made the call.
            Unauthenticated, MissingScope: the token.
        """
        if path in OPEN_PATHS:
            return ANONYMOUS
        self._check_host(headers)
        if _CONSOLE.fullmatch(path):  # a page without anything in it: what it shows it asks for with a token
            return ANONYMOUS
        self._check_origin(headers)
        if not self._book:
            return ANONYMOUS
        given = _values(headers, b"authorization")
        if len(given) > 1:
            raise Unauthenticated("expected one header 'Authorization: Bearer …'")
        holder = self._book.holder(given[0] if given else None)
        wanted = scopes_for(method, path)
        if not wanted & set(holder.scopes):
            raise MissingScope(holder.name, tuple(sorted(wanted)))
        return holder.name

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name that is not ours: a browser sends the one that a foreign page had resolved to this address.

        Addresses cannot be made to resolve elsewhere. Off loopback there are tokens, which no browser adds by itself,
        so that names are only checked there when the settings list them.
        """
        given = _values(headers, b"host")
        host = _host_of(given[0]) if len(given) == 1 else None
        if host is not None and (host in self._hosts or host == self._listens_as or _is_local(host)):
            return
        if host is not None and not self._is_loopback and (not self._hosts or _is_address(host)):
            return
        shown = ", ".join(value.decode("latin-1") for value in given)[:_MAX_SHOWN]
        raise ForeignHost(f"the admin plane is not asked as '{shown}'; list its names as 'hosts' in [auth]")

    def _check_origin(self, headers: Headers) -> None:
        """Refuse what a browser sends for a page of another origin; nothing else sends these headers."""
        site = [value.decode("latin-1").lower() for value in _values(headers, b"sec-fetch-site")]
        if any(value not in ("same-origin", "none") for value in site):
            raise ForeignOrigin(f"a page of another origin made this call (sec-fetch-site: {site[0][:_MAX_SHOWN]})")
        asked = _values(headers, b"host")[0].decode("latin-1")
        for value in _values(headers, b"origin"):
            origin = value.decode("latin-1")
            if not self._is_own(origin, asked):
                raise ForeignOrigin(f"a page of another origin made this call ({origin[:_MAX_SHOWN]})")

    def _is_own(self, origin: str, asked: str) -> bool:
        try:
            parts = urlsplit(origin)
            own = urlsplit(f"{parts.scheme}://{asked}")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                return False
            usual = 443 if parts.scheme == "https" else 80
            same = (parts.hostname, parts.port or usual) == (own.hostname, own.port or usual)
        except ValueError:
            return False
        return same or parts.hostname in self._hosts


class DataAccess:
    """The rules of the data plane: who may predict, and who may choose the variant.

    Args:
        host: What its listener was told to listen on.
    Attributes:
        needs_token: Whether predictions need a token at all.
    """

    def __init__(self, settings: AuthSettings, host: str) -> None:
        self._book = TokenBook(settings.tokens)
        self.needs_token = settings.predict
        self._is_open = not settings.tokens and is_loopback(host)

    def check_predict(self, authorization: bytes | None) -> None:
        """Hold a prediction to its token, where the settings ask for one.

        Raises: Unauthenticated, MissingScope.
        """
        if self.needs_token:
            self._check(authorization, "predict")

    def check_change(self, authorization: bytes | None) -> None:
        """Hold a load or unload to the token it would need on the admin plane.

        Raises: Unauthenticated, MissingScope.
        """
        if self._book:
            self._check(authorization, "write")

    def may_override(self, authorization: bytes | None) -> bool:
        """Tell whether the caller may choose the variant: on loopback without tokens everybody, else the scope."""
        if self._is_open:
            return True
        try:
            self._check(authorization, "override")
        except (Unauthenticated, MissingScope):
            return False
        return True

    def _check(self, authorization: bytes | None, scope: Scope) -> None:
        holder = self._book.holder(authorization)
        if scope not in holder.scopes:
            raise MissingScope(holder.name, (scope,))


def scopes_for(method: str, path: str) -> frozenset[Scope]:
    """Name the scopes of which any opens a call of the admin plane; what nobody thought of needs `write`."""
    if method in ("GET", "HEAD") or path == "/v2/repository/index":
        return frozenset({"read"})
    if _VALIDATE.fullmatch(path):  # changes nothing
        return frozenset({"read", "write"})
    if _ABORT.fullmatch(path):
        return frozenset({"write", "abort"})
    return frozenset({"write"})


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for given, value in headers if given == name]


def _host_of(authority: bytes) -> str | None:
    found = _AUTHORITY.fullmatch(authority)
    return found[1].decode().strip("[]").lower().removesuffix(".") if found else None


def _is_local(host: str) -> bool:
    return host.endswith(".localhost") or is_loopback(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


OPEN = DataAccess(AuthSettings(), "localhost")
"""The rules where the settings say nothing: everything is open."""
