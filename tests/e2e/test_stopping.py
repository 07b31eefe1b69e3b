"""A gateway that is told to stop says so, answers everybody who is still there, and exits 0."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.traffic import Traffic, await_queue
from tests.e2e.wire import RawSocket, infer_path, json_body, read_outputs, request_bytes
from tests.support import onnx_models
from tests.support.repositories import add_version, configure
from tests.support.server import (
    START_WITHIN_S,
    STOP_WITHIN_S,
    GatewayProcess,
    HttpAnswer,
    ask,
    eventually,
    free_port,
    running_gateway,
    start_gateway,
)

LONG_DELAY_S = 60
ENDLESS = {"inputs": {"x": [[3e8]]}, "outputs": {"y": [[3e8]]}, "tolerance": 1}
"""A golden case of the patient model that takes minutes."""
QUICK = request_bytes(infer_path("patient"), json_body({"x": np.zeros((1, 1), np.float32)}))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a repository whose model takes as many microseconds as it is told."""
    repository = tmp_path_factory.mktemp("stopping")
    add_version(repository, "patient", 1, onnx_models.slow_on_demand(2000))
    configure(repository, "patient", "[batching]\nenabled = false\n")  # so that a second request waits for the first
    return repository


@contextmanager
def stopping(repository: Path, *, drain_delay_s: float, drain_timeout_s: float = 10) -> Iterator[GatewayProcess]:
    """Run a gateway that the test stops itself."""
    config = f"[server]\ndrain_delay_s = {drain_delay_s}\ndrain_timeout_s = {drain_timeout_s}\n"
    with running_gateway(repository, config=config) as server:
        yield server


def slow_request(microseconds: float, query: str = "") -> bytes:
    """Write a request that takes about so long; with a query it goes the long way, through ASGI."""
    return request_bytes(infer_path("patient") + query, json_body({"x": np.array([[microseconds]], np.float32)}))


def check_ok(answer: HttpAnswer) -> str:
    """Say what is wrong with an answer."""
    return "" if answer.status == 200 else f"{answer.status}: {answer.body.decode()}"


@contextmanager
def two_in_flight(server: GatewayProcess, microseconds: float, query: str = "") -> Iterator[list[RawSocket]]:
    """Have one request run for so long and another one wait in its queue."""
    with RawSocket(server.data_address) as first, RawSocket(server.data_address) as second:
        for connection in (first, second):
            connection.send(slow_request(microseconds, query))
        await_queue(server, "patient", 1)
        yield [first, second]


def test_sigterm_turns_readiness_off_and_tells_clients_to_go_elsewhere(repository: Path) -> None:
    with stopping(repository, drain_delay_s=1.0) as server:
        assert "connection" not in server.ask("/v2/health/ready").headers
        told = time.monotonic()
        server.signal(signal.SIGTERM)
        eventually(lambda: server.ask("/v2/health/ready").status == 503, within_s=0.5, what="readiness 503")
        assert server.ask_admin("/readyz").json == {"ready": False}
        assert server.ask("/v2/health/live").status == 200
        assert server.ask_admin("/livez").status == 200
        for path, method in (("/v2/health/ready", "GET"), ("/v2/models/patient", "GET"), ("/v2/models/nobody", "GET")):
            assert server.ask(path, method).headers["connection"] == "close", path
        with RawSocket(server.data_address) as connection:
            connection.send(QUICK)
            answer = connection.receive()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert connection.is_closed_by_peer()
        assert server.is_running
        assert server.wait() == 0
        assert time.monotonic() - told >= 1.0


def test_requests_in_flight_are_finished(repository: Path) -> None:
    with stopping(repository, drain_delay_s=0) as server:
        with two_in_flight(server, 5e5) as connections:
            server.signal(signal.SIGTERM)
            for connection in connections:
                answer = connection.receive()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                assert read_outputs(answer)["y"] == np.float32(5e5)
                assert connection.is_closed_by_peer()
        assert server.wait() == 0


@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT,)]
)
def test_sigint_or_a_second_sigterm_skips_the_delay(repository: Path, numbers: tuple[signal.Signals, ...]) -> None:
    with stopping(repository, drain_delay_s=LONG_DELAY_S) as server:
        with two_in_flight(server, 3e5) as connections:
            server.signal(numbers[0])
            if len(numbers) > 1:
                eventually(lambda: server.ask_admin("/readyz").status == 503, what="readiness 503")
                server.signal(numbers[1])
            assert [connection.receive().status for connection in connections] == [200, 200]
        assert server.wait(STOP_WITHIN_S) == 0


@pytest.mark.parametrize("query", ["", "?long=way"])
def test_a_request_that_outlives_the_drain_is_given_up(repository: Path, query: str) -> None:
    """Running or waiting, its client gets an answer that it can read, and the process ends."""
    with stopping(repository, drain_delay_s=0, drain_timeout_s=1) as server:
        with two_in_flight(server, 1e8, query) as connections:
            server.signal(signal.SIGTERM)
            told = time.monotonic()
            for connection in connections:
                answer = connection.receive()
                assert answer.status == 503
                assert answer.error
        assert server.wait() == 0
        assert time.monotonic() - told < 5


def test_an_admin_call_that_outlives_the_drain_is_given_up(tmp_path: Path) -> None:
    """An operator who waits for a large model to load learns why it did not."""
    add_version(tmp_path, "patient", 1, onnx_models.slow_on_demand())
    with stopping(tmp_path, drain_delay_s=0, drain_timeout_s=1) as server:
        add_version(tmp_path, "patient", 2, onnx_models.slow_on_demand(), golden={"cases": [ENDLESS]})
        eventually(lambda: server.state("patient", 2) == "LOADING", what="a load under way")
        with RawSocket(server.admin_address) as operator:
            operator.send(request_bytes("/admin/v1/models/patient/versions/2/load", headers={"host": "localhost"}))
            server.signal(signal.SIGTERM)
            answer = operator.receive()
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert server.wait() == 0


def test_a_connection_that_idles_is_closed_and_does_not_hold_up_the_exit(repository: Path) -> None:
    with stopping(repository, drain_delay_s=0) as server, RawSocket(server.data_address) as idle:
        idle.send(QUICK)
        assert idle.receive().status == 200
        server.signal(signal.SIGTERM)
        assert idle.is_closed_by_peer()
        assert server.wait() == 0


def test_no_client_that_honours_connection_close_sees_a_failure(repository: Path) -> None:
    with (
        stopping(repository, drain_delay_s=0.5) as server,
        Traffic(server.data_address, QUICK, check_ok, callers=16) as traffic,
    ):
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert traffic.faults == []
    assert traffic.callers_left == 0
    assert traffic.refused == 0


def test_no_accepted_request_fails_under_load(repository: Path) -> None:
    """These clients come back to the same address until nobody listens there: only that may stop them."""
    with (
        stopping(repository, drain_delay_s=0.5) as server,
        Traffic(server.data_address, QUICK, check_ok, callers=16, reconnects=True) as traffic,
    ):
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert traffic.faults == []
    assert traffic.callers_left == 0
    assert traffic.refused == 16


def test_a_stop_while_models_load_is_not_an_accident(tmp_path: Path) -> None:
    """The process may be told to stop before it was ever ready."""
    add_version(tmp_path, "heavy", 1, onnx_models.slow(30_000))
    with stopping(tmp_path, drain_delay_s=0) as server:
        add_version(tmp_path, "heavy", 2, onnx_models.slow(30_000))
        eventually(lambda: server.state("heavy", 2) == "LOADING", what="a load under way")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.parametrize("is_serving", [True, False])
def test_a_stop_waits_for_no_load(tmp_path: Path, *, is_serving: bool) -> None:
    """Nobody can ask onnxruntime to leave off, and a large model loads for minutes; before ready and afterwards."""
    repository = tmp_path / "models"
    add_version(repository, "patient", 1, onnx_models.slow_on_demand())
    if is_serving:
        with stopping(repository, drain_delay_s=0) as server:
            add_version(repository, "patient", 2, onnx_models.slow_on_demand(), golden={"cases": [ENDLESS]})
            eventually(lambda: server.state("patient", 2) == "LOADING", what="a load under way")
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        return
    add_version(repository, "patient", 2, onnx_models.slow_on_demand(), golden={"cases": [ENDLESS]})
    data, admin = free_port(), free_port()
    places = ["--port", str(data), "--admin-port", str(admin), "--state-dir", "none"]
    with start_gateway([str(repository), *places], tmp_path, {"GATEWAY_DRAIN_DELAY_S": "0"}) as process:
        try:
            eventually(lambda: is_loaded(admin), within_s=START_WITHIN_S, what="the first load")
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=STOP_WITHIN_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in errors


def is_loaded(admin_port: int) -> bool:
    """Tell whether a gateway on its way to ready has loaded the first version."""
    try:
        answer = ask(f"http://127.0.0.1:{admin_port}/admin/v1/models")
    except OSError:
        return False
    models = answer.json["models"]
    return bool(models) and [entry["state"] for entry in models[0]["versions"]] == ["READY", "LOADING"]
