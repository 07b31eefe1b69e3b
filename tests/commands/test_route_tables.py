"""Holds the tables of routes to what an operator must not miss: what is wrong, and what a change would do."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.commands.route_tables import change_lines, replicas_table, route_page, routes_table

CLOSED = {"state": "closed", "reason": "", "times_opened": 0, "retry_in_s": 0, "window_requests": 0, "window_errors": 0}


def route(**status: object) -> dict[str, Any]:
    """Write a route at revision 7 as the admin API answers it, its status changed."""
    variants = [
        {"name": "stable", "model": "fraud", "version": 3, "weight": 66.67},
        {"name": "challenger", "model": "fraud", "version": 4, "weight": 33.33},
    ]
    states = [
        {"name": "stable", "ready": True, "breaker": None},
        {"name": "challenger", "ready": True, "breaker": CLOSED},
    ]
    return {
        "name": "fraud",
        "revision": 7,
        "variants": variants,
        "shadows": [],
        "routing_key_header": "x-routing-key",
        "reason": "day two",
        "status": {"revision": 7, "variants": states, "balance": None} | status,
    }


def challenger(**changes: object) -> list[dict[str, Any]]:
    return [{"name": "challenger", "ready": True, "breaker": CLOSED} | changes]


@pytest.mark.parametrize(
    ("shown", "trouble"),
    [
        (route(), ""),
        (route() | {"status": None}, "not served here"),
        (route(revision=6), "serves revision 6"),
        (route(variants=challenger(ready=False)), "challenger not READY"),
        (route(variants=challenger(breaker=CLOSED | {"state": "open"})), "challenger breaker open"),
        (route(variants=challenger(breaker=CLOSED | {"state": "half_open"})), "challenger breaker half_open"),
        (route(balance={"mismatch": True}), "shares not as promised"),
        (route(revision=6, balance={"mismatch": True}), "serves revision 6, shares not as promised"),
    ],
)
def test_a_list_of_routes_says_what_is_wrong_with_each(shown: dict[str, Any], trouble: str) -> None:
    header, line = routes_table([shown]).splitlines()
    at = header.index("TROUBLE")
    assert line[at : header.index("REASON")].strip() == trouble
    assert line.startswith("fraud  7         stable 66.67 % fraud:3, challenger 33.33 % fraud:4")


def test_a_page_says_why_a_breaker_opened() -> None:
    opened = CLOSED | {"state": "open", "reason": "5 errors in a row"}
    page = route_page(route(variants=challenger(breaker=opened)), '"1-7-a"')
    assert page.splitlines()[-1].endswith("yes    open     5 errors in a row")
    assert '7  "1-7-a"' in page


def test_a_page_of_a_route_that_is_not_served_says_so() -> None:
    assert "served     not on this replica" in route_page(route() | {"status": None}, "")


def test_a_page_shows_whether_the_shares_are_as_promised() -> None:
    assert "mismatch (p 1e-09)" in route_page(route(balance={"mismatch": True, "p_value": 1e-9}), "")


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ([], []),
        (
            [{"pointer": "/variants/1/weight", "from": 10, "to": 12.5}],
            ["/variants/1/weight: 10 -> 12.5", "2.5 % of the keys move"],
        ),
        (
            [{"pointer": "/variants/2", "from": None, "to": {"name": "c", "model": "m", "version": 1, "weight": 5}}],
            ["/variants/2: nothing -> c 5 % m:1", "2.5 % of the keys move"],
        ),
        (
            [{"pointer": "/shadows/0", "from": {"name": "s", "model": "m", "version": 1, "sample": 50}, "to": None}],
            ["/shadows/0: s 50 % m:1 -> nothing", "2.5 % of the keys move"],
        ),
        (
            [{"pointer": "", "from": None, "to": {"variants": route()["variants"]}}],
            ["the route: nothing -> stable 66.67 % fraud:3, challenger 33.33 % fraud:4"],
        ),
    ],
)
def test_a_change_is_a_line_for_each_difference(changes: list[dict[str, Any]], lines: list[str]) -> None:
    assert change_lines({"changes": changes, "moved_percent": 2.5}) == lines


def test_a_replica_that_lags_says_why() -> None:
    routes = {"fraud": {"revision": 6, "applied": False, "reason": "fraud:4 is LOADING"}}
    replicas = [
        {"id": "a", "admin": "http://a:8002", "last_seen": "now", "routes": routes},
        {"id": "b", "admin": "http://b:8002", "last_seen": "now", "routes": {}},
    ]
    lines = replicas_table(replicas).splitlines()
    assert lines[1].split(maxsplit=6) == ["a", "http://a:8002", "now", "fraud", "6", "no", "fraud:4 is LOADING"]
    assert lines[2].split() == ["b", "http://b:8002", "now"]
