"""The runbook has a section for each alert and no other, and names only commands that exist."""

from __future__ import annotations

import re
import shlex

import pytest

from dashboards.runbook import RUNBOOK, sections
from gateway.cli import main
from tests.dashboards.test_boards import DOCUMENTS
from tests.dashboards.test_rules import ALERTS
from tests.support.server import free_port

PARTS = ("**Means.**", "**Confirm.**", "**First.**", "**If it cries wolf.**")


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    assert list(sections())[1:] == list(dict.fromkeys(list(sections())[1:])), "a heading stands twice"
    assert set(sections()) - {""} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_a_section_says_what_it_means_how_to_confirm_what_to_do_and_how_to_quiet_it(alert: str) -> None:
    places = [sections()[alert].index(part) for part in PARTS]
    assert places == sorted(places)


def test_links_in_the_runbook_lead_to_its_sections() -> None:
    anchors = {heading.lower() for heading in sections()}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK.read_text())) <= anchors


def test_commands_of_the_runbook_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody answers here: each is refused the connection, and none its usage."""
    nobody = f"http://127.0.0.1:{free_port()}"
    lines = set(re.findall(r"\bgateway ((?:routes|models|replicas|drift)\b[^\n`#]*)", RUNBOOK.read_text()))
    assert len(lines) > 10
    for line in lines:
        words = [word.replace("REVISION", "7") for word in shlex.split(line)]
        if "--admin" in words:
            del words[words.index("--admin") :]
        if "FILE" in words:  # what does not exist is refused as well
            continue
        assert main([*words, "--admin", nobody]) == 3, line
    assert "usage" not in capsys.readouterr().err


def test_panels_that_the_runbook_names_are_there() -> None:
    """A renamed panel would be looked for in vain at night."""
    titles = {panel["title"] for document in DOCUMENTS.values() for panel in document["panels"]}
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", RUNBOOK.read_text()))
    assert named
    assert {name for name in named if not any(title.startswith(name) for title in titles)} == set()
