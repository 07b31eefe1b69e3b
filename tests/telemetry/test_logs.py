"""Holds the log lines to their promises: one event a line, facts readable by people and by machines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.logs import JsonFormatter, TextFormatter, configure_logging


def record(event: str = "version_loaded", **facts: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "gateway.test", "levelname": "INFO", "msg": event, "created": 1_700_000_000.5}
    )
    vars(made).update(facts)
    return made


def failed_record(text: str) -> logging.LogRecord:
    made = record("version_load_crashed")
    try:
        raise ValueError(text)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the process its log handlers back."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = (list(root.handlers), root.level, uvicorn.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    uvicorn.setLevel(before[2])


# --- text ------------------------------------------------------------------------------------------------


def test_a_text_line_is_time_level_event_and_facts() -> None:
    assert TextFormatter().format(record(model="fraud", version=3, load_s=0.41)) == (
        "2023-11-14T22:13:20.500Z info    version_loaded model=fraud version=3 load_s=0.41"
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param("a\nb", r"a\nb", id="a line break that would forge a line"),
        pytest.param("\x1b[31mred", r"\x1b[31mred", id="a terminal's escape"),
        pytest.param("\x9b31m", r"\x9b31m", id="the same in one byte"),
        pytest.param("\x00\x7f", r"\x00\x7f", id="NUL and DEL"),
        pytest.param("\u202etxt", r"\u202etxt", id="writing from right to left"),
        pytest.param("\udcff", r"\udcff", id="a file name that is not UTF-8"),
        pytest.param("größe", "größe", id="letters stay"),
    ],
)
def test_control_characters_are_escaped_in_text(value: str, written: str) -> None:
    assert TextFormatter().format(record(reason=value)).endswith(f" reason={written}")
    assert TextFormatter().format(record(value)).endswith(f" {written}")


def test_a_traceback_follows_its_line_and_is_escaped_too() -> None:
    lines = TextFormatter().format(failed_record("bad\x1b[2J")).split("\n")
    assert lines[0].endswith("info    version_load_crashed")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == r"ValueError: bad\x1b[2J"


@given(st.text(), st.text())
def test_a_text_line_stays_one_printable_line_whatever_it_is_told(event: str, value: str) -> None:
    assert TextFormatter().format(record(event.replace("%", ""), reason=value)).isprintable()


# --- JSON ------------------------------------------------------------------------------------------------


def test_a_json_line_holds_time_level_logger_event_and_facts() -> None:
    line = json.loads(JsonFormatter().format(record(model="fraud", version=3, shares_runs=True, reason=None)))
    assert line == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "info",
        "logger": "gateway.test",
        "event": "version_loaded",
        "model": "fraud",
        "version": 3,
        "shares_runs": True,
        "reason": None,
    }
    assert datetime.fromisoformat(line["time"]).timestamp() == 1_700_000_000.5


def test_a_traceback_stands_in_a_field_of_its_line() -> None:
    text = JsonFormatter().format(failed_record("bad"))
    assert "\n" not in text
    assert json.loads(text)["exception"].endswith("ValueError: bad")


@pytest.mark.parametrize("value", ["\n", "\x1b[31m", "\x9b31m", "\x00", "\x7f", "\u202e", "\u2028", "\udcff", "😀"])
def test_control_characters_are_escaped_in_json_and_come_back(value: str) -> None:
    text = JsonFormatter().format(record(reason=value))
    assert text.isprintable()
    assert json.loads(text)["reason"] == value


def refuse_constant(constant: str) -> object:
    raise ValueError(constant)


@given(st.text(), st.floats() | st.integers() | st.text(st.characters(exclude_categories=())) | st.binary())
def test_a_json_line_parses_and_stays_one_printable_line_whatever_it_is_told(event: str, value: object) -> None:
    text = JsonFormatter().format(record(event.replace("%", ""), reason=value))
    assert text.isprintable()
    line = json.loads(text, parse_constant=refuse_constant)
    assert line["event"] == event.replace("%", "")
    if isinstance(value, str | int):
        assert line["reason"] == value


# --- the process -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_record_of_the_process_goes_to_stderr_once(
    log_format: Literal["text", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("text")
    configure_logging(log_format)
    logging.getLogger("some.library").info("said_so", extra={"port": 80})
    logging.getLogger("some.library").debug("not_this")
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    if log_format == "json":
        assert {"event": "said_so", "logger": "some.library", "port": 80}.items() <= json.loads(line).items()
    else:
        assert line.endswith("info    said_so port=80")


def test_uvicorn_reports_only_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text")
    logging.getLogger("uvicorn").info("started")
    logging.getLogger("uvicorn").warning("odd")
    assert capsys.readouterr().err.splitlines()[0].endswith("warning odd")
