"""Owns the promise of monitoring as its users see it: drift on /metrics in seconds, and every row in a window once.

Traffic is drawn with replacement from the reference's own rows, 500 rows to a window of five seconds.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from gateway.cli import main
from gateway.monitoring.reference import encode_reference
from gateway.monitoring.reference_builder import build_reference
from tests.store.redis_server import RedisServer
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import (
    QUICK_STOP,
    START_WITHIN_S,
    GatewayProcess,
    ask,
    eventually,
    free_port,
    running_gateway,
    start_gateway,
)

SEED = 5
COLUMNS = 6
WINDOW_S = 5
TICK_S = 0.05
QUICK_WINDOWS = f"{QUICK_STOP}\n[monitoring]\nbucket_s = 1\nwindow_buckets = {WINDOW_S}\n"

Rows = npt.NDArray[np.float32]


def reference_rows() -> Rows:
    return np.random.default_rng(SEED).normal(size=(8_000, COLUMNS)).astype(np.float32)


def write_repository(root: Path, rows: Rows) -> Path:
    """Write `score:1`, y = 2 · x + 1, with its reference."""
    root.mkdir()
    place = add_version(root, "score", 1, onnx_models.affine(COLUMNS))
    made = 2 * rows + 1
    (place / "reference.json").write_bytes(encode_reference(build_reference({"x": rows}, {"y": made})))
    return root


class Caller:
    """One caller on a connection of its own; knows how many of its rows were answered."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._connection = http.client.HTTPConnection(*gateway.data_address, timeout=20)
        self.answered_rows = 0

    def infer(self, rows: Rows) -> None:
        tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
        self._connection.request("POST", "/v2/models/score/infer", json.dumps({"inputs": [tensor]}))
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 200
        self.answered_rows += len(rows)

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def callers(gateways: list[GatewayProcess]) -> Iterator[list[Caller]]:
    found = [Caller(gateway) for gateway in gateways]
    try:
        yield found
    finally:
        for caller in found:
            caller.close()


def paced(seconds: float, step: Callable[[int], None]) -> None:
    """Call `step` twenty times a second, whatever a call takes."""
    pause, began = threading.Event(), time.monotonic()
    for tick in range(round(seconds / TICK_S)):
        step(tick)
        pause.wait(max(0.0, began + (tick + 1) * TICK_S - time.monotonic()))


def until_window_starts() -> None:
    """Wait for the next multiple of a window's length, where windows start."""
    threading.Event().wait(WINDOW_S - time.time() % WINDOW_S)


class Hook(BaseHTTPRequestHandler):
    """A webhook's receiver: takes everything."""

    received: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        """Take an event."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.headers["authorization"], json.loads(body)))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def webhook() -> Iterator[str]:
    """Receive events at an address."""
    Hook.received.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/drift"
        finally:
            server.shutdown()
            thread.join()


def drift_report(gateway: GatewayProcess) -> dict[str, Any]:
    report: dict[str, Any] = gateway.ask_admin("/admin/v1/drift/score/1?history=500").json
    return report


def window_rows(report: dict[str, Any]) -> int:
    """Add up the rows of all windows that were decided."""
    windows = [report["window"], *(entry["window"] for entry in report["history"])] if report["window"] else []
    return sum(window["rows"] for window in windows)


def libraries(gateway: GatewayProcess) -> set[str]:
    """Return which packages' extension modules the process has in memory."""
    return set(re.findall(r"site-packages/(\w+)", Path(f"/proc/{gateway.pid}/maps").read_text()))


def drifting(gateway: GatewayProcess) -> set[str]:
    """Return the inputs that /metrics says drift."""
    return {
        f"x_{column}"
        for column in range(COLUMNS)
        if gateway.metric("gateway_drift_state", model="score", version="1", feature=f"x_{column}", state="drift")
    }


def test_half_a_sigma_is_on_the_metrics_within_three_windows_and_nothing_else_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(SEED)
    rows = reference_rows()
    shift = np.zeros(COLUMNS, np.float32)
    shift[2] = 0.5 * rows[:, 2].std()

    with (
        webhook() as url,
        running_gateway(
            write_repository(tmp_path / "models", rows),
            config=f'{QUICK_WINDOWS}webhook = "{url}"\n',
            environment={"GATEWAY_MONITORING_WEBHOOK_AUTHORIZATION": "Bearer s3cret"},
        ) as gateway,
        callers([gateway]) as (caller,),
    ):
        first = gateway.ask_admin("/admin/v1/drift/score/1").json
        assert (first["state"], first["reason"]) == ("insufficient", "no window decided yet")
        assert "scipy" not in libraries(gateway), "slow to import, and not needed to be ready"
        until_window_starts()
        changed_s = time.time()
        paced(3 * WINDOW_S, lambda _: caller.infer(rows[rng.integers(0, len(rows), 5)] + shift))
        eventually(lambda: drifting(gateway) == {"x_2"}, what="drift of x_2 alone on /metrics")

        report = drift_report(gateway)
        assert (report["state"], report["mode"]) == ("drift", "iid")
        states = {feature["name"]: feature for feature in report["features"]}
        assert states["x_2"]["reason"] == "distribution"
        assert states["y_2"]["state"] == "drift", "what the model makes of it moves with it"
        eventually(lambda: window_rows(drift_report(gateway)) == caller.answered_rows, what="all rows in windows")
        assert gateway.metric("gateway_monitoring_rows_total", model="score", version="1") == caller.answered_rows
        assert gateway.metric("gateway_monitoring_dropped_rows_total") == 0
        assert gateway.metric("gateway_store_up") == 1
        assert "scipy" in libraries(gateway)
        assert gateway.metric("process_resident_memory_bytes") < 200e6, "with scipy, which judges the windows"

        detailed = gateway.ask_admin("/admin/v1/drift/score/1?counts=true").json["features"][2]
        assert sum(detailed["bins"]["reference"]) == len(rows)
        assert sum(detailed["bins"]["current"]) == detailed["rows"]
        assert len(detailed["bins"]["edges"]) + 1 == len(detailed["bins"]["current"])

        eventually(lambda: Hook.received and Hook.received[-1][1]["data"]["state"] == "drift", what="a word of it")
        secret, event = next(found for found in Hook.received if found[1]["data"]["state"] == "drift")
        # When the server said so; this process may have been too busy to look at once.
        assert datetime.fromisoformat(event["time"]).timestamp() - changed_s < 3 * WINDOW_S + 5
        assert secret == "Bearer s3cret"
        assert (event["specversion"], event["subject"]) == ("1.0", "score:1")
        assert {"x_2", "y_2"} <= {feature["name"] for feature in event["data"]["features"]}
        assert "s3cret" not in gateway.log

        assert main(["drift", "score", "--admin", gateway.admin_url]) == 0
        table = capsys.readouterr().out.splitlines()
        assert table[1].split()[:5] == ["score", "1", "primary", "drift", "iid"]
        assert {line.split()[0] for line in table if " drift " in line and "distribution" in line} == {"x_2", "y_2"}
        assert main(["drift", "nobody", "--admin", gateway.admin_url]) == 1

        gateway.ask_admin("/admin/v1/models/score/versions/1/unload", "POST")
        eventually(lambda: b"gateway_drift_state{" not in gateway.ask_admin("/metrics").body, what="no series left")


@pytest.mark.redis
def test_three_replicas_put_every_row_into_a_window_once_whatever_redis_does(tmp_path: Path) -> None:
    """Redis is killed twice and comes back with its log; all replicas then report the very same windows."""
    rng = np.random.default_rng(SEED)
    rows = reference_rows()
    repository = write_repository(tmp_path / "models", rows)
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer("--appendonly", "yes", "--appendfsync", "always"))
        gateways = [
            stack.enter_context(running_gateway(repository, config=QUICK_WINDOWS, arguments=["--redis", redis.url]))
            for _ in range(3)
        ]
        calling = stack.enter_context(callers(gateways))

        def step(tick: int) -> None:
            calling[tick % 3].infer(rows[rng.integers(0, len(rows), 1 + tick % 40)])
            if tick % 80 == 40:
                redis.kill()
            elif tick % 80 == 60:
                redis.start()

        paced(8, step)
        answered = sum(caller.answered_rows for caller in calling)

        def settled() -> bool:
            return all(window_rows(drift_report(gateway)) == answered for gateway in gateways)

        eventually(settled, within_s=20, what=f"{answered} rows in the windows of every replica")
        reports = [drift_report(gateway) for gateway in gateways]
        assert reports[0] == reports[1] == reports[2]
        for gateway, caller in zip(gateways, calling, strict=True):
            assert gateway.metric("gateway_monitoring_rows_total") == caller.answered_rows
            assert gateway.metric("gateway_monitoring_dropped_rows_total") == 0
        assert sum(gateway.metric("gateway_store_flush_errors_total") for gateway in gateways) > 0


def test_rows_are_counted_while_another_model_still_loads(tmp_path: Path) -> None:
    """A version answers as soon as it is READY, and a large neighbour may load for minutes."""
    rows = reference_rows()
    repository = write_repository(tmp_path / "models", rows)
    endless = {"inputs": {"x": [[3e8]]}, "outputs": {"y": [[3e8]]}, "tolerance": 1}
    add_version(repository, "patient", 1, onnx_models.slow_on_demand(), golden={"cases": [endless]})
    data, admin = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    ports = ["--port", data.rpartition(":")[2], "--admin-port", admin.rpartition(":")[2]]
    with start_gateway([str(repository), *ports, "--state-dir", "none"], tmp_path, {}) as process:
        try:
            ready = f"{data}/v2/models/score/ready"
            eventually(lambda: _status(ready) == 200, within_s=START_WITHIN_S, what="the quick model's answer")
            tensor = {"name": "x", "shape": [1_000, COLUMNS], "datatype": "FP32", "data": rows[:1_000].ravel().tolist()}
            for _ in range(20):
                assert ask(f"{data}/v2/models/score/infer", "POST", {"inputs": [tensor]}).status == 200
            text = ask(f"{admin}/metrics").body.decode()
            assert _status(f"{data}/v2/health/ready") == 503
        finally:
            process.kill()
    assert 'gateway_monitoring_rows_total{model="score",version="1"} 20000.0' in text
    assert 'gateway_monitoring_dropped_rows_total{reason="pending_full"} 0.0' in text


def _status(url: str) -> int:
    try:
        return ask(url).status
    except OSError:
        return 0
