"""Holds the reader of TOML to its promises: every fault names the file, the key and the nearest known key.

Uses Structs of its own: what a key means is somebody else's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from gateway.errors import InvalidSetting
from gateway.toml_files import convert_table, parse_toml, read_toml


class Engine(msgspec.Struct, frozen=True):
    name: str
    threads: Annotated[int, Meta(ge=1)] = 1


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    retries: int = 3


class Document(msgspec.Struct, frozen=True, kw_only=True):
    title: str = ""
    limits: Limits = Limits()
    engines: tuple[str | Engine, ...] = ()
    either: Literal["all"] | Limits = "all"
    words: dict[str, int] = {}


def read(text: str) -> Document:
    return convert_table(parse_toml(text.encode(), where="some.toml"), Document, where="some.toml")


def fault(text: str) -> str:
    with pytest.raises(InvalidSetting) as caught:
        read(text)
    return str(caught.value)


def test_a_table_becomes_a_struct_with_its_defaults() -> None:
    assert read("title = 'a'\n[limits]\nretries = 5") == Document(title="a", limits=Limits(retries=5))


def test_tables_in_an_array_become_structs() -> None:
    assert read("engines = ['a', {name = 'b', threads = 2}]").engines == ("a", Engine("b", 2))


def test_a_table_with_free_keys_takes_any() -> None:
    assert read("[words]\nanything = 1").words == {"anything": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("titel = 'a'", "key 'titel': unknown 'titel', did you mean 'title'?", id="at the top"),
        pytest.param(
            "[limits]\ntimeout = 3",
            "key 'limits.timeout': unknown 'timeout', did you mean 'timeout_s'?",
            id="in a table",
        ),
        pytest.param(
            "engines = [{name = 'a', thread = 2}]",
            "key 'engines.thread': unknown 'thread', did you mean 'threads'?",
            id="in a table in an array",
        ),
        pytest.param(
            "either = {retrys = 2}",
            "key 'either.retrys': unknown 'retrys', did you mean 'retries'?",
            id="in one of two",
        ),
        pytest.param(
            "[limits]\nxyz = 1",
            "key 'limits.xyz': unknown 'xyz', expected one of retries, timeout_s",
            id="near nothing",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(text: str, said: str) -> None:
    assert fault(text) == f"some.toml: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("title = 3", "key 'title': Expected `str`, got `int`", id="another type"),
        pytest.param("[limits]\ntimeout_s = 0", "key 'limits.timeout_s': Expected `float` > 0.0", id="out of range"),
        pytest.param("[limits]\ntimeout_s = nan", "key 'limits.timeout_s': Expected `float` > 0.0", id="not a number"),
        pytest.param("[limits]\nretries = '3'", "key 'limits.retries': Expected `int`, got `str`", id="a string"),
        pytest.param("[limits]\nretries = true", "key 'limits.retries': Expected `int`, got `bool`", id="a boolean"),
        pytest.param("limits = 3", "key 'limits': Expected `object`, got `int`", id="no table"),
        pytest.param("either = 'some'", "key 'either': Invalid enum value 'some'", id="no such choice"),
        pytest.param(
            "engines = [{name = 'a', threads = 0}]", "key 'engines[0].threads': Expected `int` >= 1", id="in an array"
        ),
    ],
)
def test_a_wrong_value_names_its_key_and_what_was_expected(text: str, said: str) -> None:
    assert fault(text) == f"some.toml: {said}"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InvalidSetting, match=r"^some.toml: Object missing required field `name`$"):
        convert_table({}, Engine, where="some.toml")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"title = ", id="unfinished"),
        pytest.param(b"title = 'a'\ntitle = 'b'", id="a key twice"),
        pytest.param(b"title = '\xff'", id="not UTF-8"),
        pytest.param(b"a = " + b"[" * 50_000, id="brackets without end"),
        pytest.param(b"a = " + b"1" * 10_000, id="digits without end"),
    ],
)
def test_what_is_not_toml_is_refused_with_the_name_of_the_file(text: bytes) -> None:
    with pytest.raises(InvalidSetting, match=r"^some.toml: not TOML: "):
        parse_toml(text, where="some.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "gateway.toml"
    with pytest.raises(InvalidSetting) as caught:
        read_toml(missing)
    assert str(caught.value) == f"{missing}: cannot be read: No such file or directory"
    missing.write_text("title = 'a'")
    assert read_toml(missing) == {"title": "a"}


def test_strings_stand_for_numbers_only_where_that_is_asked_for() -> None:
    table = {"retries": "5", "timeout_s": "2.5"}
    assert convert_table(table, Limits, where="environment", strict=False) == Limits(retries=5, timeout_s=2.5)
    with pytest.raises(InvalidSetting):
        convert_table(table, Limits, where="environment")
