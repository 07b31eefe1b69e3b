"""Holds a split route to its promises over HTTP: who answers, what the headers say, what is counted, who stands in."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from gateway.api.auth import DataAccess
from gateway.inference.batcher import INLINE_LIMIT_S
from gateway.inference.session import RunStop
from gateway.messages import Array
from gateway.routing.breaker import BreakerSettings
from gateway.settings import AuthSettings, LimitSettings, TokenSettings
from tests.inference.stub_session import CRASHES, StubSession
from tests.routing.routes import publish, route_of
from tests.support.split_plane import SplitPlane, split_plane, who

QUICK_S = INLINE_LIMIT_S / 10
KEY_HEADER = "x-routing-key"
ALL_TO_B = route_of(0, 10_000)
RETRY_S = BreakerSettings().base_open_s


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SplitPlane]:
    """Serve fraud:1 as `stable` and fraud:2 as `b`."""
    async with split_plane(tmp_path) as made:
        made.serve(1, run_s=QUICK_S)
        made.serve(2, run_s=QUICK_S)
        yield made


class Failing(StubSession):
    """Fails every run with an error that is none of the gateway's, while `fails`."""

    fails = True

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        """Fail."""
        computed = super().run(inputs, outputs, stop)
        if self.fails:
            raise ZeroDivisionError("a fault of the model's own")
        return computed


async def in_a_run(session: StubSession) -> None:
    """Wait until the session is in its next run."""
    assert await asyncio.to_thread(session.entered.acquire, timeout=10)


# --- who answers ----------------------------------------------------------------------------------


async def test_a_key_is_answered_by_the_variant_that_the_splitter_deals_it(plane: SplitPlane) -> None:
    """In the header of the route's choice or among the parameters, written in UTF-8 or in JSON."""
    route = msgspec.structs.replace(route_of(7000, 3000), routing_key_header="x-customer")
    plane.publish(route)
    dealt = publish(route)
    keys = [f"customer-{number}" for number in range(200)] + ["größe", "客户"]
    seen: Counter[str] = Counter()
    for key in keys:
        expected = route.variants[dealt.splitter.variant_of(key)].name
        answer = await plane.ask(1, headers={"x-customer": key.encode().decode("latin-1")})
        assert who(answer)[:2] == (expected, "sticky")
        body = {
            "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}],
            "parameters": {"routing_key": key},
        }
        again = await plane.exchange.answer("POST", "/v2/models/fraud/infer", [], json.dumps(body).encode())
        assert dict(again.headers)[b"x-gateway-variant"].decode() == expected
        seen[expected] += 1
    assert min(seen["stable"], seen["b"]) > 30


async def test_a_key_that_comes_again_is_dealt_as_the_first_time_until_the_weights_change(plane: SplitPlane) -> None:
    plane.publish(route_of(5000, 5000))
    keys = [{KEY_HEADER: f"customer-{number}"} for number in range(30)]
    first = [who(await plane.ask(1, headers=key)) for key in keys]
    assert len(set(first)) == 2
    assert [who(await plane.ask(1, headers=key)) for key in keys] == first
    balance = plane.dataplane.status("fraud", plane.now()).balance
    assert balance is not None
    assert sum(balance.sticky) == len(keys), "a key is counted once"
    plane.publish(ALL_TO_B)
    assert {who(await plane.ask(1, headers=key))[0] for key in keys} == {"b"}
    plane.publish(route_of(5000, 5000))
    assert [who(await plane.ask(1, headers=key)) for key in keys] == first


async def test_a_key_whose_variant_failed_is_counted_when_it_answers(plane: SplitPlane) -> None:
    plane.serve(2, candidate := Failing(), run_s=QUICK_S)
    plane.publish(half := route_of(5000, 5000))
    dealt = publish(half)
    key = next(f"k{number}" for number in range(100) if dealt.splitter.variant_of(f"k{number}") == 1)
    assert who(await plane.ask(1, headers={KEY_HEADER: key}))[:2] == ("stable", "fallback")
    candidate.fails = False
    for _ in range(2):
        assert who(await plane.ask(1, headers={KEY_HEADER: key}))[:2] == ("b", "sticky")
    balance = plane.dataplane.status("fraud", plane.now()).balance
    assert balance is not None
    assert balance.sticky == (0, 1)


async def test_few_keys_are_remembered(plane: SplitPlane) -> None:
    plane.publish(route_of(5000, 5000))
    endpoint = plane.dataplane.endpoint("fraud", None)
    for number in range(20_000):
        endpoint.keep_dealt(b"%d" % number, endpoint.sticky[0])
    assert len(endpoint.dealt) <= 8192
    assert b"19999" in endpoint.dealt
    endpoint.keep_dealt(b"x" * 1000, endpoint.sticky[0])
    assert b"x" * 1000 not in endpoint.dealt


async def test_a_header_that_the_route_does_not_name_is_no_key(plane: SplitPlane) -> None:
    plane.publish(msgspec.structs.replace(route_of(5000, 5000), routing_key_header="x-customer"))
    answers = [await plane.ask(1, headers={KEY_HEADER: "one"}) for _ in range(60)]
    assert {who(answer)[0] for answer in answers} == {"stable", "b"}
    assert {who(answer)[1] for answer in answers} == {"random"}


async def test_requests_without_a_key_are_drawn_by_weight(plane: SplitPlane) -> None:
    plane.publish(route_of(5000, 5000))
    drawn = Counter([who(await plane.ask(1))[0] for _ in range(400)])
    assert 140 < drawn["b"] < 260  # six standard deviations
    plane.publish(route_of(10_000, 0))
    assert {who(await plane.ask(1)) for _ in range(30)} == {("stable", "random", "fraud:1")}


@pytest.mark.parametrize("headers", [{}, {KEY_HEADER: "k"}])
async def test_an_override_reaches_a_variant_without_traffic(plane: SplitPlane, headers: dict[str, str]) -> None:
    plane.publish(route_of(10_000, 0))
    answer = await plane.ask(1, headers=headers | {"x-gateway-variant": "b"})
    assert who(answer) == ("b", "override", "fraud:2")
    assert answer.json["model_version"] == "2"
    refused = await plane.ask(1, headers=headers | {"x-gateway-variant": "c"})
    assert (refused.status, "'stable' or 'b'" in refused.error) == (400, True)


async def test_an_override_needs_its_scope_and_a_pinned_version_does_not(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    auth = AuthSettings(tokens=(TokenSettings(name="ana", sha256=digest, scopes=("override",)),))
    async with split_plane(tmp_path, access=DataAccess(auth, "127.0.0.1")) as plane:
        plane.serve(1, run_s=QUICK_S)
        plane.serve(2, run_s=QUICK_S)
        plane.publish(route_of(10_000, 0))
        override = {"x-gateway-variant": "b"}
        refused = await plane.ask(1, headers=override)
        assert (refused.status, "override" in refused.error) == (403, True)
        answer = await plane.ask(1, headers=override | {"authorization": "Bearer secret"})
        assert who(answer) == ("b", "override", "fraud:2")
        assert (await plane.ask(1, version=2, headers=override)).status == 200


async def test_the_headers_name_the_revision_that_assigned(plane: SplitPlane) -> None:
    for revision in (1, 2, 3):
        plane.publish(route_of(10_000 - revision, revision))
        assert (await plane.ask(1, headers={KEY_HEADER: "k"})).headers["x-gateway-revision"] == str(revision)
    pinned = await plane.ask(1, version=2)
    assert {"x-gateway-variant", "x-gateway-revision"}.isdisjoint(pinned.headers)


async def test_a_request_keeps_the_revision_that_it_arrived_under(plane: SplitPlane) -> None:
    """Even when the route, and the version that answers it, are gone before its answer."""
    held = plane.serve(3, StubSession(held=True))
    plane.publish(route_of(0, 0, 10_000))
    waiting = asyncio.create_task(plane.ask(1, headers={KEY_HEADER: "k"}))
    await in_a_run(held)
    draining = asyncio.create_task(plane.batcher(3).drain())
    plane.withdraw(3)
    plane.publish(route_of(10_000))
    plane.publish()
    await asyncio.sleep(0)
    assert not draining.done()
    held.may_finish.set()
    answer = await waiting
    assert (answer.status, who(answer)) == (200, ("c", "sticky", "fraud:3"))
    assert answer.headers["x-gateway-revision"] == "1"
    await draining
    assert 'route="fraud"' not in plane.metrics.exposition().decode()


# --- who stands in -----------------------------------------------------------------------------------


async def test_a_candidate_that_is_not_ready_is_stood_in_for(plane: SplitPlane) -> None:
    plane.publish(ALL_TO_B)
    plane.withdraw(2)
    answer = await plane.ask(1, headers={KEY_HEADER: "k"})
    assert (answer.status, who(answer)) == (200, ("stable", "fallback", "fraud:1"))
    assert answer.json["model_version"] == "1"
    plane.serve(2, run_s=QUICK_S)
    assert who(await plane.ask(1, headers={KEY_HEADER: "k"})) == ("b", "sticky", "fraud:2")


@pytest.mark.parametrize("headers", [{}, {KEY_HEADER: "k"}, {"x-gateway-variant": "b"}])
@pytest.mark.parametrize("run_s", [QUICK_S, 1.0])
async def test_a_candidate_whose_run_fails_is_stood_in_for_once(
    plane: SplitPlane, headers: dict[str, str], run_s: float
) -> None:
    """The caller sees one answer; the candidate's own failure is counted all the same."""
    plane.serve(2, Failing(), run_s=run_s)
    plane.publish(ALL_TO_B)
    answer = await plane.ask(1, headers=headers)
    assert (answer.status, who(answer)) == (200, ("stable", "fallback", "fraud:1"))
    assert answer.json["outputs"][0]["data"] == [2]
    assert plane.counted("requests_total") == 1
    assert plane.counted("requests_total", variant="stable", model="fraud", version="1", code="200") == 1
    assert plane.counted("variant_attempts_total", variant="b", code="500") == 1
    assert plane.counted("variant_attempts_total", variant="stable", code="200") == 1
    assert plane.counted("variant_attempts_total") == 2
    assert plane.counted("assignments_total") == 1
    assert plane.counted("assignments_total", variant="stable", by="fallback") == 1
    assert plane.counted("request_duration_seconds_count") == 1


async def test_where_both_fail_the_caller_gets_the_first_variants_error(plane: SplitPlane) -> None:
    plane.publish(ALL_TO_B)
    answer = await plane.ask(CRASHES, headers={KEY_HEADER: "k"})
    assert (answer.status, who(answer)) == (500, ("stable", "fallback", "fraud:1"))
    assert answer.error.startswith("fraud:1: ")
    assert plane.counted("variant_attempts_total", code="500") == 2
    assert plane.counted("requests_total", code="500") == 1


async def test_a_request_that_breaks_every_variant_is_no_witness_against_the_candidate(plane: SplitPlane) -> None:
    """Else any caller could take a candidate out of service."""
    plane.publish(ALL_TO_B)
    for _ in range(20):
        assert (await plane.ask(CRASHES, headers={KEY_HEADER: "k"})).status == 500
    assert plane.counted("variant_breaker_open", variant="b") == 0
    assert who(await plane.ask(1, headers={KEY_HEADER: "k"})) == ("b", "sticky", "fraud:2")
    assert plane.counted("variant_attempts_total", variant="b", code="500") == 20


async def test_a_full_queue_of_a_candidate_is_stood_in_for_and_opens_no_breaker(plane: SplitPlane) -> None:
    held = plane.serve(2, StubSession(held=True), max_queue_rows=1)
    plane.publish(ALL_TO_B)
    running = asyncio.create_task(plane.ask(1))
    await in_a_run(held)
    queued = asyncio.create_task(plane.ask(2))
    await asyncio.sleep(0)
    answers = [await plane.ask(3) for _ in range(10)]
    assert {(answer.status, *who(answer)) for answer in answers} == {(200, "stable", "fallback", "fraud:1")}
    assert plane.counted("variant_attempts_total", variant="b", code="503") == 10
    held.may_finish.set()
    assert [who(await waiting)[0] for waiting in (running, queued)] == ["b", "b"]
    assert plane.counted("variant_breaker_open", variant="b") == 0


async def test_a_request_that_is_wrong_is_the_callers_own_and_nobody_stands_in(plane: SplitPlane) -> None:
    """The stub refuses negative values; however many come, the candidate is not blamed."""
    plane.publish(ALL_TO_B)
    for _ in range(20):
        answer = await plane.ask(-1, headers={KEY_HEADER: "k"})
        assert (answer.status, who(answer)[:2]) == (400, ("b", "sticky"))
    assert plane.counted("variant_attempts_total", variant="b", code="400") == 20
    assert plane.counted("variant_attempts_total", variant="stable") == 0
    assert plane.counted("variant_breaker_open", variant="b") == 0


async def test_a_request_larger_than_a_candidates_queue_is_413(plane: SplitPlane) -> None:
    plane.publish(ALL_TO_B)
    assert (await plane.ask(*range(65))).status == 413


async def test_there_is_no_second_try_once_the_deadline_has_passed(plane: SplitPlane) -> None:
    held = plane.serve(2, Failing(held=True))
    plane.publish(ALL_TO_B)
    waiting = asyncio.create_task(plane.ask(1, headers={"x-request-timeout-ms": "20000"}))
    await in_a_run(held)
    plane.ahead_s = 20.0
    held.may_finish.set()
    answer = await waiting
    assert (answer.status, who(answer)[:2]) == (500, ("b", "random"))
    assert plane.counted("variant_attempts_total", variant="stable") == 0


async def test_where_the_first_variant_is_not_ready_its_share_is_refused_and_others_answer(plane: SplitPlane) -> None:
    """An open breaker would then serve nobody, so it does not count."""
    failing = Failing()
    plane.serve(2, failing, run_s=QUICK_S)
    plane.publish(route_of(5000, 5000))
    for _ in range(5):
        await plane.ask(1, headers={"x-gateway-variant": "b"})
    assert plane.counted("variant_breaker_open", variant="b") == 1
    failing.fails = False
    plane.withdraw(1)
    answers = [await plane.ask(1, headers={KEY_HEADER: f"k{number}"}) for number in range(40)]
    assert {(answer.status, who(answer)[0]) for answer in answers} == {(200, "b"), (503, "stable")}
    for _ in range(10):
        answer = await plane.ask(CRASHES, headers={"x-gateway-variant": "b"})
        assert (answer.status, who(answer)[0]) == (500, "b")
    assert (await plane.ask(1, headers={"x-gateway-variant": "b"})).status == 200
    ready = await plane.exchange.answer("GET", "/v2/models/fraud/ready", [], b"")
    assert ready.status == 503


async def test_a_route_with_nothing_ready_is_refused_under_its_own_name(plane: SplitPlane) -> None:
    """An outage of a whole route has to show in its series; the names that callers make up stand in none."""
    plane.publish(route_of(5000, 5000))
    plane.withdraw(1)
    plane.withdraw(2)
    assert (await plane.ask(1)).status == 503
    named = {"route": "fraud", "variant": "stable", "model": "fraud", "version": "1"}
    assert plane.counted("requests_total", **named, code="503") == 1
    await plane.exchange.answer("POST", "/v2/models/fraud/versions/2/infer", [], b"{}")
    assert plane.counted("requests_total", route="", variant="pinned", model="fraud", version="2", code="404") == 1
    for path in ("/v2/models/made-up/infer", "/v2/models/fraud/versions/77/infer"):
        await plane.exchange.answer("POST", path, [], b"{}")
    assert plane.counted("requests_total", route="", variant="", model="", version="", code="404") == 2


# --- the breaker --------------------------------------------------------------------------------------


async def test_a_breaker_opens_falls_back_probes_and_closes(plane: SplitPlane) -> None:
    failing = Failing()
    plane.serve(2, failing, run_s=QUICK_S)
    plane.publish(ALL_TO_B)
    for _ in range(5):
        await plane.ask(1)
    assert plane.counted("variant_breaker_open", route="fraud", variant="b") == 1
    tried = len(failing.runs)
    answers = [await plane.ask(1) for _ in range(10)]
    assert {(answer.status, *who(answer)) for answer in answers} == {(200, "stable", "fallback", "fraud:1")}
    assert len(failing.runs) == tried
    assert plane.counted("variant_attempts_total", variant="b", code="503") == 10
    status = plane.dataplane.status("fraud", plane.now())
    assert [(variant.name, variant.is_ready) for variant in status.variants] == [("stable", True), ("b", True)]
    assert status.variants[0].breaker is None
    assert status.variants[1].breaker is not None
    assert status.variants[1].breaker.state == "open"
    failing.fails = False
    plane.ahead_s = RETRY_S + 1
    assert [who(await plane.ask(1))[0] for _ in range(4)] == ["b"] * 4
    assert plane.counted("variant_breaker_open", route="fraud", variant="b") == 0


async def test_a_caller_who_leaves_gives_the_probe_back(plane: SplitPlane) -> None:
    """Else the next probe would have to wait until the lost one counts as overdue."""
    failing = Failing()
    plane.serve(2, failing)
    plane.publish(ALL_TO_B)
    for _ in range(5):
        await plane.ask(1)
    failing.fails = False
    failing.may_finish.clear()
    plane.ahead_s = RETRY_S + 1
    while failing.entered.acquire(blocking=False):
        pass
    leaving = asyncio.create_task(plane.ask(1))
    await in_a_run(failing)
    assert who(await plane.ask(1))[:2] == ("stable", "fallback")  # one probe at a time
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    failing.may_finish.set()
    assert who(await plane.ask(1))[:2] == ("b", "random")
    assert plane.counted("variant_attempts_total", variant="b", code="499") == 1
    assert plane.counted("requests_total", variant="b", code="499") == 1


async def test_a_breaker_stays_over_revisions_that_leave_its_model_version(plane: SplitPlane) -> None:
    plane.serve(2, Failing(), run_s=QUICK_S)
    plane.publish(ALL_TO_B)
    for _ in range(5):
        await plane.ask(1)
    plane.publish(route_of(5000, 5000))
    assert plane.counted("variant_breaker_open", variant="b") == 1
    stable, candidate = route_of(5000, 5000).variants
    other = msgspec.structs.replace(candidate, version=1)
    plane.publish(msgspec.structs.replace(route_of(5000, 5000), variants=(stable, other)))
    assert plane.counted("variant_breaker_open", variant="b") == 0


async def test_only_a_run_that_was_given_the_servers_time_and_hung_counts_as_failed(tmp_path: Path) -> None:
    async with split_plane(tmp_path, limits=LimitSettings(request_timeout_s=0.05)) as plane:
        plane.serve(1, run_s=QUICK_S)
        plane.serve(2, StubSession(held=True))
        plane.publish(ALL_TO_B)
        for _ in range(8):
            assert (await plane.ask(1, headers={"x-request-timeout-ms": "5"})).status == 504
        assert plane.counted("variant_breaker_open", variant="b") == 0
        for _ in range(5):
            assert (await plane.ask(1)).status == 504
        assert plane.counted("variant_breaker_open", variant="b") == 1
        assert who(await plane.ask(1))[:2] == ("stable", "fallback")


# --- what is counted ------------------------------------------------------------------------------------


async def test_gauges_show_the_revisions_and_the_weights_in_force(plane: SplitPlane) -> None:
    plane.publish(route_of(10_000), route_of(10_000, name="other"))
    plane.publish(route_of(8750, 1250), route_of(10_000, name="other"))
    assert plane.counted("route_revision", route="fraud") == 2
    assert plane.counted("route_weight", route="fraud", variant="stable") == 87.5
    assert plane.counted("route_weight", route="fraud", variant="b") == 12.5
    plane.publish(route_of(10_000))
    assert plane.counted("route_weight", route="other") == 0


async def test_nothing_is_left_of_routes_and_variants_that_are_gone(plane: SplitPlane) -> None:
    plane.publish(route_of(5000, 5000), route_of(0, 10_000, name="other"))
    for _ in range(20):
        await plane.ask(1)
        await plane.ask(1, route="other")
    plane.publish(route_of(10_000))
    exposition = plane.metrics.exposition().decode()
    assert 'variant="b"' not in exposition
    assert 'route="other"' not in exposition
    assert plane.counted("requests_total", route="fraud", variant="stable") > 0


async def test_only_what_the_split_decided_is_in_the_balance(plane: SplitPlane) -> None:
    """Overridden, pinned, fallen back, refused: none of them was the split's doing."""
    plane.publish(route_of(5000, 5000))
    for number in range(40):
        key = {KEY_HEADER: f"customer-{number}"}
        await plane.ask(1, headers=key)
        await plane.ask(1, headers=key)  # a key counts once
        await plane.ask(1)
        await plane.ask(1, headers=key | {"x-gateway-variant": "b"})
        await plane.ask(1, version=1, headers=key)
        await plane.ask(-1)
    balance = plane.dataplane.status("fraud", plane.now()).balance
    assert balance is not None
    assert (sum(balance.sticky), sum(balance.random)) == (40, 40)
    assert plane.counted("sample_ratio_mismatch", route="fraud") == 0
    plane.serve(2, Failing(), run_s=QUICK_S)
    later = [await plane.ask(1, headers={KEY_HEADER: f"later-{number}"}) for number in range(400)]
    stable = sum(who(answer)[1] == "sticky" for answer in later)
    assert 140 < stable < 260
    balance = plane.dataplane.status("fraud", plane.now()).balance
    assert balance is not None
    assert sum(balance.sticky) == 40 + stable
    assert plane.counted("sample_ratio_mismatch", route="fraud") == 1
    plane.publish(route_of(5000, 5000))
    assert plane.counted("sample_ratio_mismatch", route="fraud") == 0
