"""Holds `gateway token` to its promises: a new secret each time, shown once, and settings that the server reads."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest

from gateway.api.auth import TokenBook
from gateway.cli import main
from gateway.settings import load_settings


def make(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Return a new token and the lines for gateway.toml."""
    assert main(["token", *arguments]) == 0
    token, _, lines = capsys.readouterr().out.partition("\n")
    return token, lines


def test_what_it_prints_for_the_settings_lets_its_token_in(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    token, lines = make(capsys, "sre", "--scope", "write", "--scope", "read", "--scope", "write")
    file = tmp_path / "gateway.toml"
    file.write_text(lines)
    settings, _ = load_settings({}, {}, config=file)
    holder = TokenBook(settings.auth.tokens).holder(f"Bearer {token}".encode())
    assert (holder.name, holder.scopes) == ("sre", ("read", "write"))


def test_the_settings_hold_the_hash_and_not_the_token(capsys: pytest.CaptureFixture[str]) -> None:
    token, lines = make(capsys, "sre", "--scope", "abort")
    (entry,) = tomllib.loads(lines)["auth"]["tokens"]
    assert entry == {"name": "sre", "sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": ["abort"]}
    assert token not in lines


def test_tokens_are_of_32_random_bytes_and_never_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    tokens = {make(capsys, "sre", "--scope", "read")[0] for _ in range(20)}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {43}
    assert all(character.isalnum() or character in "-_" for token in tokens for character in token)


@pytest.mark.parametrize("name", ["", "two words", "-sre", "x" * 65, "größe", 'a"b', "a\n"])
def test_a_name_that_cannot_stand_in_the_settings_is_wrong_usage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["token", "--scope", "read", "--", name])
    except SystemExit as exc:
        code = int(str(exc.code))
    assert code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [["sre"], ["sre", "--scope", "root"], ["--scope", "read"]])
def test_a_token_without_a_name_or_a_known_scope_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["token", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
