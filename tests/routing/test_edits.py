"""Owns the promises of shift, abort and difference."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRoute
from gateway.routing.edits import apply_abort, apply_shift, changes
from gateway.routing.route import Shadow
from tests.routing.routes import route_of

SHADOW = Shadow(name="next", model="wide", version=1, sample_bp=500)


@pytest.mark.parametrize(
    ("before", "weights", "after"),
    [
        ((10_000, 0), {"b": 5}, (9500, 500)),
        ((9000, 1000), {"b": 0.01}, (9999, 1)),
        ((9000, 1000), {"b": 100}, (0, 10_000)),
        ((8000, 1000, 1000), {"b": 20}, (7000, 2000, 1000)),
        ((8000, 1000, 1000), {"b": 20, "c": 0}, (8000, 2000, 0)),
        ((9000, 1000), {"stable": 25, "b": 75}, (2500, 7500)),
        ((8000, 1000, 1000), {"stable": 70, "b": 20}, (7000, 2000, 1000)),
        ((10_000,), {"stable": 100}, (10_000,)),
    ],
)
def test_the_named_variants_get_their_weights_and_the_first_the_rest(
    before: tuple[int, ...], weights: dict[str, object], after: tuple[int, ...]
) -> None:
    shifted = apply_shift(route_of(*before, shadows=(SHADOW,)), weights, reason="more")
    assert shifted == route_of(*after, shadows=(SHADOW,), reason="more")


@pytest.mark.parametrize(
    ("weights", "reason", "pointers"),
    [
        ({}, "", ["/weights"]),
        ({"b": 60, "c": 41}, "", ["/weights"]),
        ({"stable": 50}, "", ["/weights"]),
        ({"stable": 50, "b": 49.99}, "", ["/weights"]),
        ({"B": 5}, "", ["/weights/B"]),
        ({"b": True, "c": -1, "d": 3}, "a\nb", ["/weights/b", "/weights/c", "/weights/d", "/reason"]),
        ({"b": 0.005}, "", ["/weights/b"]),
        ({"a/b": 5}, "", ["/weights/a~1b"]),
    ],
)
def test_a_wrong_shift_says_where(weights: dict[str, object], reason: str, pointers: list[str]) -> None:
    with pytest.raises(InvalidRoute) as caught:
        apply_shift(route_of(8000, 1000, 1000), weights, reason=reason)
    assert [pointer for pointer, _ in caught.value.errors] == pointers


def test_an_unknown_variant_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidRoute, match="did you mean 'stable'"):
        apply_shift(route_of(9000, 1000), {"stabel": 5})


def test_an_abort_gives_everything_to_the_first_variant_and_keeps_the_others_at_zero() -> None:
    aborted = apply_abort(route_of(2000, 7000, 1000, shadows=(SHADOW,)), reason="wrong")
    assert aborted == route_of(10_000, 0, 0, shadows=(SHADOW,), reason="wrong")
    assert apply_abort(aborted, reason="wrong") == aborted


def test_an_abort_removes_shadows_when_asked_to() -> None:
    assert apply_abort(route_of(2000, 8000, shadows=(SHADOW,)), shadows=True) == route_of(10_000, 0)


def test_the_difference_names_each_value_that_changed() -> None:
    old = route_of(9000, 1000, shadows=(SHADOW,), reason="a")
    assert changes(old, route_of(7500, 2500, shadows=(SHADOW,), reason="b")) == [
        {"pointer": "/variants/0/weight", "from": 90, "to": 75},
        {"pointer": "/variants/1/weight", "from": 10, "to": 25},
    ]
    removed: list[dict[str, Any]] = changes(old, route_of(9000, 1000))
    assert [(change["pointer"], change["to"]) for change in removed] == [("/shadows/0", None)]


def test_a_route_that_comes_or_goes_is_one_change() -> None:
    (came,) = changes(None, route_of(10_000))
    (went,) = changes(route_of(10_000), None)
    assert (came["pointer"], came["from"], went["to"]) == ("", None, None)
    assert came["to"] == went["from"]


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.text(max_size=3), st.text(max_size=3))
def test_a_different_reason_alone_is_no_change(first: int, second: int, reason: str, other: str) -> None:
    old = route_of(first, 10_000 - first, reason=reason)
    new = route_of(second, 10_000 - second, reason=other)
    assert (changes(old, new) == []) == (first == second)
