"""Owns the promises of inference over HTTP: who answers and how it is said, deadlines, encodings, every refusal."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.api.compression import MIN_BYTES
from gateway.settings import LimitSettings
from tests.api.planes import BINARY_TYPE, JSON_TYPE, Plane, data_plane

pytestmark = pytest.mark.asyncio(loop_scope="package")

Body = dict[str, object]
ASSIGNMENT = {"x-gateway-variant", "x-gateway-model", "x-gateway-revision", "x-gateway-assigned-by"}
MANY_ROWS = 100
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


def body(data: list[float], *, columns: int = 3, **fields: object) -> Body:
    shape = [len(data) // columns, columns]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}], **fields}


ECHO = body([1, 2, 3])


def slow_body(microseconds: int) -> Body:
    return body([microseconds], columns=1)


# --- who answers ----------------------------------------------------------------------------------


async def test_an_answer_says_who_was_asked_and_who_answered(plane: Plane) -> None:
    answer = await plane.infer("echo", ECHO | {"id": "mine"}, {"x-request-id": "theirs"})
    assert answer.status == 200
    assert answer.headers["content-type"] == JSON_TYPE
    assert answer.json == {
        "id": "mine",
        "model_name": "echo",
        "model_version": "2",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [3, 5, 7]}],
    }
    assert answer.headers["x-request-id"] == "theirs"
    assert re.fullmatch(r"queue;dur=\d+\.\d{3}, inference;dur=\d+\.\d{3}", answer.headers["server-timing"])
    assert {name: answer.headers[name] for name in ASSIGNMENT} == {
        "x-gateway-variant": "stable",
        "x-gateway-model": "echo:2",
        "x-gateway-revision": "1",
        "x-gateway-assigned-by": "random",
    }


async def test_an_answer_says_where_its_time_went(plane: Plane) -> None:
    began = time.perf_counter()
    first = asyncio.create_task(plane.infer("patient", slow_body(50_000)))
    for _ in range(3):  # it runs by now, and the next one has to wait
        await asyncio.sleep(0)
    answers = [await plane.infer("patient", slow_body(1)), await first]
    passed_ms = (time.perf_counter() - began) * 1000
    waiting, running = (re.findall(r"dur=([\d.]+)", answer.headers["server-timing"]) for answer in answers)
    assert 1 < float(waiting[0]) < passed_ms
    assert 1 < float(running[1]) < passed_ms


async def test_a_pinned_version_has_no_route(plane: Plane) -> None:
    """No split and no shadow: a routing key or an override changes nothing."""
    for given in ({}, {"x-routing-key": "k"}, {"x-gateway-variant": "nobody"}):
        answer = await plane.infer("echo", ECHO, given, version=1)
        assert answer.json["model_version"] == "1"
        assert answer.json["outputs"][0]["data"] == [1, 2, 3]
        assert ASSIGNMENT & answer.headers.keys() == {"x-gateway-model", "x-gateway-assigned-by"}
        assert answer.headers["x-gateway-model"] == "echo:1"
        assert answer.headers["x-gateway-assigned-by"] == "pinned"


@pytest.mark.parametrize(
    ("headers", "parameters", "assigned_by"),
    [
        ({}, {}, "random"),
        ({"x-routing-key": "customer-7"}, {}, "sticky"),
        ({"x-routing-key": "\xff"}, {}, "sticky"),
        ({}, {"routing_key": "customer-7"}, "sticky"),
        ({"x-routing-key": ""}, {"routing_key": "customer-7"}, "sticky"),
        ({"x-routing-key": ""}, {}, "random"),
        ({}, {"routing_key": None}, "random"),
        ({"x-gateway-variant": "stable"}, {}, "override"),
        ({"x-gateway-variant": "stable", "x-routing-key": "customer-7"}, {}, "override"),
    ],
)
async def test_the_answer_says_why_this_variant_answered(
    plane: Plane, headers: dict[str, str], parameters: Body, assigned_by: str
) -> None:
    answer = await plane.infer("echo", ECHO | {"parameters": parameters}, headers)
    assert (answer.status, answer.headers["x-gateway-assigned-by"]) == (200, assigned_by)


@pytest.mark.parametrize(
    ("headers", "parameters", "said"),
    [
        ({"x-gateway-variant": "nobody"}, {}, "route 'echo' has no variant 'nobody', expected 'stable'"),
        ({"x-gateway-variant": ""}, {}, "has no variant ''"),
        ({}, {"routing_key": 7}, "parameter 'routing_key': expected a string"),
        ({}, {"routing_key": True}, "parameter 'routing_key': expected a string"),
    ],
)
async def test_an_assignment_that_cannot_be_is_refused(
    plane: Plane, headers: dict[str, str], parameters: Body, said: str
) -> None:
    answer = await plane.infer("echo", ECHO | {"parameters": parameters}, headers)
    assert answer.status == 400
    assert said in answer.error
    assert not ASSIGNMENT & answer.headers.keys()


@pytest.mark.parametrize("supplied", ["a", "a b:c/d", "{}", "~" * 128])
async def test_a_request_id_is_echoed(plane: Plane, supplied: str) -> None:
    answer = await plane.infer("echo", ECHO, {"x-request-id": supplied})
    assert answer.headers["x-request-id"] == supplied
    assert answer.json["id"] == supplied
    assert (await plane.infer("echo", {}, {"x-request-id": supplied})).headers["x-request-id"] == supplied
    assert (await plane.ask("GET", "/nowhere", headers={"x-request-id": supplied})).headers["x-request-id"] == supplied


@pytest.mark.parametrize("supplied", [None, "", "a" * 129, "\xff", "a\tb", "\x7f", "a\r\nx-evil: 1"])
async def test_a_request_without_a_printable_id_gets_one_of_its_own(plane: Plane, supplied: str | None) -> None:
    """What stands in a header may not end the header, nor a log line."""
    headers = {} if supplied is None else {"x-request-id": supplied}
    answers = [await plane.infer("echo", ECHO, headers) for _ in range(2)]
    made = [answer.headers["x-request-id"] for answer in answers]
    assert made[0] != made[1]
    assert all(re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", made_id) for made_id in made)
    assert [answer.json["id"] for answer in answers] == made


# --- forms ---------------------------------------------------------------------------------------------


async def test_inputs_and_outputs_may_be_binary(plane: Plane) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = {"inference-header-content-length": str(len(text))}
    answer = await plane.infer("echo", text + struct.pack("<3f", 1, 2, 3), length)
    assert answer.headers["content-type"] == BINARY_TYPE
    json_length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:json_length])["outputs"]
    assert output == {"name": "y", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
    assert struct.unpack("<3f", answer.body[json_length:]) == (3, 5, 7)


async def test_a_raw_body_is_answered_in_binary(plane: Plane) -> None:
    answer = await plane.infer("echo", struct.pack("<3f", 1, 2, 3), {"inference-header-content-length": "0"})
    assert answer.body[int(answer.headers["inference-header-content-length"]) :] == struct.pack("<3f", 3, 5, 7)


async def test_only_the_outputs_asked_for_come_back(plane: Plane) -> None:
    inputs = [
        {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
        {"name": "w", "shape": [1, 1], "datatype": "INT64", "data": [4]},
    ]
    for asked, names in ([], ["y", "z"]), (["z"], ["z"]), (["z", "y"], ["z", "y"]):
        wanted = [{"name": name} for name in asked]
        outputs = (await plane.infer("several", {"inputs": inputs, "outputs": wanted})).json["outputs"]
        assert [output["name"] for output in outputs] == names


async def test_rows_may_be_none_and_more_than_fit_one_run(plane: Plane) -> None:
    assert (await plane.infer("echo", body([]))).json["outputs"][0] == {
        "name": "y",
        "datatype": "FP32",
        "shape": [0, 3],
        "data": [],
    }
    output = (await plane.infer("echo", body([1.0] * 3 * MANY_ROWS))).json["outputs"][0]
    assert (output["shape"], output["data"]) == ([MANY_ROWS, 3], [3] * 3 * MANY_ROWS)


@pytest.mark.parametrize("value", ["-1", "", "x", "1.0", "+1", "0x10", "\xb2", "9" * 19, "1 "])
async def test_a_length_of_the_json_part_that_is_no_number_is_refused(plane: Plane, value: str) -> None:
    answer = await plane.infer("echo", ECHO, {"inference-header-content-length": value})
    assert answer.status == 400
    assert "inference-header-content-length" in answer.error


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP", " gzip ", "identity", ""])
async def test_a_body_may_be_compressed(plane: Plane, encoding: str) -> None:
    text = json.dumps(ECHO).encode()
    packed = COMPRESS.get(encoding.strip().lower(), bytes)(text)
    assert (await plane.infer("echo", packed, {"content-encoding": encoding})).status == 200


async def test_the_length_of_the_json_part_is_that_of_the_inflated_body(plane: Plane) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    text = json.dumps({"inputs": [tensor]}).encode() + b" " * 1000
    headers = {"content-encoding": "gzip", "inference-header-content-length": str(len(text))}
    assert (await plane.infer("echo", gzip.compress(text + bytes(12)), headers)).status == 200


@pytest.mark.parametrize(
    ("encoding", "packed", "status"),
    [
        ("br", b"{}", 415),
        ("gzip, deflate", b"{}", 415),
        ("gzip", b"{}", 400),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-1], 400),
        ("gzip", gzip.compress(b"{}", mtime=0), 400),
        ("deflate", zlib.compress(bytes(2048)), 413),
    ],
)
async def test_a_body_that_cannot_be_inflated_is_refused(
    repository: Path, encoding: str, packed: bytes, status: int
) -> None:
    async with data_plane(repository, limits=LimitSettings(max_body_bytes=2047)) as tight:
        answer = await tight.infer("echo", packed, {"content-encoding": encoding})
        assert answer.status == status
        assert ("accept-encoding" in answer.headers) == (status == 415)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate, br", "gzip"), ("deflate;q=1, gzip;q=0.5", "deflate")],
)
@pytest.mark.parametrize("rows", [60, 20_000])
async def test_a_long_answer_is_compressed_for_those_who_take_it(
    plane: Plane, accepted: str, encoding: str, rows: int
) -> None:
    asked = {"inputs": [{"name": "x", "shape": [rows], "datatype": "BYTES", "data": ["some text"] * rows}]}
    plain = await plane.infer("long_queue", asked)
    answer = await plane.infer(
        "long_queue", asked, {"accept-encoding": accepted, "x-request-id": plain.headers["x-request-id"]}
    )
    assert answer.headers["content-encoding"] == encoding
    assert DECOMPRESS[encoding](answer.body) == plain.body
    assert len(answer.body) < len(plain.body)


@pytest.mark.parametrize("accepted", ["", "br", "identity", "*", "gzip;q=0"])
async def test_an_answer_is_not_compressed_for_those_who_did_not_ask(plane: Plane, accepted: str) -> None:
    asked = body([0.5] * 300)
    assert "content-encoding" not in (await plane.infer("echo", asked, {"accept-encoding": accepted})).headers


async def test_a_short_answer_and_an_error_are_never_compressed(plane: Plane) -> None:
    """Neither tritonclient can read a compressed error."""
    answer = await plane.infer("echo", ECHO, {"accept-encoding": "gzip"})
    assert len(answer.body) < MIN_BYTES
    assert "content-encoding" not in answer.headers
    long_name = {"inputs": [{"name": "n" * 5000, "shape": [1], "datatype": "FP32", "data": [1]}]}
    answer = await plane.infer("echo", long_name, {"accept-encoding": "gzip"})
    assert (answer.status, len(answer.body) > MIN_BYTES) == (400, True)
    assert "content-encoding" not in answer.headers


async def test_a_refusal_does_not_repeat_all_that_was_sent(plane: Plane) -> None:
    """A name may be as long as a body, and the answer would be as long as that."""
    for said in ("n" * 1_000_000, "\N{GRINNING FACE}" * 1_000_000):
        for field in ("name", "datatype"):
            tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1], field: said}
            answer = await plane.infer("echo", {"inputs": [tensor]})
            assert answer.status == 400
            assert said[:1000] in answer.error
            assert len(answer.error) < 3000


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "asked", "said"),
    [
        ("echo", b"", "not an inference request"),
        ("echo", b"{", "not an inference request"),
        ("echo", {"inputs": []}, "echo:2: missing input 'x'"),
        ("echo", body([1, 2], columns=2), "echo:2: input 'x' has shape [1, 2], expected [rows, 3]"),
        ("bfloat", ECHO, "output 'y' is BF16"),
        ("lookup", {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [9]}]}, "out of data bounds"),
    ],
)
async def test_a_wrong_request_is_400_and_says_what_is_wrong(
    plane: Plane, model: str, asked: object, said: str
) -> None:
    answer = await plane.infer(model, asked)
    assert answer.status == 400
    assert said in answer.error


async def test_a_model_that_fails_is_500_and_names_itself(plane: Plane) -> None:
    answer = await plane.infer("fragile", body([-1], columns=1))
    assert answer.status == 500
    assert answer.error.startswith("fragile:1: ")
    assert (await plane.infer("fragile", body([1], columns=1))).status == 200


async def test_more_rows_than_the_queue_can_ever_hold_are_413(plane: Plane) -> None:
    assert (await plane.infer("narrow", body([0.0] * 12))).status == 200
    answer = await plane.infer("narrow", body([0.0] * 15))
    assert answer.status == 413
    assert answer.error == "narrow:1: the request has 5 rows, the queue holds at most 4"


async def test_more_rows_than_the_queue_holds_now_are_503_with_a_time_to_retry(plane: Plane) -> None:
    answers = await asyncio.gather(*(plane.infer("narrow", body([0.0] * 9)) for _ in range(3)))
    assert [answer.status for answer in answers] == [200, 503, 503]
    assert answers[1].error == "narrow:1: queue holds 3 of 4 rows"
    assert int(answers[1].headers["retry-after"]) > 0


async def test_an_unknown_model_is_said_before_an_unknown_encoding(plane: Plane) -> None:
    assert (await plane.infer("nobody", b"", {"content-encoding": "br"})).status == 404
    assert (await plane.infer("echo", b"", {"content-encoding": "br"}, version=7)).status == 404
    assert (await plane.infer("broken", b"", {"content-encoding": "br"})).status == 503


# --- deadlines and callers who leave --------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "-1", "", "1.5", "1e3", "x", "9" * 13, "\xb2", " 1"])
async def test_a_timeout_in_the_header_is_whole_milliseconds(plane: Plane, value: str) -> None:
    answer = await plane.infer("echo", ECHO, {"x-request-timeout-ms": value})
    assert answer.status == 400
    assert "x-request-timeout-ms" in answer.error


@pytest.mark.parametrize("value", [-1, 1.5, "1000", True, False])
async def test_a_timeout_among_the_parameters_is_whole_microseconds(plane: Plane, value: object) -> None:
    answer = await plane.infer("echo", ECHO | {"parameters": {"timeout": value}})
    assert answer.status == 400
    assert "parameter 'timeout'" in answer.error


@pytest.mark.parametrize(
    ("header", "parameter"),
    [("60000", None), ("9" * 12, None), (None, 60_000_000), (None, 0), (None, None), (None, 10**400), ("60000", 0)],
)
async def test_a_timeout_that_is_long_enough_changes_nothing(
    plane: Plane, header: str | None, parameter: int | None
) -> None:
    headers = {} if header is None else {"x-request-timeout-ms": header}
    assert (await plane.infer("echo", ECHO | {"parameters": {"timeout": parameter}}, headers)).status == 200


@pytest.mark.parametrize(
    ("header", "parameter"), [("20", None), (None, 20_000), ("60000", 20_000), ("20", 60_000_000), ("20", 0)]
)
async def test_of_two_timeouts_the_shorter_holds(plane: Plane, header: str | None, parameter: int | None) -> None:
    """And a running model is stopped: it would take half a minute."""
    headers = {} if header is None else {"x-request-timeout-ms": header}
    answer = await plane.infer("patient", slow_body(30_000_000) | {"parameters": {"timeout": parameter}}, headers)
    assert answer.status == 504
    assert "the deadline passed" in answer.error


async def test_the_servers_own_limit_holds_without_any(repository: Path) -> None:
    async with data_plane(repository, limits=LimitSettings(request_timeout_s=0.02)) as hasty:
        for headers in ({}, {"x-request-timeout-ms": "60000"}):
            assert (await hasty.infer("patient", slow_body(30_000_000), headers)).status == 504


@pytest.mark.parametrize("timeout_us", [1, 5, 10, 20, 50, 100, 200, 500])
async def test_a_deadline_that_passes_at_once_is_answered(plane: Plane, timeout_us: int) -> None:
    """The queue once dropped such a request while it formed a batch, and nobody was left to answer it."""
    asked = ECHO | {"parameters": {"timeout": timeout_us}}
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(plane.infer("echo", asked) for _ in range(20)))
    assert {answer.status for answer in answers} <= ({504} if timeout_us == 1 else {200, 504})


async def test_a_caller_who_leaves_is_counted_and_its_run_is_stopped(plane: Plane) -> None:
    """It would have held up everybody else for half a minute."""
    left = plane.counted(model="patient", code="499")
    leaving = asyncio.create_task(plane.infer("patient", slow_body(30_000_000)))
    for _ in range(3):
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await plane.infer("patient", slow_body(1), {"x-request-timeout-ms": "20000"})).status == 200
    assert plane.counted(model="patient", code="499") == left + 1


# --- what is counted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "version", "labels"),
    [
        ("echo", None, {"route": "echo", "variant": "stable", "model": "echo", "version": "2", "code": "200"}),
        ("echo", 1, {"route": "", "variant": "pinned", "model": "echo", "version": "1", "code": "200"}),
        ("nobody", None, {"route": "", "variant": "", "model": "", "version": "", "code": "404"}),
        ("echo", 9, {"route": "", "variant": "", "model": "", "version": "", "code": "404"}),
        ("fragile", None, {"route": "fragile", "variant": "stable", "model": "fragile", "version": "1", "code": "400"}),
    ],
)
async def test_each_answer_is_counted_once_under_who_gave_it(
    plane: Plane, model: str, version: int | None, labels: dict[str, str]
) -> None:
    before, all_before = plane.counted(**labels), plane.counted()
    await plane.infer(model, ECHO, version=version)
    assert plane.counted(**labels) == before + 1
    assert plane.counted() == all_before + 1


async def test_the_time_of_each_answer_of_a_known_model_is_counted(plane: Plane) -> None:
    def durations() -> tuple[float, float]:
        return plane.metric("request_duration_seconds_count"), plane.metric("request_duration_seconds_sum")

    began = time.perf_counter()
    count, seconds = durations()
    bodies: list[Body] = [ECHO, {}, {"inputs": []}]
    for asked in bodies:
        await plane.infer("echo", asked)
    await plane.infer("nobody", ECHO)
    counted, passed = durations()
    assert counted == count + 3
    assert 0 < passed - seconds < time.perf_counter() - began


@pytest.mark.parametrize(
    ("model", "asked", "headers", "reason"),
    [
        ("echo", {}, {}, "invalid"),
        ("echo", ECHO, {"content-encoding": "br"}, "encoding"),
        ("narrow", body([0.0] * 15), {}, "too_large"),
        ("patient", slow_body(30_000_000), {"x-request-timeout-ms": "1"}, "deadline"),
        ("fragile", body([-1], columns=1), {}, "failed"),
        ("broken", ECHO, {}, "not_ready"),
        ("nobody", ECHO, {}, "unknown_model"),
    ],
)
async def test_a_refusal_is_counted_by_its_reason(
    plane: Plane, model: str, asked: Body, headers: dict[str, str], reason: str
) -> None:
    """Under the model's name where it is served, so that a caller's words never become a label."""
    label = "" if reason in ("not_ready", "unknown_model", "encoding") else model
    before, all_before = plane.metric("rejected_total", model=label, reason=reason), plane.metric("rejected_total")
    assert (await plane.infer(model, asked, headers)).status >= 400
    assert plane.metric("rejected_total", model=label, reason=reason) == before + 1
    assert plane.metric("rejected_total") == all_before + 1
    assert (await plane.infer("echo", ECHO)).status == 200
    assert plane.metric("rejected_total") == all_before + 1
