"""Holds the rules of who may call to a table of cases: hosts, origins, tokens, scopes, on both planes."""

from __future__ import annotations

import hashlib

import pytest

from gateway.api.auth import ANONYMOUS, AdminAccess, DataAccess, TokenBook, scopes_for
from gateway.api.problems import Headers
from gateway.errors import ForeignHost, ForeignOrigin, GatewayError, MissingScope, Unauthenticated
from gateway.settings import AuthSettings, Scope, TokenSettings

ROUTE = "/admin/v1/routes/fraud"
OPEN = ["/livez", "/readyz", "/metrics", "/openapi.json"]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - only a name here


def token(secret: str, *scopes: Scope, name: str = "sre") -> TokenSettings:
    return TokenSettings(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest(), scopes=scopes)


TOKENS = AuthSettings(
    tokens=(
        token("reader", "read", name="grafana"),
        token("writer", "read", "write"),
        token("new-writer", "read", "write"),
        token("stopper", "abort", name="pager"),
        token("predictor", "predict", name="app"),
        token("chooser", "override", name="tester"),
    )
)


def headers(*, host: str | None = "localhost:8002", bearer: str = "", **others: str) -> Headers:
    """Write the headers of a call; names of others with _ for -."""
    given = {"host": host, "authorization": f"Bearer {bearer}" if bearer else None}
    given |= {name.replace("_", "-"): value for name, value in others.items()}
    return [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value is not None]


def admit(
    method: str, path: str, given: Headers, *, auth: AuthSettings | None = None, listens: str = "127.0.0.1"
) -> str | type[GatewayError]:
    """Return who is let in, or why nobody is."""
    try:
        return AdminAccess(auth or AuthSettings(), listens).admit(method, path, given)
    except GatewayError as exc:
        return type(exc)


# --- names of this plane -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "listens", "hosts", "is_ours"),
    [
        ("localhost:8002", "127.0.0.1", (), True),
        ("localhost", "127.0.0.1", (), True),
        ("LOCALHOST.:8002", "127.0.0.1", (), True),
        ("console.localhost:8002", "127.0.0.1", (), True),
        ("127.0.0.1:8002", "127.0.0.1", (), True),
        ("127.9.9.9:1", "localhost", (), True),
        ("[::1]:8002", "::1", (), True),
        ("evil.example", "127.0.0.1", (), False),
        ("evil.example:8002", "::1", (), False),
        ("localhost.evil.example", "127.0.0.1", (), False),
        ("evil.example@localhost:8002", "127.0.0.1", (), False),
        ("localhost/evil.example", "127.0.0.1", (), False),
        ("localhost:8002:1", "127.0.0.1", (), False),
        ("192.0.2.1", "127.0.0.1", (), False),
        ("", "127.0.0.1", (), False),
        ("örtlich", "127.0.0.1", (), False),
        ("admin.example", "127.0.0.1", ("admin.example",), True),
        ("Admin.Example:443", "127.0.0.1", ("admin.example",), True),
        ("other.example", "127.0.0.1", ("admin.example",), False),
        ("gateway.svc:8002", EVERYWHERE, (), True),
        ("192.0.2.1:8002", EVERYWHERE, ("admin.example",), True),
        ("gateway.svc:8002", EVERYWHERE, ("admin.example",), False),
        ("not a host", EVERYWHERE, (), False),
    ],
)
def test_a_call_names_this_plane_or_is_refused(
    host: str, listens: str, hosts: tuple[str, ...], *, is_ours: bool
) -> None:
    """A page whose own name resolves to this address sends that name: DNS rebinding."""
    found = admit("GET", ROUTE, headers(host=host), auth=AuthSettings(hosts=hosts), listens=listens)
    assert found == (ANONYMOUS if is_ours else ForeignHost)


def test_a_call_without_a_host_or_with_two_is_refused() -> None:
    assert admit("GET", ROUTE, headers(host=None)) is ForeignHost
    assert admit("GET", ROUTE, headers() + headers()) is ForeignHost


# --- pages of other origins --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
@pytest.mark.parametrize(
    "given",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:3000"},
        {"origin": "https://localhost:8002.evil.example"},
        {"origin": "http://[::1"},
        {"origin": "file://localhost:8002"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "Cross-Site", "origin": "http://localhost:8002"},
        {"sec_fetch_site": "same-origin", "origin": "http://evil.example"},
    ],
)
def test_no_method_is_open_to_the_pages_of_other_origins(method: str, given: dict[str, str]) -> None:
    assert admit(method, ROUTE, headers(**given)) is ForeignOrigin
    assert admit(method, ROUTE, headers(bearer="writer", **given), auth=TOKENS) is ForeignOrigin


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({}, ()),
        ({"origin": "http://localhost:8002"}, ()),
        ({"origin": "https://localhost:8002"}, ()),
        ({"origin": "http://LOCALHOST:8002", "sec_fetch_site": "same-origin"}, ()),
        ({"sec_fetch_site": "none"}, ()),
        ({"host": "localhost", "origin": "http://localhost"}, ()),
        ({"host": "localhost:443", "origin": "https://localhost"}, ()),
        ({"origin": "https://admin.example"}, ("admin.example",)),
    ],
)
def test_the_own_console_and_programs_are_let_in(given: dict[str, str], hosts: tuple[str, ...]) -> None:
    assert admit("POST", f"{ROUTE}/abort", headers(**given), auth=AuthSettings(hosts=hosts)) == ANONYMOUS


# --- tokens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("given", [headers(host="gateway.svc"), headers(origin="http://evil.example"), []])
def test_probes_and_metrics_are_open_to_everybody(path: str, given: Headers) -> None:
    assert admit("GET", path, given, auth=TOKENS) == ANONYMOUS


@pytest.mark.parametrize("path", ["/console", "/console/console.js"])
def test_the_console_page_needs_a_name_of_ours_and_no_token(path: str) -> None:
    assert admit("GET", path, headers(sec_fetch_site="cross-site"), auth=TOKENS) == ANONYMOUS
    assert admit("GET", path, headers(host="evil.example"), auth=TOKENS) is ForeignHost


@pytest.mark.parametrize("path", ["/console2", "/metrics/", "//metrics", "/metrics/../admin/v1/routes", "/", "/x", ""])
def test_what_only_looks_open_is_not(path: str) -> None:
    assert admit("GET", path, headers(), auth=TOKENS) is Unauthenticated


@pytest.mark.parametrize(
    ("bearer", "method", "path", "found"),
    [
        ("reader", "GET", ROUTE, "grafana"),
        ("reader", "HEAD", ROUTE, "grafana"),
        ("reader", "GET", "/admin/v1/audit", "grafana"),
        ("reader", "POST", f"{ROUTE}/validate", "grafana"),
        ("reader", "POST", "/v2/repository/index", "grafana"),
        ("reader", "PUT", ROUTE, MissingScope),
        ("reader", "DELETE", ROUTE, MissingScope),
        ("reader", "POST", f"{ROUTE}/shift", MissingScope),
        ("reader", "POST", f"{ROUTE}/abort", MissingScope),
        ("reader", "POST", "/v2/repository/models/fraud/unload", MissingScope),
        ("reader", "POST", "/admin/v1/models/fraud/versions/1/load", MissingScope),
        ("reader", "OPTIONS", ROUTE, MissingScope),
        ("writer", "PUT", ROUTE, "sre"),
        ("new-writer", "PUT", ROUTE, "sre"),
        ("writer", "POST", f"{ROUTE}/abort", "sre"),
        ("writer", "POST", f"{ROUTE}/adopt", "sre"),
        ("stopper", "POST", f"{ROUTE}/abort", "pager"),
        ("stopper", "GET", ROUTE, MissingScope),
        ("stopper", "POST", f"{ROUTE}/shift", MissingScope),
        ("stopper", "POST", f"{ROUTE}/abort/", MissingScope),
        ("stopper", "POST", f"{ROUTE}/x/abort", MissingScope),
        ("stopper", "DELETE", ROUTE, MissingScope),
        ("predictor", "GET", ROUTE, MissingScope),
        ("chooser", "GET", ROUTE, MissingScope),
        ("", "GET", ROUTE, Unauthenticated),
        ("unknown", "GET", ROUTE, Unauthenticated),
        ("Reader", "GET", ROUTE, Unauthenticated),
        ("reader2", "GET", ROUTE, Unauthenticated),
        ("reade", "GET", ROUTE, Unauthenticated),
    ],
)
def test_a_token_opens_what_its_scopes_say(bearer: str, method: str, path: str, found: object) -> None:
    assert admit(method, path, headers(bearer=bearer), auth=TOKENS) == found


def test_a_get_that_ends_like_an_abort_is_still_a_read() -> None:
    assert admit("GET", f"{ROUTE}/abort", headers(bearer="stopper"), auth=TOKENS) is MissingScope


@pytest.mark.parametrize(
    "value",
    [
        "writer",
        "Basic d3JpdGVy",
        "Bearer",
        "Bearer ",
        "Bearer wri ter",
        "Bearer writer, Bearer writer",
        "Bearer wríter",
    ],
)
def test_an_authorization_that_cannot_be_read_is_none(value: str) -> None:
    assert admit("GET", ROUTE, headers(authorization=value), auth=TOKENS) is Unauthenticated


def test_two_authorizations_are_none() -> None:
    twice = [*headers(bearer="writer"), (b"authorization", b"Bearer reader")]
    assert admit("GET", ROUTE, twice, auth=TOKENS) is Unauthenticated


def test_the_scheme_may_be_written_as_one_likes() -> None:
    assert admit("GET", ROUTE, headers(authorization="bearer  writer "), auth=TOKENS) == "sre"


def test_no_refusal_repeats_the_token() -> None:
    for auth in (TOKENS.tokens, ()):
        with pytest.raises(Unauthenticated) as caught:
            TokenBook(auth).holder(b"Bearer a-secret")
        assert "a-secret" not in str(caught.value)


def test_what_nobody_thought_of_needs_write() -> None:
    assert scopes_for("PATCH", "/admin/v1/anything") == {"write"}


# --- the data plane -----------------------------------------------------------------------------------


def given(bearer: str) -> bytes | None:
    return f"Bearer {bearer}".encode() if bearer else None


def test_predictions_need_no_token_unless_the_settings_ask_for_one() -> None:
    DataAccess(TOKENS, EVERYWHERE).check_predict(None)
    access = DataAccess(AuthSettings(tokens=TOKENS.tokens, predict=True), "127.0.0.1")
    access.check_predict(given("predictor"))
    with pytest.raises(Unauthenticated):
        access.check_predict(None)
    with pytest.raises(MissingScope, match="token 'sre' may not do this, expected the scope predict"):
        access.check_predict(given("writer"))


def test_loads_on_the_data_plane_need_the_token_they_need_on_the_other() -> None:
    DataAccess(AuthSettings(), "127.0.0.1").check_change(None)
    access = DataAccess(TOKENS, "127.0.0.1")
    access.check_change(given("writer"))
    with pytest.raises(Unauthenticated):
        access.check_change(None)
    with pytest.raises(MissingScope):
        access.check_change(given("reader"))


@pytest.mark.parametrize(
    ("auth", "host", "bearer", "may"),
    [
        (AuthSettings(), "127.0.0.1", "", True),
        (AuthSettings(), "::1", "anything", True),
        (AuthSettings(), EVERYWHERE, "", False),
        (TOKENS, "127.0.0.1", "", False),
        (TOKENS, "127.0.0.1", "writer", False),
        (TOKENS, "127.0.0.1", "unknown", False),
        (TOKENS, "127.0.0.1", "chooser", True),
        (TOKENS, EVERYWHERE, "chooser", True),
    ],
)
def test_an_override_is_free_on_loopback_without_tokens_and_else_needs_its_scope(
    auth: AuthSettings, host: str, bearer: str, *, may: bool
) -> None:
    assert DataAccess(auth, host).may_override(given(bearer)) is may
