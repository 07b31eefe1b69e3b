"""Several replicas on one machine: one data port, an admin port each, and a parent that outlives its children alone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.family import REPLICAS, Family, origin, running_family
from tests.e2e.traffic import Traffic
from tests.e2e.wire import RawSocket, infer_path, json_body, request_bytes
from tests.store.redis_server import RedisServer
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import START_WITHIN_S, HttpAnswer, eventually

pytestmark = pytest.mark.redis

BODY = json_body({"x": np.zeros((1, 1), np.float32)})
QUICK = request_bytes(infer_path("echo"), BODY)
ALONE = request_bytes(infer_path("echo"), BODY, headers={"connection": "close"})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a repository with one small model."""
    repository = tmp_path_factory.mktemp("replicas")
    add_version(repository, "echo", 1, onnx_models.identity(shape=("rows", 1)))
    return repository


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """Start a Redis for all tests here."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def family(repository: Path, redis: RedisServer) -> Iterator[Family]:
    """Run three replicas that come back when a test ends one."""
    with running_family(repository, redis.url) as running:
        yield running


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def check_ok(answer: HttpAnswer) -> str:
    """Say what is wrong with an answer."""
    return "" if answer.status == 200 else f"{answer.status}: {answer.body.decode()}"


def test_each_replica_has_a_process_and_an_admin_plane_of_its_own(family: Family) -> None:
    assert family.gateway.banner.count("predictions") == 1
    assert len(set(family.admin_urls)) == REPLICAS
    found = family.processes()
    assert len({*found.values(), family.gateway.pid}) == REPLICAS + 1
    ports = {url.rpartition(":")[2] for url in family.admin_urls}
    assert set(found) == {f"{socket.gethostname()}-{port}" for port in ports}
    assert family.ready() == [200] * REPLICAS
    mapped = Path(f"/proc/{family.gateway.pid}/maps").read_text()
    assert "onnxruntime" not in mapped  # the parent serves nothing


def free_ports(count: int) -> int:
    """Find the first of some ports in a row that nobody listens on now."""
    for first in range(20_000, 30_000, count):
        try:
            for number in range(count):
                socket.create_server(("127.0.0.1", first + number)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def test_connections_that_stay_are_shared_out_evenly(family: Family) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(RawSocket(family.gateway.data_address)) for _ in range(60)]
        for connection in connections:
            connection.send(QUICK)
        answered_by = Counter(origin(connection.receive()) for connection in connections)
    assert len(answered_by) == REPLICAS
    assert min(answered_by.values()) >= 10, answered_by


def test_a_killed_replica_takes_only_what_it_was_answering_and_comes_back(family: Family) -> None:
    """Those who come anew meanwhile meet nobody who is not ready; the second time it is restarted later."""
    pauses: list[float] = []
    for _ in range(2):
        replica, pid = next(iter(family.processes().items()))
        address = family.gateway.data_address
        with (
            Traffic(address, QUICK, check_ok, callers=9, reconnects=True, survives=True) as traffic,
            Traffic(address, ALONE, check_ok, callers=4, reconnects=True, survives=True) as newcomers,
        ):
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: family.processes()[replica] != pid, within_s=START_WITHIN_S, what="a new process")  # noqa: B023
            newcomers.await_answers(50)
        assert traffic.faults + newcomers.faults == []
        assert traffic.refused + newcomers.refused == 0
        assert traffic.callers_left == newcomers.callers_left == 0
        assert len({request_id.partition("-")[0] for request_id in traffic.lost if request_id}) <= 1
        ended = [line for line in family.gateway.log_records if line["event"] == "replica_ended"][-1]
        assert (ended["replica"], ended["reason"]) == (replica, "ended by SIGKILL")
        pauses.append(ended["restart_in_s"])
    assert pauses[0] <= 0.5 <= pauses[1] <= 1.0
    assert family.ready() == [200] * REPLICAS


def test_a_replica_that_is_told_to_stop_alone_drains_and_comes_back(family: Family) -> None:
    """So one replica after the other can be renewed."""
    replica, pid = list(family.processes().items())[-1]
    with Traffic(family.gateway.data_address, QUICK, check_ok, callers=9, reconnects=True) as traffic:
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: family.processes()[replica] != pid, within_s=START_WITHIN_S, what="a new process")
        traffic.await_answers(200)
    assert traffic.faults == []
    assert traffic.refused == 0


def test_a_replica_that_cannot_come_back_is_tried_again_until_it_can(family: Family, repository: Path) -> None:
    """Only at the very first start does that end everything; the others go on meanwhile."""
    replica, pid = list(family.processes().items())[1]
    away = repository.rename(repository.with_name("away"))
    try:
        os.kill(pid, signal.SIGKILL)

        def refused() -> bool:
            ended = [line for line in family.gateway.log_records if line["event"] == "replica_ended"]
            return bool(ended[-1]["replica"] == replica and ended[-1]["reason"].endswith(": no such directory"))

        eventually(refused, within_s=START_WITHIN_S, what="a refused start")
        with RawSocket(family.gateway.data_address) as connection:
            connection.send(QUICK)
            assert connection.receive().status == 200
    finally:
        away.rename(repository)
    eventually(lambda: family.processes()[replica] != pid, within_s=START_WITHIN_S, what="a new process")
    assert family.ready() == [200] * REPLICAS


def test_sigterm_drains_all_and_no_accepted_request_fails(repository: Path, redis: RedisServer) -> None:
    config = "[server]\ndrain_delay_s = 2.0\ndrain_timeout_s = 10\n"
    with running_family(repository, redis.url, config=config) as family:
        pids = family.processes().values()
        with Traffic(family.gateway.data_address, QUICK, check_ok, callers=9, reconnects=True) as traffic:
            told = time.monotonic()
            family.gateway.signal(signal.SIGTERM)
            eventually(lambda: family.ready() == [503] * REPLICAS, within_s=1.8, what="readiness 503")
            with RawSocket(family.gateway.data_address) as connection:
                connection.send(QUICK)
                answer = connection.receive()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert family.gateway.wait() == 0
            assert time.monotonic() - told >= 2.0
        assert all(map(is_gone, pids))
    assert traffic.faults == []
    assert traffic.refused == 9
    assert traffic.callers_left == 0


def test_admin_ports_follow_one_another_and_a_second_sigterm_skips_the_delay(
    repository: Path, redis: RedisServer
) -> None:
    first = free_ports(REPLICAS)
    config = "[server]\ndrain_delay_s = 60\ndrain_timeout_s = 10\n"
    with running_family(repository, redis.url, "--admin-port", str(first), config=config) as family:
        assert family.admin_urls == [f"http://127.0.0.1:{first + number}" for number in range(REPLICAS)]
        family.gateway.signal(signal.SIGTERM)
        eventually(lambda: 503 in family.ready(), what="readiness 503")
        family.gateway.signal(signal.SIGTERM)
        assert family.gateway.wait() == 0


def test_no_replica_outlives_its_parent(repository: Path, redis: RedisServer) -> None:
    """Whoever starts the gateway anew finds its ports free."""
    with running_family(repository, redis.url, exit_code=-signal.SIGKILL) as family:
        pids = family.processes().values()
        family.gateway.signal(signal.SIGKILL)
        eventually(lambda: all(map(is_gone, pids)), what="the end of all replicas")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(family.gateway.data_address)
