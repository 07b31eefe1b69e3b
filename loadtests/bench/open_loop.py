"""Owns the open-loop load generator: requests leave when a clock says so, whether or not earlier ones are answered.

Never waits for an answer before the next request is due, so that a server that stalls is seen to stall: latency runs
from the moment a request was due. Talks to no address but 127.0.0.1.

Runs as `python -m loadtests.bench.open_loop`: an OpenJob as JSON on standard input, Latencies as JSON on standard
output. It spins between arrivals, because a timer of the kernel is too coarse, and so takes a core of its own.
"""

import gc
import random
import select
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtests.bench.client import Connection
from loadtests.bench.figures import percentile
from loadtests.bench.responses import MalformedResponse, read_framing

_BUFFER_BYTES = 262_144
_STALLED_S = 20.0


class OpenJob(msgspec.Struct, frozen=True, kw_only=True):
    """What one measurement does. `requests_file` holds a msgpack list of complete requests."""

    port: int
    connections: int
    requests_file: str
    requests_per_s: float
    warmup_s: float
    measure_s: float
    seed: int


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """What one measurement found, of the requests that were due in the measured window."""

    requests: int
    errors: int
    first_error: str
    p50_ms: float
    p99_ms: float
    max_ms: float


class OpenLoop:
    """Sends at the arrivals of a Poisson process over a pool of connections."""

    def __init__(self, port: int, connections: int, requests: Sequence[bytes]) -> None:
        """Connect; nothing is sent before `run`."""
        self.latencies_s = array("d")
        self.errors = 0
        self.first_error = ""
        self._requests = requests
        self._sent = 0
        self._buffer = bytearray(_BUFFER_BYTES)
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        for _ in range(connections):
            connection = Connection(port)
            self._connections[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        self._idle = list(self._connections.values())
        self._due: deque[float] = deque()

    def run(self, duration_s: float, requests_per_s: float, draw: random.Random) -> None:
        """Send what falls due in `duration_s`, then wait for all answers.

        Raises:
            MalformedResponse: an answer that cannot be framed.
            ConnectionError: the server closed or reset a connection.
            TimeoutError: no answer came for 20 s.
        """
        now = heard_at = time.perf_counter()
        ends_at = now + duration_s
        next_at = now + draw.expovariate(requests_per_s)
        while next_at < ends_at or self._due or len(self._idle) < len(self._connections):
            while next_at <= now and next_at < ends_at:
                self._due.append(next_at)
                next_at += draw.expovariate(requests_per_s)
            while self._due and self._idle:
                self._send(self._idle.pop(), self._due.popleft())
            for descriptor, _ in self._epoll.poll(0):
                heard_at = time.perf_counter()
                connection = self._connections[descriptor]
                if self._receive(connection):
                    self.latencies_s.append(heard_at - connection.sent_at)
                    self._idle.append(connection)
            now = time.perf_counter()
            if now - heard_at > _STALLED_S:
                raise TimeoutError(f"no answer for {_STALLED_S:.0f} s")

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            connection.socket.close()
        self._epoll.close()

    def _send(self, connection: Connection, due_at: float) -> None:
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        connection.sent_at = due_at
        if connection.send(request) < len(request):
            raise ConnectionError("the server does not read a request of a few kilobytes at once")

    def _receive(self, connection: Connection) -> bool:
        """Read what there is; return whether the answer is complete."""
        filled_bytes = connection.receive_into(self._buffer)
        if not filled_bytes:
            raise ConnectionError("the server closed a connection with a request in flight")
        received = bytearray() if connection.received is None else connection.received
        received += memoryview(self._buffer)[:filled_bytes]
        framing = read_framing(received, len(received))
        if framing is None or len(received) < framing.total_bytes:
            connection.received = received
            return False
        connection.received = None
        if framing.status != 200:
            self.errors += 1
            self.first_error = self.first_error or bytes(received[:600]).decode("latin-1")
        return True


def measure(job: OpenJob) -> Latencies:
    """Warm the server up at the same rate, then measure one window.

    Raises: as `OpenLoop.run`.
    """
    requests = msgspec.msgpack.decode(Path(job.requests_file).read_bytes(), type=list[bytes])
    draw = random.Random(job.seed)
    loop = OpenLoop(job.port, job.connections, requests)
    gc.disable()
    try:
        loop.run(job.warmup_s, job.requests_per_s, draw)
        del loop.latencies_s[:]
        loop.run(job.measure_s, job.requests_per_s, draw)
    finally:
        loop.close()
    latencies_s = sorted(loop.latencies_s)
    if not latencies_s:
        raise TimeoutError(f"no request was due within {job.measure_s} s")
    return Latencies(
        requests=len(latencies_s),
        errors=loop.errors,
        first_error=loop.first_error,
        p50_ms=percentile(latencies_s, 50) * 1e3,
        p99_ms=percentile(latencies_s, 99) * 1e3,
        max_ms=latencies_s[-1] * 1e3,
    )


def main() -> int:
    """Run the job on standard input; exit 1 with one line when it cannot be finished."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=OpenJob)
    try:
        result = measure(job)
    except (MalformedResponse, OSError) as exc:
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
