"""What /metrics says, judged by Prometheus' own tools: promtool, and a server that scrapes the gateway."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

from gateway.telemetry.metrics import SERIES
from tests.e2e.oracle import example_oracles
from tests.e2e.wire import infer_path, json_body
from tests.support.server import QUICK_STOP, GatewayProcess, ask, eventually, free_port, running_gateway

pytestmark = pytest.mark.prometheus

SAMPLES = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
"""What a series of each kind is called when it is asked for."""


CONFIG = f"""
{QUICK_STOP}
[monitoring]
bucket_s = 1
window_buckets = 1
min_rows = 2

[routes.breast_cancer]
variants = [
  {{name = "stable", model = "breast_cancer", version = 1, weight = 90}},
  {{name = "candidate", model = "breast_cancer", version = 2, weight = 10}},
]
shadows = [{{name = "next", model = "breast_cancer", version = 2}}]
"""
"""A split, a shadow and windows of a second, so that every series has something to say."""


@pytest.fixture(scope="module")
def busy_gateway(example_repository: Path) -> Iterator[GatewayProcess]:
    """Have a gateway answer and refuse something, so that every series has a value."""
    with running_gateway(example_repository, config=CONFIG) as gateway:
        for oracle in example_oracles():
            body = json_body(oracle.draw(4, np.random.default_rng(1)))
            assert gateway.ask(infer_path(oracle.model), "POST", body).status == 200
            assert gateway.ask(infer_path(oracle.model), "POST", b"{}").status == 400
        assert gateway.ask(infer_path("nobody"), "POST", b"{}").status == 404
        yield gateway


@pytest.fixture(scope="module")
def prometheus(busy_gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Prometheus server that scrapes the gateway; its URL."""
    folder = tmp_path_factory.mktemp("prometheus")
    host, port = busy_gateway.admin_address
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
        f"scrape_configs: [{{job_name: gateway, static_configs: [{{targets: ['{host}:{port}']}}]}}]\n"
    )
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=errors, stderr=errors, env=os.environ)
        try:
            url = f"http://{address}"
            eventually(lambda: is_up(url) or process.poll() is not None, within_s=30, what="a scrape")
            assert process.poll() is None, log.read_text()
            yield url
        finally:
            process.terminate()
            process.wait(20)


def is_up(prometheus: str) -> bool:
    """Tell whether the gateway has been scraped."""
    try:
        return query(prometheus, "up") == ["1"]
    except OSError:  # it does not listen yet
        return False


def query(prometheus: str, expression: str) -> list[str]:
    """Ask for the present value of every series an expression selects."""
    answer = ask(f"{prometheus}/api/v1/query?{urlencode({'query': expression})}")
    if answer.status == 503:  # it is still starting
        return []
    assert answer.status == 200, answer.body
    return [one["value"][1] for one in answer.json["data"]["result"]]


def test_promtool_finds_nothing_to_say(busy_gateway: GatewayProcess) -> None:
    """It checks the format, and names, units and help texts against Prometheus' own conventions."""
    text = busy_gateway.ask_admin("/metrics").body
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize(("name", "kind"), [(name, series.kind) for name, series in SERIES.items()])
def test_every_declared_series_can_be_queried(prometheus: str, name: str, kind: str) -> None:
    for suffix in SAMPLES[kind]:
        selector = f"gateway_{name}{suffix}"
        values = eventually(functools.partial(query, prometheus, selector), within_s=40, what=selector)
        assert all(float(value) >= 0 for value in values)


def test_the_process_is_described_too(prometheus: str, busy_gateway: GatewayProcess) -> None:
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        (value,) = query(prometheus, name)
        assert float(value) > 0


def test_what_was_asked_is_what_was_counted(prometheus: str, busy_gateway: GatewayProcess) -> None:
    def counted() -> int:
        selected = query(prometheus, 'gateway_requests_total{route="diabetes",variant="stable",code="200"}')
        return sum(int(value) for value in selected)

    (oracle,) = (one for one in example_oracles() if one.model == "diabetes")
    before = counted()
    body = json_body(oracle.draw(1, np.random.default_rng(2)))
    for _ in range(3):
        assert busy_gateway.ask(infer_path("diabetes"), "POST", body).status == 200
    eventually(lambda: counted() == before + 3, what="three more answers in Prometheus")
    (quantile,) = query(
        prometheus, 'histogram_quantile(0.99, gateway_request_duration_seconds_bucket{route="diabetes"})'
    )
    assert 0 < float(quantile) < 1
