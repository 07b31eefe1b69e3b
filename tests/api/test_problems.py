"""Holds the errors' answers to their promises: every failure has a status, and says what the status obliges it to."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gateway import errors
from gateway.api.problems import PROBLEM_TYPES, REASON, STATUS, error_body, extra_headers, problem_body, status_of
from gateway.errors import GatewayError

PACKAGE = Path(errors.__file__).parent
BRANCHES = {errors.GatewayError, errors.RequestError, errors.Unavailable}


def tree(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def by_name(kinds: Iterable[type[GatewayError]]) -> list[type[GatewayError]]:
    return sorted(kinds, key=lambda kind: kind.__name__)


def made(kind: type[GatewayError]) -> GatewayError:
    if kind is errors.MethodNotAllowed:
        return errors.MethodNotAllowed("PUT", ("GET",))
    if kind is errors.StoreUnavailable:
        return errors.StoreUnavailable("redis: no answer", outcome="unknown")
    if kind is errors.InvalidRoute:
        return errors.InvalidRoute("fraud", (("/variants", "expected at least one variant"),))
    if kind is errors.InvalidBaseline:
        return errors.InvalidBaseline((("/to", "expected a time after 'from'"),))
    if kind is errors.RevisionMismatch:
        return errors.RevisionMismatch("fraud", expected=None, current="1-1-a")
    if kind is errors.MissingScope:
        return errors.MissingScope("ci", ("write",))
    if kind is errors.StoreRegressed:
        return errors.StoreRegressed("fraud", "went back", known="1-2-b", stored="1-1-a")
    return kind("fraud:3: because")


@pytest.mark.parametrize("kind", by_name(set(tree()) - BRANCHES))
def test_every_failure_has_a_status_of_its_own(kind: type[GatewayError]) -> None:
    assert 400 <= status_of(made(kind)) < 600


def test_only_the_branches_of_the_tree_have_no_status() -> None:
    assert set(STATUS) == set(tree()) - BRANCHES


def test_no_branch_of_the_tree_is_ever_raised() -> None:
    names = {kind.__name__ for kind in BRANCHES}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in names, path


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InvalidRequest, 400),
        (errors.InvalidInput, 400),
        (errors.UnknownModel, 404),
        (errors.TooLarge, 413),
        (errors.UnsupportedEncoding, 415),
        (errors.HeadersTooLarge, 431),
        (errors.NotReady, 503),
        (errors.Overloaded, 503),
        (errors.DeadlineExceeded, 504),
    ],
)
def test_statuses_are_those_of_the_contract(kind: type[GatewayError], status: int) -> None:
    assert status_of(kind("text")) == status


@pytest.mark.parametrize("kind", by_name(STATUS))
def test_a_failure_is_the_callers_fault_exactly_when_its_status_says_so(kind: type[GatewayError]) -> None:
    if issubclass(kind, errors.RequestError) and kind is not errors.NotSupported:
        assert STATUS[kind] < 500
    if issubclass(kind, errors.Unavailable):
        assert STATUS[kind] == 503


def test_rejections_are_counted_under_reasons_of_known_failures() -> None:
    assert set(REASON) <= set(STATUS)
    assert all(reason.isidentifier() for reason in REASON.values())


def test_an_answer_says_when_to_come_back_what_is_allowed_and_what_is_understood() -> None:
    assert extra_headers(errors.Overloaded("full")) == [(b"retry-after", b"1")]
    assert extra_headers(errors.NotReady("loading")) == [(b"retry-after", b"1")]
    assert extra_headers(errors.MethodNotAllowed("PUT", ("GET", "POST"))) == [(b"allow", b"GET, POST")]
    assert extra_headers(errors.UnsupportedEncoding("br")) == [(b"accept-encoding", b"gzip, deflate")]
    assert extra_headers(errors.InvalidInput("shape")) == []


def test_the_body_of_an_error_is_the_one_every_client_reads() -> None:
    assert json.loads(error_body(errors.InvalidInput('input "größe" has\nshape'))) == {
        "error": 'input "größe" has\nshape'
    }


# --- problem details -------------------------------------------------------------------------------------


def problem(error: GatewayError) -> dict[str, object]:
    found: dict[str, object] = json.loads(problem_body(error, instance="/admin/v1/routes/fraud", request_id="r-1"))
    return found


def test_problem_types_are_stable_and_one_for_each_failure() -> None:
    """Scripts tell failures apart by these; the words may change, the types may not."""
    types = {str(problem(made(kind))["type"]).removeprefix(PROBLEM_TYPES) for kind in STATUS}
    assert len(types) == len(STATUS)
    assert types >= {
        *("foreign-host", "foreign-origin", "invalid-request", "invalid-route", "method-not-allowed", "missing-scope"),
        *("precondition-required", "revision-mismatch", "store-regressed", "store-unavailable", "too-large"),
        *("unauthenticated", "unknown-model", "unknown-path", "unknown-route", "unreadable-revision"),
    }


def test_a_problem_says_what_happened_where_and_to_whom() -> None:
    assert problem(errors.UnknownRoute("there is no route 'fraud'")) == {
        "type": "urn:onnx-gateway:problem:unknown-route",
        "title": "Unknown route",
        "status": 404,
        "detail": "there is no route 'fraud'",
        "error": "there is no route 'fraud'",
        "instance": "/admin/v1/routes/fraud",
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (errors.InvalidRoute("a", (("/x", "is missing"),)), {"errors": [{"pointer": "/x", "detail": "is missing"}]}),
        (errors.RevisionMismatch("a", expected="1-1-a", current="1-2-b"), {"etag": '"1-2-b"'}),
        (errors.RevisionMismatch("a", expected="1-1-a", current=None), {"etag": None}),
        (errors.StoreUnavailable("no answer", outcome="unknown"), {"outcome": "unknown"}),
        (errors.StoreUnavailable("no answer", outcome="not_written"), {"outcome": "not_written"}),
        (errors.StoreRegressed("a", "back", known="1-2-b", stored=None), {"known": '"1-2-b"', "stored": None}),
    ],
)
def test_a_problem_carries_the_facts_of_its_failure(error: GatewayError, facts: dict[str, object]) -> None:
    found = problem(error)
    assert facts.items() <= found.items()


def test_a_long_text_is_cut_wherever_it_stands() -> None:
    long = "x" * 10_000
    found = problem(errors.InvalidRoute(long, ((f"/{long}", long),)))
    assert len(json.dumps(found)) < 4 * 10_000


def test_a_refusal_for_want_of_rights_says_which_would_do() -> None:
    bearer = b'Bearer realm="onnx-gateway"'
    assert extra_headers(errors.Unauthenticated("no token")) == [(b"www-authenticate", bearer)]
    assert extra_headers(errors.MissingScope("ci", ("abort", "write"))) == [
        (b"www-authenticate", bearer + b', error="insufficient_scope", scope="abort write"')
    ]
    assert extra_headers(errors.RevisionMismatch("a", expected=None, current="1-2-b")) == [(b"etag", b'"1-2-b"')]
