"""Owns the promises of routes that three replicas share, while their Redis is hung, killed, emptied and restored.

Each test leaves the Redis as it found it: there, and obeyed by every replica.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.e2e.family import REPLICAS, Family, redis_door, running_family
from tests.e2e.traffic import Traffic
from tests.e2e.wire import infer_path, json_body, request_bytes
from tests.store.fault_proxy import FaultProxy
from tests.store.redis_server import RedisServer
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import START_WITHIN_S, HttpAnswer, eventually

pytestmark = pytest.mark.redis

ROUTE = "fraud"
BODY = json_body({"x": np.zeros((1, 1), np.float32)})
REQUEST = request_bytes(infer_path(ROUTE), BODY)
KEYS = [f"user-{number}" for number in range(200)]
KEYED = [request_bytes(infer_path(ROUTE), BODY, headers={"x-routing-key": key}) for key in KEYS]
DOCUMENT = {
    "variants": [
        {"name": "stable", "model": "fraud", "version": 1, "weight": 90},
        {"name": "challenger", "model": "fraud", "version": 2, "weight": 10},
    ]
}
WRITE_WITHIN_S = 1.0
SLACK_S = 0.5
"""The machine may be busy with other tests."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """Start a Redis to hang, to kill and to empty."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def door(redis: RedisServer) -> Iterator[FaultProxy]:
    """Open the door through which all replicas reach it."""
    with redis_door(redis) as opened:
        yield opened


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, door: FaultProxy) -> Iterator[Family]:
    """Run three replicas that agree on a route with two variants."""
    repository = tmp_path_factory.mktemp("shared")
    for version in (1, 2):
        add_version(repository, ROUTE, version, onnx_models.identity(shape=("rows", 1)))
    with running_family(repository, door.url) as running:
        etag = running.admin(0, f"/routes/{ROUTE}").headers["etag"]
        assert running.write(1, f"/routes/{ROUTE}", DOCUMENT, "PUT", {"if-match": etag}).status == 200
        running.await_agreement(ROUTE)
        yield running


class Legality:
    """Collects what answers said of their revision, to be held against the history."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, str, str]] = set()

    def check(self, answer: HttpAnswer) -> str:
        """Say what is wrong with an answer by itself."""
        if answer.status != 200:
            return f"{answer.status}: {answer.body.decode()}"
        revision = int(answer.headers["x-gateway-revision"])
        self.seen.add((revision, answer.headers["x-gateway-variant"], answer.headers["x-gateway-model"]))
        return ""

    def faults(self, history: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
        """List what no revision of the history allows."""
        legal = {
            (entry["revision"], variant["name"], f"{variant['model']}:{variant['version']}")
            for entry in history
            for variant in entry["document"]["variants"]
            if variant["weight"] > 0
        }
        return sorted(self.seen - legal)


def check_ok(answer: HttpAnswer) -> str:
    """Say what is wrong with an answer."""
    return "" if answer.status == 200 else f"{answer.status}: {answer.body.decode()}"


def history(family: Family) -> list[dict[str, Any]]:
    """Read the revisions, newest first."""
    revisions: list[dict[str, Any]] = family.admin(0, f"/routes/{ROUTE}/history").json["revisions"]
    return revisions


def await_turn(due_at: float) -> None:
    """Wait until it is time."""
    eventually(lambda: time.monotonic() >= due_at, what="the next turn")


def everywhere_within_s(family: Family, revision: int, *, within_s: float) -> float:
    """Wait until every replica serves a revision, and return for how long."""
    began = time.monotonic()
    eventually(
        lambda: all(family.served(replica, ROUTE) >= revision for replica in range(REPLICAS)),
        within_s=within_s,
        what=f"revision {revision} on every replica",
    )
    return time.monotonic() - began


def test_fifty_changes_reach_every_replica_within_a_second_and_no_answer_is_illegal(family: Family) -> None:
    """Five times a second, under load, through each replica in turn; the shares include none and all."""
    legality = Legality()
    first = family.await_agreement(ROUTE)
    delays_s = []
    with Traffic(family.gateway.data_address, REQUEST, legality.check, callers=4) as traffic:
        for number in range(50):
            due_at = time.monotonic() + 0.2
            weight = (100, 25, 0, 5, 50)[number % 5]
            answer = family.shift(number % REPLICAS, ROUTE, {"challenger": weight})
            assert (answer.status, answer.json["revision"]) == (200, first + number + 1)
            delays_s.append(everywhere_within_s(family, first + number + 1, within_s=1.0))
            traffic.await_answers(1)
            await_turn(due_at)
    assert traffic.faults == []
    assert legality.faults(history(family)) == []
    assert len({revision for revision, _, _ in legality.seen}) >= 50
    assert max(delays_s) < 1.0


def test_without_subscriptions_a_change_is_everywhere_within_three_seconds(family: Family, redis: RedisServer) -> None:
    assert redis.command("ACL", "SETUSER", "default", "resetchannels").startswith(b"+OK")
    try:
        assert redis.command("PUBSUB", "CHANNELS") == b"*0\r\n"  # who listened has been cut off
        for number in range(3):
            revision = family.shift(number, ROUTE, {"challenger": 11 + number}).json["revision"]
            everywhere_within_s(family, revision, within_s=3.0)
    finally:
        assert redis.command("ACL", "SETUSER", "default", "allchannels").startswith(b"+OK")


async def test_a_key_keeps_its_variant_on_every_replica_over_restart_and_rollback(family: Family) -> None:
    before = family.shift(0, ROUTE, {"challenger": 30}).json["revision"]
    family.await_agreement(ROUTE)

    async def assignments() -> list[list[str]]:
        answers = await family.ask_each(KEYED)
        assert {answer.headers["x-gateway-assigned-by"] for each in answers.values() for answer in each} == {"sticky"}
        return [[answer.headers["x-gateway-variant"] for answer in each] for each in answers.values()]

    dealt = (await assignments())[0]
    assert {"stable", "challenger"} == set(dealt)
    assert await assignments() == [dealt] * REPLICAS

    replica, pid = next(iter(family.processes().items()))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: family.processes()[replica] != pid, within_s=START_WITHIN_S, what="a new process")
    assert await assignments() == [dealt] * REPLICAS

    assert family.shift(1, ROUTE, {"challenger": 60}).status == 200
    family.await_agreement(ROUTE)
    moved = (await assignments())[0]
    assert moved != dealt
    assert all(now == "challenger" for now, then in zip(moved, dealt, strict=True) if then == "challenger")
    rolled_back = family.write(2, f"/routes/{ROUTE}/rollback", {"revision": before})
    assert rolled_back.status == 200
    family.await_agreement(ROUTE)
    assert await assignments() == [dealt] * REPLICAS


def test_a_killed_redis_fails_no_prediction_and_comes_back_without_a_loss(family: Family, redis: RedisServer) -> None:
    """The aborted replica shows its abort, serves it, and it wins as a new revision when Redis is back."""
    revision = family.shift(0, ROUTE, {"challenger": 40}, "before").json["revision"]
    family.await_agreement(ROUTE)
    etag = family.admin(0, f"/routes/{ROUTE}").headers["etag"]
    with Traffic(family.gateway.data_address, REQUEST, check_ok, callers=4) as traffic:
        redis.kill()
        refused = assert_what_each_call_answers(family, etag, revision)
        assert family.ready() == [200] * REPLICAS
        aborted = family.admin(1, f"/routes/{ROUTE}/abort", "POST", {"reason": "alone"})
        assert (aborted.status, weights(aborted.json)) == (200, [100, 0])
        (own,) = family.reports(ROUTE, asked=1)
        assert not own["applied"]
        assert "aborted here" in own["reason"]
        traffic.await_answers(100)
        (redis.directory / "dump.rdb").unlink(missing_ok=True)
        redis.start()
        eventually(lambda: weights(family.admin(0, f"/routes/{ROUTE}").json) == [100, 0], what="the abort to win")
        assert family.await_agreement(ROUTE) == revision + 1
        traffic.await_answers(100)
    assert traffic.faults == []
    kept = history(family)
    assert kept[0]["reason"] == "alone"
    assert not refused & {entry["reason"] for entry in kept}
    found = family.admin(2, f"/routes/{ROUTE}").headers["etag"].strip('"')
    assert int(found.partition("-")[0]) > int(etag.strip('"').partition("-")[0])  # an epoch of its own
    records = family.admin(0, "/audit").json["records"]
    assert [record["action"] for record in records if record["route"] == ROUTE] == ["abort", "seed"]


def test_a_hung_redis_fails_no_prediction_and_what_was_refused_never_lands(family: Family, redis: RedisServer) -> None:
    revision = family.shift(0, ROUTE, {"challenger": 20}, "before").json["revision"]
    family.await_agreement(ROUTE)
    etag = family.admin(0, f"/routes/{ROUTE}").headers["etag"]
    with Traffic(family.gateway.data_address, REQUEST, check_ok, callers=4) as traffic:
        redis.pause()
        try:
            refused = assert_what_each_call_answers(family, etag, revision)
            traffic.await_answers(100)
        finally:
            redis.resume()
        assert family.shift(2, ROUTE, {"challenger": 21}, "after").status == 200
        family.await_agreement(ROUTE)
    assert traffic.faults == []
    assert not refused & {entry["reason"] for entry in history(family)}


def test_a_slow_redis_fails_no_prediction_and_keeps_nobody_waiting(family: Family, door: FaultProxy) -> None:
    """A change takes longer; where a single call takes more than a quarter of a second, it is refused in time."""
    with Traffic(family.gateway.data_address, REQUEST, check_ok, callers=4) as traffic:
        try:
            door.delay_s = 0.05
            changed = family.shift(0, ROUTE, {"challenger": 33}, "slow")
            assert (changed.status, weights(changed.json)) == (200, [67, 33])
            everywhere_within_s(family, changed.json["revision"], within_s=3.0)
            door.delay_s = 0.4
            began = time.monotonic()
            body = {"weights": {"challenger": 34}, "reason": "too slow"}
            refused = family.admin(1, f"/routes/{ROUTE}/shift", "POST", body)
            assert (refused.status, refused.json["outcome"]) == (503, "not_written")
            assert time.monotonic() - began < WRITE_WITHIN_S + SLACK_S
            assert family.ready() == [200] * REPLICAS
            traffic.await_answers(100)
        finally:
            door.delay_s = 0.0
        assert family.shift(2, ROUTE, {"challenger": 35}, "after").status == 200
        family.await_agreement(ROUTE)
    assert traffic.faults == []
    assert "too slow" not in {entry["reason"] for entry in history(family)}


def test_yesterdays_data_is_not_obeyed_until_somebody_adopts_it(family: Family, redis: RedisServer) -> None:
    yesterday = family.shift(0, ROUTE, {"challenger": 15}, "yesterday").json["revision"]
    family.await_agreement(ROUTE)
    redis.save()
    family.shift(1, ROUTE, {"challenger": 16}, "today")
    today = family.shift(2, ROUTE, {"challenger": 17}, "today").json["revision"]
    family.await_agreement(ROUTE)
    with Traffic(family.gateway.data_address, REQUEST, check_ok, callers=4) as traffic:
        redis.restore()

        def all_show_it() -> bool:
            reports = family.reports(ROUTE)
            return len(reports) == REPLICAS and all("went back" in report["reason"] for report in reports)

        eventually(all_show_it, what="every replica to show it")
        assert [family.served(replica, ROUTE) for replica in range(REPLICAS)] == [today] * REPLICAS
        assert weights(family.admin(0, f"/routes/{ROUTE}").json) == [83, 17]
        etag = family.admin(0, f"/routes/{ROUTE}").headers["etag"]
        for write in writes(etag):
            refused = family.admin(2, *write)
            assert (refused.status, refused.json["status"]) == (409, 409), refused.body
            assert refused.headers["content-type"] == "application/problem+json"
        assert family.admin(1, f"/routes/{ROUTE}/validate", "POST", DOCUMENT).json["valid"]
        assert family.ready() == [200] * REPLICAS
        adopted = family.write(2, f"/routes/{ROUTE}/adopt", {"reason": "restored on purpose"})
        assert (adopted.status, weights(adopted.json)) == (200, [85, 15])
        assert adopted.json["revision"] == today + 1 > yesterday + 1
        assert family.await_agreement(ROUTE) == today + 1
        traffic.await_answers(100)
    assert traffic.faults == []
    assert history(family)[0]["reason"] == "restored on purpose"


def timed(ask: Callable[[], HttpAnswer]) -> tuple[HttpAnswer, float]:
    """Ask, and return the answer and after how many seconds it came."""
    began = time.monotonic()
    return ask(), time.monotonic() - began


def weights(document: dict[str, Any]) -> list[float]:
    """Read the weights of a route's variants."""
    return [variant["weight"] for variant in document["variants"]]


def writes(etag: str) -> list[tuple[str, str, object, dict[str, str]]]:
    """List calls that would change the route, each with a reason of its own."""
    place = f"/routes/{ROUTE}"
    return [
        (place, "PUT", DOCUMENT | {"reason": "put"}, {"if-match": etag}),
        (place, "DELETE", {"reason": "delete"}, {"if-match": etag}),
        (f"{place}/shift", "POST", {"weights": {"challenger": 77}, "reason": "shift"}, {}),
        (f"{place}/rollback", "POST", {"reason": "rollback"}, {}),
    ]


def assert_what_each_call_answers(family: Family, etag: str, revision: int) -> set[str]:
    """Hold every call to what it owes while Redis is away, and return the reasons of the writes that were refused."""
    place = f"/routes/{ROUTE}"
    asked = [*writes(etag), (f"{place}-new", "PUT", DOCUMENT | {"reason": "new"}, {"if-none-match": "*"})]
    asked.append((f"{place}/adopt", "POST", {"reason": "adopt"}, {}))
    with ThreadPoolExecutor(len(asked)) as operators:
        for answer, took_s in operators.map(lambda write: timed(lambda: family.admin(0, *write)), asked):
            assert (answer.status, answer.headers["retry-after"]) == (503, "1"), answer.body
            assert answer.json["outcome"] == "not_written", answer.body
            assert took_s < WRITE_WITHIN_S + SLACK_S, answer.body
    for path in (f"{place}/history", "/audit"):
        assert family.admin(0, path).status == 503
    shown = family.admin(0, place)
    assert (shown.status, shown.json["revision"]) == (200, revision)
    assert ROUTE in [route["name"] for route in family.admin(0, "/routes").json["routes"]]
    validated = family.admin(0, f"{place}/validate", "POST", DOCUMENT)
    assert (validated.status, validated.json["valid"]) == (200, True)
    (own,) = family.admin(2, "/replicas").json["replicas"]
    assert own["admin"] == family.admin_urls[2]
    return {"put", "new", "shift", "rollback", "adopt"}
