"""Holds the errors to their promises: who, expected, got, and the nearest known name."""

from __future__ import annotations

import pytest

from gateway.errors import MethodNotAllowed, unknown_name


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        pytest.param("prot", ["port", "host"], "did you mean 'port'?", id="a slip"),
        pytest.param("zzz", ["port", "host"], "expected one of host, port", id="near nothing, sorted"),
        pytest.param("port", [], "expected none", id="nothing is known"),
        pytest.param("hosts", iter(["host", "post"]), "did you mean 'host'?", id="the nearest of several"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_known_one_or_all_of_them(
    name: str, known: list[str], said: str
) -> None:
    assert unknown_name("gateway.toml: key 'server'", name, known) == (
        f"gateway.toml: key 'server': unknown '{name}', {said}"
    )


def test_a_method_that_is_not_allowed_says_which_are() -> None:
    error = MethodNotAllowed("BREW", ("GET", "POST"))
    assert str(error) == "method BREW is not allowed here, expected GET or POST"
    assert error.allowed == ("GET", "POST")
