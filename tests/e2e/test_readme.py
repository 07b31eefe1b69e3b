"""Every line of the README that a reader may paste does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from gateway.inference.model_config import ModelConfig
from gateway.settings import Settings
from tests.support.server import ROOT, GatewayProcess

README = ROOT / "README.md"

STRICT_SHELL = """
set -euo pipefail
curl() { command curl --fail-with-body --max-time 20 "$@"; }
gateway() { "$PYTHON" -W error -m gateway "$@"; }
"""
"""A pasted line shows an error to its reader; here it must end the block."""


class Block(NamedTuple):
    """A fenced block: its language, its first line's number, its text."""

    language: str
    line: int
    text: str


def blocks_of(text: str) -> list[Block]:
    """Return every fenced block."""
    return [
        Block(match[1], text[: match.start()].count("\n") + 2, match[2])
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


BLOCKS = blocks_of(README.read_text())
PASTED = [block for block in BLOCKS if block.language in ("bash", "python")]
TOML = {block.text.split(":")[0].split("\n")[0]: block for block in BLOCKS if block.language == "toml"}


def for_this_server(text: str, gateway: GatewayProcess) -> str:
    """Replace the default ports by the test server's."""
    for port, address in ((8000, gateway.data_address), (8002, gateway.admin_address)):
        text = text.replace(f"localhost:{port}", f"{address[0]}:{address[1]}")
    assert "localhost" not in text
    return text


def test_there_is_something_to_paste() -> None:
    assert {block.language for block in PASTED} == {"bash", "python"}
    assert len(PASTED) >= 5


@pytest.mark.parametrize("block", PASTED, ids=[f"{block.language}-line-{block.line}" for block in PASTED])
def test_a_pasted_block_works(gateway: GatewayProcess, tmp_path: Path, block: Block) -> None:
    text = for_this_server(block.text, gateway)
    if block.language == "bash":
        command = ["bash", "-c", STRICT_SHELL + text]
    else:
        command = [sys.executable, "-W", "error", "-c", text]
    known = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "GATEWAY_ADMIN_PORT": str(gateway.admin_address[1])}
    ran = subprocess.run(
        command, cwd=tmp_path, env=os.environ | known, capture_output=True, text=True, timeout=90, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout


def test_the_first_answer_is_what_the_readme_says_of_it(gateway: GatewayProcess, tmp_path: Path) -> None:
    first = for_this_server(PASTED[0].text, gateway)
    ran = subprocess.run(["bash", "-c", first], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert '"model_version":"2"' in ran.stdout


def test_the_server_settings_in_the_readme_are_all_there_are_with_their_defaults() -> None:
    defaults: dict[str, dict[str, object]] = msgspec.json.decode(msgspec.json.encode(Settings()))
    for section in defaults.values():
        for key in [key for key, value in section.items() if value is None]:
            del section[key]  # TOML writes it by leaving it out
    assert tomllib.loads(TOML["# gateway.toml"].text) == defaults


def test_the_model_settings_in_the_readme_are_the_defaults() -> None:
    shown = tomllib.loads(TOML["# models/<name>/model.toml"].text)
    defaults = msgspec.json.decode(msgspec.json.encode(ModelConfig()))
    assert shown["versions"] == defaults["versions"]
    for section in ("batching", "execution"):
        assert shown[section]
        assert shown[section] == {key: defaults[section][key] for key in shown[section]}
