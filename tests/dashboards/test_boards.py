"""The dashboards' JSON: fresh, read by Grafana's own types, and nothing on a panel left to guess."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard, units

from dashboards.build import build
from dashboards.check import BUILT_IN, FOLDER
from dashboards.runbook import sections

register_default_plugins()

Json = dict[str, Any]
DOCUMENTS: dict[str, Json] = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
UNITS = {unit for name, unit in vars(units).items() if isinstance(unit, str) and not name.startswith("_")}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, document in DOCUMENTS.items()
    for panel in document["panels"]
    if panel["type"] not in {"row", "text"}
]


def test_the_files_are_what_make_dashboards_writes() -> None:
    assert {name: (FOLDER / name).read_text() for name in build()} == build()
    assert build().keys() == DOCUMENTS.keys()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_grafanas_own_types_read_every_word(name: str) -> None:
    """What they do not know would be lost on the way through; only the words of annotations are beyond them."""
    read = dashboard.Dashboard.from_json(DOCUMENTS[name])
    again = json.loads(json.dumps(read, cls=JSONEncoder))
    expected = json.loads((FOLDER / name).read_text())
    for one in expected["annotations"]["list"]:
        del one["titleFormat"], one["step"]
    assert again == expected


def test_ids_are_unique_and_names_are_fixed() -> None:
    uids = [document["uid"] for document in DOCUMENTS.values()]
    assert sorted(uids) == [
        "gateway-capacity",
        "gateway-drift",
        "gateway-overview",
        "gateway-runbook",
        "gateway-traffic",
    ]
    for document in DOCUMENTS.values():
        ids = [panel["id"] for panel in document["panels"]]
        assert len(set(ids)) == len(ids)
        letters = [[target["refId"] for target in panel.get("targets", ())] for panel in document["panels"]]
        assert all(len(set(each)) == len(each) for each in letters)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_panels_fill_the_grid_and_never_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DOCUMENTS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
    widths = {row: sum(1 for _, y in taken if y == row) for row in {y for _, y in taken}}
    assert set(widths.values()) == {24}, "a row that is not filled shows a hole"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_is_in_which_unit_and_what_to_do(panel: Json) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 40
    assert panel["description"].endswith((".", "?"))
    unit = panel["fieldConfig"]["defaults"]["unit"]
    assert unit in UNITS or unit.startswith("suffix:")
    assert panel["targets"]
    assert all(target["legendFormat"] and target["expr"] for target in panel["targets"])
    assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_leads_to_its_section_of_the_runbook(panel: Json) -> None:
    (link,) = panel["links"]
    heading = link["title"].removeprefix("Runbook: ")
    number = int(link["url"].removeprefix("/d/gateway-runbook?viewPanel="))
    shown = {one["id"]: one for one in DOCUMENTS["runbook.json"]["panels"]}[number]
    assert shown["title"] == heading
    assert shown["options"]["content"] == sections()[heading]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_dashboards_lead_to_each_other_and_keep_what_was_chosen(name: str) -> None:
    document = DOCUMENTS[name]
    (link,) = document["links"]
    assert (link["type"], link["tags"], link["includeVars"], link["keepTime"]) == (
        "dashboards",
        ["onnx-gateway"],
        True,
        True,
    )
    assert document["tags"] == ["onnx-gateway"]
    chosen = [variable["name"] for variable in document["templating"]["list"]]
    assert chosen[:5] == ["datasource", "route", "model", "version", "replica"]
    for variable in document["templating"]["list"][1:]:
        assert (variable["includeAll"], variable["allValue"], variable["multi"]) == (True, ".*", True)


def test_every_link_leads_to_a_dashboard_that_is_there() -> None:
    uids = {document["uid"] for document in DOCUMENTS.values()}
    linked = {uid for name in DOCUMENTS for uid in re.findall(r'"/d/([\w-]+)', (FOLDER / name).read_text())}
    assert linked == uids - {"gateway-overview"}, "all but the one that one begins with"


def test_variables_that_expressions_use_are_offered() -> None:

    for name, document in DOCUMENTS.items():
        if name == "runbook.json":  # its dollars are the shell's
            continue
        offered = {variable["name"] for variable in document["templating"]["list"]} | BUILT_IN.keys()
        used = set(re.findall(r"\$\{?([a-z_]\w*)", json.dumps(document["panels"]))) - {"__data", "__url_time_range"}
        assert used <= offered, name


def test_provisioning_brings_data_source_and_folder_without_a_click() -> None:
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert (source["type"], source["isDefault"], source["jsonData"]["timeInterval"]) == ("prometheus", True, scraped)
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/gateway.yaml").read_text())["providers"]
    assert (provider["type"], provider["folder"]) == ("file", "ONNX gateway")
    assert provider["options"]["path"] == "${GATEWAY_DASHBOARDS}"
