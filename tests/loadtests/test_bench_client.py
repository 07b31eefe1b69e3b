import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loadtests.bench.client import ClosedLoop
from loadtests.bench.responses import MalformedResponse

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody"


@contextmanager
def server(answer: Callable[[socket.socket], None], request_bytes: int = len(REQUEST)) -> Iterator[int]:
    """Serve one connection: `answer` is called for each complete request; yield the port."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            pending = 0
            while chunk := connection.recv(65_536):
                pending += len(chunk)
                while pending >= request_bytes:
                    pending -= request_bytes
                    answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(timeout=10)


def run_briefly(port: int, requests: list[bytes]) -> ClosedLoop:
    loop = ClosedLoop(port, 1, requests)
    try:
        loop.start()
        loop.run(0.05)
        loop.finish()
    finally:
        loop.close()
    return loop


def test_answers_that_arrive_in_pieces_are_counted_once_each() -> None:
    answered = []

    def in_pieces(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(ANSWER), 10):
            connection.sendall(ANSWER[start : start + 10])
        answered.append(1)

    with server(in_pieces) as port:
        loop = run_briefly(port, [REQUEST])
    assert loop.errors == 0
    # Each answer but the last, which `finish` waited for, has its latency.
    assert len(loop.latencies_s) == len(answered) - 1 > 0


def test_the_time_without_an_answer_is_not_the_clients_work() -> None:
    def slowly(connection: socket.socket) -> None:
        threading.Event().wait(0.02)
        connection.sendall(ANSWER)

    with server(slowly) as port:
        assert run_briefly(port, [REQUEST]).spun_s > 0.02


def test_a_request_larger_than_the_socket_takes_at_once_is_sent_whole() -> None:
    large = b"POST / HTTP/1.1\r\n\r\n" + b"x" * 8_000_000
    with server(lambda connection: connection.sendall(ANSWER), len(large)) as port:
        loop = run_briefly(port, [large])
    assert loop.errors == 0
    assert all(latency_s > 0 for latency_s in loop.latencies_s)


def test_an_answer_other_than_200_is_an_error_and_is_shown() -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"
    with server(lambda connection: connection.sendall(refusal)) as port:
        loop = run_briefly(port, [REQUEST])
    assert loop.errors == len(loop.latencies_s) + 1
    assert loop.first_error.endswith("busy")


def test_two_answers_to_one_request_end_the_measurement() -> None:
    with server(lambda connection: connection.sendall(ANSWER + ANSWER)) as port, pytest.raises(MalformedResponse):
        run_briefly(port, [REQUEST])


def test_a_connection_closed_by_the_server_ends_the_measurement() -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)

    with server(hang_up) as port, pytest.raises(ConnectionError):
        run_briefly(port, [REQUEST])
