"""Holds the measurement of routes to its word: what counts as a difference, and an open loop that hides no stall."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtests.bench.open_loop import OpenLoop
from loadtests.bench.route_cost import main, paired_difference, paired_ratio, turns

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"
REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody"


def test_a_difference_counts_only_outside_what_identical_runs_showed() -> None:
    yardstick, again = [20.0, 21.0, 20.0], [21.0, 20.0, 20.5]
    within = paired_difference([21.0, 21.2, 20.9], yardstick, again)
    assert within.same == (-1.0, 1.0)
    assert within.median == pytest.approx(0.65)
    assert not within.is_real
    outside = paired_difference([23.0, 23.0, 23.0], yardstick, again)
    assert (outside.median, outside.is_real) == (2.5, True)


def test_a_ratio_of_identical_runs_has_no_direction() -> None:
    found = paired_ratio([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 2.0, 0.8])
    assert found.same == (0.5, 2.0)
    assert not found.is_real
    assert paired_ratio([9.0, 9.0], [1.0, 1.0], [1.0, 1.1]).is_real


def test_in_each_round_everybody_is_measured_once_and_nobody_always_first() -> None:
    names = ["pinned", "split", "pinned again"]
    rounds = [turns(names, index) for index in range(3)]
    assert all(sorted(order) == sorted(names) for order in rounds)
    assert {order[0] for order in rounds} == set(names)


@pytest.mark.parametrize("arguments", [["nothing"], ["split", "--rounds", "0"], ["--seconds", "0"]])
def test_wrong_usage_is_said_before_anything_is_built(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@contextmanager
def server(*, connections: int, stalls: threading.Event | None = None, answer: bytes = ANSWER) -> Iterator[int]:
    """Answer on each connection in a thread of its own; with `stalls` nothing is answered before it is set."""

    def serve(connection: socket.socket) -> None:
        with connection:
            pending = 0
            while chunk := connection.recv(65_536):
                pending += len(chunk)
                while pending >= len(REQUEST):
                    pending -= len(REQUEST)
                    if stalls is not None:
                        stalls.wait(10)
                    connection.sendall(answer)

    def accept() -> None:
        for _ in range(connections):
            thread = threading.Thread(target=serve, args=(listener.accept()[0],))
            thread.start()
            threads.append(thread)

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            accepting.join(timeout=10)
            for thread in threads:
                thread.join(timeout=10)


def run(loop: OpenLoop, *, duration_s: float, requests_per_s: float) -> list[float]:
    try:
        loop.run(duration_s, requests_per_s, random.Random(1))
    finally:
        loop.close()
    return sorted(loop.latencies_s)


def test_requests_leave_at_the_rate_and_all_are_answered() -> None:
    with server(connections=4) as port:
        latencies_s = run(OpenLoop(port, 4, [REQUEST]), duration_s=0.5, requests_per_s=200)
    assert 50 < len(latencies_s) < 150  # five standard deviations of a Poisson count of 100
    assert latencies_s[0] > 0


def test_a_stall_is_in_the_latency_of_every_request_that_was_due_meanwhile() -> None:
    """A closed loop would have sent one request for each connection, and called the server quick."""
    go_on = threading.Event()
    timer = threading.Timer(0.4, go_on.set)
    with server(connections=1, stalls=go_on) as port:
        loop = OpenLoop(port, 1, [REQUEST])
        timer.start()
        latencies_s = run(loop, duration_s=0.3, requests_per_s=200)
    assert len(latencies_s) > 30
    assert latencies_s[len(latencies_s) // 2] > 0.15


def test_an_answer_other_than_200_is_an_error() -> None:
    with server(connections=1, answer=REFUSAL) as port:
        loop = OpenLoop(port, 1, [REQUEST])
        latencies_s = run(loop, duration_s=0.1, requests_per_s=200)
    assert loop.errors == len(latencies_s) > 0
    assert loop.first_error.endswith("busy")
