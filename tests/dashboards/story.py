"""Owns the story that fills every series: two replicas under traffic with a split, a shadow, failures and a drift.

A real Prometheus scrapes both, with the project's own configuration, quickened; holds no expectation.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import yaml

from dashboards.check import FOLDER
from tests.e2e.oracle import Oracle, example_oracles
from tests.e2e.wire import infer_path, json_body
from tests.store.redis_server import RedisServer
from tests.support import onnx_models
from tests.support.repositories import add_version, configure
from tests.support.server import EXAMPLE_MODELS, QUICK_STOP, GatewayProcess, ask, eventually, free_port, running_gateway

REPLICAS = 2
WATCHED = ("breast_cancer", "penguins")
NARROW = "[batching]\nmax_rows = 2\nmax_queue_rows = 4\n"
SETTINGS = f"""{QUICK_STOP}
[monitoring]
bucket_s = 1
window_buckets = 5
min_rows = 50

[routes.breast_cancer]
variants = [
  {{name = "stable", model = "breast_cancer", version = 1, weight = 60}},
  {{name = "challenger", model = "breast_cancer", version = 2, weight = 40}},
]
shadows = [{{name = "next", model = "breast_cancer", version = 2, tolerance = 1e-9}}]

[routes.risky]
variants = [
  {{name = "stable", model = "fragile", version = 1, weight = 50}},
  {{name = "challenger", model = "fragile", version = 2, weight = 50}},
]
shadows = [{{name = "absent", model = "fragile", version = 3}}]
"""


@contextlib.contextmanager
def two_replicas(folder: Path) -> Iterator[GatewayProcess]:
    """Serve two watched models, one that fails and one with little room, from two replicas over one Redis."""
    repository = folder / "models"
    for name in WATCHED:
        shutil.copytree(EXAMPLE_MODELS / name, repository / name)
    add_version(repository, "fragile", 1, onnx_models.fragile())
    add_version(repository, "fragile", 2, onnx_models.fragile())
    add_version(repository, "narrow", 1, onnx_models.slow_on_demand(2000))
    configure(repository, "narrow", NARROW)
    with RedisServer() as redis:
        flags = ["--replicas", str(REPLICAS), "--redis", redis.url]
        with running_gateway(repository, config=SETTINGS, arguments=flags) as gateway:
            yield gateway


class Traffic:
    """Callers of everything, in rounds, until the block ends; rows of breast_cancer lose a feature now and then."""

    def __init__(self, gateway: GatewayProcess) -> None:
        """Call nobody yet."""
        self._gateway = gateway
        self._oracles = [oracle for oracle in example_oracles() if oracle.model in WATCHED]
        self._random = np.random.default_rng(6)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)

    def __enter__(self) -> None:
        """Begin."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """End, and wait for the last round."""
        self._is_over.set()
        self._thread.join(60)

    def _call(self) -> None:
        turn = 0
        while not self._is_over.wait(0.05):
            turn += 1
            for oracle in self._oracles:
                self._infer(infer_path(oracle.model), self._body(oracle), {"x-routing-key": f"caller-{turn}"})
            self._infer(infer_path("breast_cancer"), self._body(self._oracles[0]), {})
            self._infer(infer_path("breast_cancer", 1), self._body(self._oracles[0]), {})
            self._infer(infer_path("nobody"), b"{}", {})
            self._infer(infer_path("breast_cancer"), b"{}", {})
            self._infer(infer_path("risky"), _column(1.0), {})
            if turn % 20 == 0:
                self._infer(infer_path("risky"), _column(-1.0), {})
                with ThreadPoolExecutor(12) as crowd:
                    list(crowd.map(lambda _: self._infer(infer_path("narrow"), _column(2e4), {}), range(12)))

    def _body(self, oracle: Oracle) -> bytes:
        inputs = oracle.draw(16, self._random)
        if oracle.model == "breast_cancer":
            inputs["features"][::2, 3] = np.nan
        return json_body(inputs)

    def _infer(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        self._gateway.ask(path, "POST", body, headers)


@contextlib.contextmanager
def scraping_prometheus(folder: Path, gateway: GatewayProcess) -> Iterator[str]:
    """Run a Prometheus with the project's configuration and rules, quickened, that scrapes both replicas; its URL."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(FOLDER / name) for name in configuration["rule_files"]]
    (folder / "targets.yml").write_text(yaml.safe_dump([{"targets": admin_addresses(gateway)}]))
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = [
        *("prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address={address}", "--log.level=warn"),
    ]
    log = folder / "prometheus.log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=errors, stderr=errors, env=os.environ)
        try:
            url = f"http://{address}"
            eventually(lambda: _is_scraping(url) or process.poll() is not None, within_s=30, what="scrapes")
            assert process.poll() is None, log.read_text()
            yield url
        finally:
            process.terminate()
            process.wait(20)


def admin_addresses(gateway: GatewayProcess) -> list[str]:
    """Ask where the replicas' admin planes are, once all have said so."""

    def announced() -> list[str] | None:
        replicas = gateway.ask_admin("/admin/v1/replicas").json["replicas"]
        found = sorted(replica["admin"].removeprefix("http://") for replica in replicas)
        return found if len(found) == REPLICAS else None

    return eventually(announced, what="every replica in /admin/v1/replicas")


def values(prometheus: str, expression: str) -> list[float]:
    """Ask for the present value of every series that an expression selects."""
    answer = ask(f"{prometheus}/api/v1/query?{urlencode({'query': expression})}")
    if answer.status == 503:  # it is still starting
        return []
    assert answer.status == 200, answer.body
    return [float(one["value"][1]) for one in answer.json["data"]["result"]]


def _is_scraping(prometheus: str) -> bool:
    try:
        return values(prometheus, "sum(up)") == [REPLICAS]
    except OSError:  # it does not listen yet
        return False


def _column(value: float) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}]}).encode()
