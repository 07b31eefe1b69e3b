"""The load test as a user runs it: locust in a process of its own, because it changes the sockets of its process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import EXAMPLE_MODELS, ROOT, GatewayProcess, running_gateway

LOCUST = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]


@pytest.fixture(scope="module")
def server() -> Iterator[GatewayProcess]:
    with running_gateway(EXAMPLE_MODELS) as process:
        yield process


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_one_command_loads_its_own_server_and_writes_a_report(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    ended = run(sys.executable, "-m", "loadtests", "--duration-s", "2", "--html", str(report), "--max-p99-ms", "20000")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"report: {report}" in ended.stdout
    page = report.read_text()
    for dialect in ("v2 json", "v2 binary", "v1"):
        for model in ("breast_cancer", "diabetes", "digits", "digits_sequence", "penguins"):
            assert f"{dialect} {model}" in page
    assert "0(0.00%)" in ended.stdout


def test_a_broken_threshold_is_named_and_fails_the_run(server: GatewayProcess) -> None:
    before = server.metric("gateway_requests_total", code="200")
    ended = run(*LOCUST, "--host", server.data_url, "--duration-s", "1", "--min-rps", "100000", "--models", "penguins")
    assert ended.returncode == 1, ended.stderr
    assert "not passed: throughput:" in ended.stderr
    assert server.metric("gateway_requests_total", code="200") > before


def test_failed_requests_fail_the_run(server: GatewayProcess) -> None:
    """Under this address there is nothing: every request is answered 404."""
    ended = run(*LOCUST, "--host", f"{server.data_url}/nowhere", "--duration-s", "1", "--models", "penguins")
    assert ended.returncode == 1, ended.stderr
    assert "not passed: failures: 100.00%" in ended.stderr


def test_a_run_without_bounds_or_permission_never_starts() -> None:
    ended = run(*LOCUST, "--host", "http://192.0.2.1:8000", "--peak-users", "1001", "--drift", "shift:penguins/sex")
    assert ended.returncode == 2, ended.stderr
    for said in (
        "192.0.2.1 is not this machine",
        "--peak-users 1001: expected 1 to 1000",
        "shift:penguins/sex: the feature is text",
    ):
        assert said in ended.stderr


def test_a_server_that_cannot_start_is_named() -> None:
    ended = run(sys.executable, "-m", "loadtests", "--repository", "/nonexistent/models")
    assert ended.returncode == 3
    assert "loadtests: gateway ended with exit code 3" in ended.stderr
