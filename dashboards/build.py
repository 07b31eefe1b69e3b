"""Writes the dashboards' JSON files from the modules beside it: `make dashboards`; the same bytes every time.

Never asks Grafana; the types are those of Grafana's own Foundation SDK.
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from dashboards import runbook
from dashboards.boards import Section, compose
from dashboards.capacity import capacity
from dashboards.drift import drift
from dashboards.overview import overview
from dashboards.panels import prose
from dashboards.traffic import traffic

FOLDER = Path(__file__).parent


def build() -> dict[str, str]:
    """Return the text of each JSON file by its name."""
    made = {
        "overview.json": overview(),
        "traffic.json": traffic(),
        "capacity.json": capacity(),
        "drift.json": drift(),
        "runbook.json": manual(),
    }
    return {name: json.dumps(one, cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n" for name, one in made.items()}


def manual() -> dashboard.Dashboard:
    """Make the dashboard that shows docs/runbook.md, a panel for each section, so that links stay in Grafana."""
    panels = [prose(heading or "Where to begin", body) for heading, body in runbook.sections().items()]
    made = compose(
        runbook.UID, "Gateway: Runbook", "What to do when an alert fires: docs/runbook.md.", [Section("", panels)]
    )
    made.panels = [one for one in made.panels or [] if not isinstance(one, dashboard.RowPanel)]
    for heading, panel in zip(runbook.sections(), made.panels, strict=True):
        panel.id_val = runbook.panel_id(heading)
    return made


def main() -> None:
    """Write every file."""
    for name, text in build().items():
        (FOLDER / name).write_text(text)
        print(f"wrote dashboards/{name}")


if __name__ == "__main__":
    main()
