"""The dashboards and rules against a real Prometheus that scrapes two real replicas: nothing they select is empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dashboards.check import Prometheus, empty_panels, main, unmatched
from tests.dashboards.story import Traffic, scraping_prometheus, two_replicas, values
from tests.support.server import GatewayProcess, ask, eventually

pytestmark = [pytest.mark.prometheus, pytest.mark.redis]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve from two replicas."""
    with two_replicas(tmp_path_factory.mktemp("replicas")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def prometheus(replicas: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Scrape them under traffic until broken rows have raised an alarm; the URL of Prometheus."""
    with scraping_prometheus(tmp_path_factory.mktemp("prometheus"), replicas) as url, Traffic(replicas):
        firing = 'ALERTS{alertname="GatewayDataQuality", alertstate="firing"}'
        eventually(lambda: values(url, firing), within_s=60, what="an alarm for the null feature")
        eventually(lambda: values(url, 'ALERTS{alertname="GatewayDrift"}'), what="an alarm for drift")
        yield url


def test_every_selector_of_every_dashboard_and_rule_matches_a_series(prometheus: str) -> None:
    missing = unmatched(Prometheus(prometheus, minutes=5))
    assert {selector: [str(one) for one in expressions] for selector, expressions in missing.items()} == {}


def test_every_panel_has_something_to_show(prometheus: str) -> None:
    assert [str(expression) for expression in empty_panels(Prometheus(prometheus, minutes=5))] == []


def test_the_command_says_the_same(prometheus: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([prometheus, "--minutes", "5"]) == 0
    assert capsys.readouterr().out == "0 selectors without a series, 0 queries without a value\n"


def test_every_rule_is_evaluated_without_a_fault(prometheus: str) -> None:
    def health() -> set[str] | None:
        groups = ask(f"{prometheus}/api/v1/rules").json["data"]["groups"]
        found = {rule["health"] for group in groups for rule in group["rules"]}
        return found if "unknown" not in found else None

    assert eventually(health, what="an evaluation of every rule") == {"ok"}
