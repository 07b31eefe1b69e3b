"""The rules, judged by promtool: well-formed, and every alert fires and clears in its unit tests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.check import FOLDER, dashboard_expressions, substituted

RULES = sorted((FOLDER / "rules").glob("*.yml"))
UNIT_TESTS = sorted((Path(__file__).parent / "rules").glob("*.yml"))

Yaml = dict[str, Any]


def rules() -> list[Yaml]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


@pytest.mark.prometheus
def test_promtool_finds_nothing_wrong_with_configuration_and_rules() -> None:
    for command in (
        ["config", "--lint=all", "--lint-fatal", str(FOLDER / "prometheus.yml")],
        ["rules", *map(str, RULES)],
    ):
        checked = subprocess.run(["promtool", "check", *command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.prometheus
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_promtool_test_rules_passes(path: Path) -> None:
    tested = subprocess.run(
        ["promtool", "test", "rules", path.name], cwd=path.parent, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_unit_tests_say_in_which_order_groups_are_evaluated(path: Path) -> None:
    """Else promtool draws one, and what is recorded stands there in time or not."""
    case = yaml.safe_load(path.read_text())
    groups = [
        group["name"]
        for name in case["rule_files"]
        for group in yaml.safe_load((path.parent / name).read_text())["groups"]
    ]
    assert len(groups) == 1 or case["group_eval_order"] == groups


@pytest.mark.prometheus
def test_every_query_of_every_panel_is_promql(tmp_path: Path) -> None:
    """As rules, which promtool reads; Grafana would show the error on the panel only."""
    queries = [one for one in dashboard_expressions() if one.kind != "variable"]
    made = [{"record": f"query_{number}", "expr": substituted(one.text)} for number, one in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": made}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_seen_to_fire_and_then_to_clear(alert: str) -> None:
    seen = []
    for path in UNIT_TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            asked = [one for one in case["promql_expr_test"] if f'alertname="{alert}"' in one["expr"]]
            seen.append([bool(one["exp_samples"]) for one in asked])
    assert any(fired in ([False, True, False], [True, False]) for fired in seen)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_where_to_go_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url", "dashboard"}
    assert annotations["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    uid = re.match(r"/d/gateway-(\w+)", annotations["dashboard"])
    assert uid is not None
    assert (FOLDER / f"{uid[1]}.json").exists()
    assert len(annotations["summary"]) < 120
    assert re.fullmatch(r"Gateway[A-Z]\w+", alert)


def test_recorded_series_are_named_level_metric_operations() -> None:
    for rule in rules():
        if "record" in rule:
            assert re.fullmatch(r"[a-z_]+:gateway_[a-z_]+:[a-z0-9_]+", rule["record"])
