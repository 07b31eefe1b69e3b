"""Requests that wait: for a run, beyond their deadline, beyond the queue, or for a client that has gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.traffic import await_queue
from tests.e2e.wire import RawSocket, infer_path, json_body, read_outputs, request_bytes
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import GatewayProcess, HttpAnswer, eventually, running_gateway

AGES = 6e7
"""Microseconds that no test waits for: a minute."""

PROMPT_S = 5.0
"""At once, on a busy machine; still nowhere near a minute."""


def body_of(*values: float, parameters: dict[str, object] | None = None) -> bytes:
    """Write a body of a row for each number of microseconds: the largest decides."""
    return json_body({"x": np.array([[value] for value in values], np.float32)}, parameters=parameters)


def infer(server: GatewayProcess, model: str, body: bytes, headers: dict[str, str] | None = None) -> HttpAnswer:
    """Ask and wait."""
    return server.ask(infer_path(model), "POST", body, headers)


@contextmanager
def one_running_one_waiting(server: GatewayProcess, content: bytes) -> Iterator[list[RawSocket]]:
    """Have two clients send something to `patient`, which never runs two requests at a time."""
    with RawSocket(server.data_address) as first, RawSocket(server.data_address) as second:
        for client in (first, second):
            client.send(content)
        await_queue(server, "patient", 1)
        yield [first, second]


@contextmanager
def full_queue(server: GatewayProcess) -> Iterator[None]:
    """Have clients ask `narrow` until nothing more fits into its queue of 4 rows."""
    with ExitStack() as stack:

        def one_more() -> bool:
            seen = [server.metric("gateway_queue_rows", model="narrow") for _ in range(2)]
            if seen[-1] < 4:
                client = stack.enter_context(RawSocket(server.data_address))
                client.send(request_bytes(infer_path("narrow"), body_of(AGES)))
            return seen == [4, 4]

        eventually(one_more, what="a full queue")
        yield
    await_queue(server, "narrow", 0)


# --- clients that go away --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["short", "asgi"])
def test_clients_that_go_away_take_their_work_along(tight_gateway: GatewayProcess, way: str) -> None:
    """A run of a minute ends, the request behind it leaves the queue, and the model is free for others."""
    request = request_bytes(
        infer_path("patient"), body_of(AGES), headers={"content-encoding": "identity"} if way == "asgi" else {}
    )
    rejected = tight_gateway.metric("gateway_rejected_total", model="patient", reason="cancelled")
    closed = tight_gateway.metric("gateway_requests_total", model="patient", code="499")
    with one_running_one_waiting(tight_gateway, request):
        left = time.monotonic()
    eventually(
        lambda: tight_gateway.metric("gateway_rejected_total", model="patient", reason="cancelled") == rejected + 2,
        within_s=PROMPT_S,
        what="both being cancelled",
    )
    assert tight_gateway.metric("gateway_requests_total", model="patient", code="499") == closed + 2
    await_queue(tight_gateway, "patient", 0)
    assert infer(tight_gateway, "patient", body_of(1)).status == 200
    assert time.monotonic() - left < PROMPT_S


def test_who_goes_away_does_not_disturb_whom_it_shares_a_run_with(tight_gateway: GatewayProcess) -> None:
    with RawSocket(tight_gateway.data_address) as staying, RawSocket(tight_gateway.data_address) as first:
        first.send(request_bytes(infer_path("narrow"), body_of(3e5)))
        with RawSocket(tight_gateway.data_address) as leaving:
            for client, value in ((leaving, 2e5), (staying, 1e5)):
                client.send(request_bytes(infer_path("narrow"), body_of(value)))
        assert read_outputs(first.receive())["y"] == 3e5
        assert read_outputs(staying.receive())["y"] == 1e5


# --- deadlines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({"x-request-timeout-ms": "300"}, None),
        ({}, {"timeout": 300_000}),
        ({"x-request-timeout-ms": "300"}, {"timeout": 60_000_000}),
        ({"x-request-timeout-ms": "60000"}, {"timeout": 300_000}),
    ],
    ids=["header", "parameter", "shorter header", "shorter parameter"],
)
def test_a_deadline_is_kept_while_a_slow_model_runs(
    tight_gateway: GatewayProcess, headers: dict[str, str], parameters: dict[str, object] | None
) -> None:
    """Both get their answer, the run is ended, and the model is free for others."""
    request = request_bytes(infer_path("patient"), body_of(AGES, parameters=parameters), headers=headers)
    late = tight_gateway.metric("gateway_rejected_total", model="patient", reason="deadline")
    started = time.monotonic()
    with one_running_one_waiting(tight_gateway, request) as clients:
        answers = [client.receive() for client in clients]
    assert [answer.status for answer in answers] == [504, 504]
    assert 0.3 <= time.monotonic() - started < PROMPT_S
    assert all("patient:1: the deadline passed after " in answer.error for answer in answers)
    assert tight_gateway.metric("gateway_rejected_total", model="patient", reason="deadline") == late + 2
    assert infer(tight_gateway, "patient", body_of(1)).status == 200
    assert time.monotonic() - started < PROMPT_S


def test_who_waits_too_long_is_answered_while_the_one_before_goes_on(tight_gateway: GatewayProcess) -> None:
    with RawSocket(tight_gateway.data_address) as running:
        running.send(request_bytes(infer_path("patient"), body_of(8e5)))
        answer = infer(tight_gateway, "patient", body_of(1), {"x-request-timeout-ms": "100"})
        assert answer.status == 504
        assert answer.error.endswith(" ms in the queue")
        assert running.receive().status == 200


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5", "", "9" * 20])
def test_a_header_that_is_no_time_is_400(tight_gateway: GatewayProcess, value: str) -> None:
    answer = infer(tight_gateway, "echo", body_of(1), {"x-request-timeout-ms": value})
    assert (answer.status, "'x-request-timeout-ms'" in answer.error) == (400, True)


@pytest.mark.parametrize("value", [-1, 1.5, "soon", True])
def test_a_parameter_that_is_no_time_is_400(tight_gateway: GatewayProcess, value: object) -> None:
    answer = infer(tight_gateway, "echo", body_of(1, parameters={"timeout": value}))
    assert (answer.status, "'timeout'" in answer.error) == (400, True)


def test_a_timeout_of_zero_is_none_as_tritonclient_means_it(tight_gateway: GatewayProcess) -> None:
    assert infer(tight_gateway, "echo", body_of(1, parameters={"timeout": 0})).status == 200


def test_the_server_has_a_deadline_of_its_own(tmp_path: Path) -> None:
    add_version(tmp_path, "patient", 1, onnx_models.slow_on_demand(2000))
    with running_gateway(tmp_path, environment={"GATEWAY_LIMITS_REQUEST_TIMEOUT_S": "0.3"}) as server:
        started = time.monotonic()
        assert infer(server, "patient", body_of(AGES), {"x-request-timeout-ms": "60000"}).status == 504
        assert time.monotonic() - started < PROMPT_S


# --- overload --------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(tight_gateway: GatewayProcess) -> None:
    with full_queue(tight_gateway):
        refused = tight_gateway.metric("gateway_rejected_total", model="narrow", reason="overloaded")
        answered = tight_gateway.metric("gateway_requests_total", model="narrow", code="503")
        started = time.monotonic()
        answer = infer(tight_gateway, "narrow", body_of(1))
        assert time.monotonic() - started < PROMPT_S
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.error == "narrow:1: queue holds 4 of 4 rows"
        assert tight_gateway.metric("gateway_rejected_total", model="narrow", reason="overloaded") == refused + 1
        assert tight_gateway.metric("gateway_requests_total", model="narrow", code="503") == answered + 1
        # A full queue of one model is no other model's concern.
        assert infer(tight_gateway, "echo", body_of(1)).status == 200
        assert tight_gateway.ask("/v2/health/ready").status == 200
    assert infer(tight_gateway, "narrow", body_of(1)).status == 200


def test_more_rows_than_the_queue_can_ever_hold_are_too_many(tight_gateway: GatewayProcess) -> None:
    """To come back later would not help, so it is no 503."""
    answer = infer(tight_gateway, "narrow", body_of(1, 2, 3, 4, 5))
    assert answer.status == 413
    assert "retry-after" not in answer.headers
    assert answer.error == "narrow:1: the request has 5 rows, the queue holds at most 4"


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_more_rows_than_one_run_takes_are_answered_whole(tight_gateway: GatewayProcess, rows: int) -> None:
    values = np.arange(rows, dtype=np.float32).reshape(-1, 1)
    answer = infer(tight_gateway, "narrow", json_body({"x": values}))
    np.testing.assert_array_equal(read_outputs(answer)["y"], values)
