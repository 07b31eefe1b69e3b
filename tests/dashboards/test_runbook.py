"""The runbook has a section for each alert and no other, and names only commands that exist."""

from __future__ import annotations

import re

import pytest

from dashboards.runbook import RUNBOOK, sections
from tests.dashboards.test_boards import DOCUMENTS
from tests.dashboards.test_rules import ALERTS

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


def test_panels_that_the_runbook_names_are_there() -> None:
    """A renamed panel would be looked for in vain at night."""
    titles = {panel["title"] for document in DOCUMENTS.values() for panel in document["panels"]}
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", RUNBOOK.read_text()))
    assert named
    assert {name for name in named if not any(title.startswith(name) for title in titles)} == set()
