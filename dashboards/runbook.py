"""The sections of docs/runbook.md, and where Grafana shows each: a panel of the dashboard Runbook."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard

RUNBOOK = Path(__file__).parents[1] / "docs" / "runbook.md"
UID = "gateway-runbook"


@cache
def sections() -> dict[str, str]:
    """Return the text of each section by its heading; what stands before the first is under ""."""
    parts = re.split(r"^## +(.+)\n", RUNBOOK.read_text(), flags=re.MULTILINE)
    return {"": parts[0].strip()} | {
        heading.strip(): body.strip() for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def panel_id(heading: str) -> int:
    """Return the id of the panel that shows a section.

    Raises: ValueError: the runbook has no such section.
    """
    return list(sections()).index(heading) + 1


def section_link(heading: str) -> Builder[dashboard.DashboardLink]:
    """Link to a section."""
    link = board.DashboardLink(f"Runbook: {heading}").type(dashboard.DashboardLinkType.LINK)
    return link.url(f"/d/{UID}?viewPanel={panel_id(heading)}").target_blank(True)
