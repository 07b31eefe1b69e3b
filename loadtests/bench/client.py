"""Owns the load generator: closed-loop connections over raw sockets, in a process and on a core of its own.

Never decodes an answer beyond status and length, and never talks to an address but 127.0.0.1.

Runs as `python -m loadtests.bench.client`: a Job as JSON on standard input, a Measurement as JSON on standard output.
Closed loop: each connection sends its next request when its last answer is complete. It never sleeps while it waits:
to wake its processor up would cost the server that answers some microseconds of CPU, and the answer far more of its
latency, and neither is the server's doing.
"""

import gc
import select
import socket
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtests.bench import procfs
from loadtests.bench.figures import percentile
from loadtests.bench.responses import MalformedResponse, read_framing

_BUFFER_BYTES = 262_144
_STALLED_S = 20.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What one measurement does. `requests_file` holds a msgpack list of complete requests."""

    port: int
    server_pid: int
    connections: int
    requests_file: str
    warmup_s: float
    measure_s: float


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What one measurement found; times and CPU are those of the measured window alone."""

    requests: int
    errors: int
    first_error: str
    measured_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    server_cpu_s: float
    client_busy_s: float
    """How long the client had answers to read; the rest of the time it looked for them."""
    other_cpu_s: float
    """What the rest of the machine worked meanwhile: high figures say that the run was disturbed."""
    resident_bytes: int
    peak_resident_bytes: int

    @property
    def requests_per_s(self) -> float:
        """Completed requests a second."""
        return self.requests / self.measured_s

    @property
    def server_cpu_ms(self) -> float:
        """CPU of the server's process tree, in ms for 1,000 requests."""
        return self.server_cpu_s / self.requests * 1e6

    @property
    def client_busy_share(self) -> float:
        """Share of the time that the load generator was busy; near 1 it may have been the bottleneck."""
        return self.client_busy_s / self.measured_s


class Connection:
    """One keep-alive connection: its socket, when its request left, and what is unsent or half received."""

    __slots__ = ("receive_into", "received", "send", "sent_at", "socket", "unsent")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_STALLED_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.send = self.socket.send
        self.receive_into = self.socket.recv_into
        self.sent_at = 0.0
        self.unsent: memoryview | None = None
        self.received: bytearray | None = None


class ClosedLoop:
    """Keeps `connections` requests in flight and records how long each took."""

    def __init__(self, port: int, connections: int, requests: Sequence[bytes]) -> None:
        """Connect; nothing is sent before `run`."""
        self.latencies_s = array("d")
        self.spun_s = 0.0
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

    def start(self) -> None:
        """Send the first request of every connection."""
        for connection in self._connections.values():
            self._send_next(connection, time.perf_counter())

    def run(self, duration_s: float) -> float:
        """Answer every completed response with the next request for `duration_s`; return the seconds it really took.

        Raises:
            MalformedResponse: an answer that cannot be framed.
            ConnectionError: the server closed or reset a connection.
            TimeoutError: no connection got a byte for 20 s.
        """
        started_at = now = time.perf_counter()
        deadline = started_at + duration_s
        while now < deadline:
            for descriptor, event in self._poll():
                connection = self._connections[descriptor]
                if event & select.EPOLLOUT:
                    self._send_rest(connection)
                if event & ~select.EPOLLOUT and self._receive(connection):
                    now = time.perf_counter()
                    self.latencies_s.append(now - connection.sent_at)
                    self._send_next(connection, now)
            now = time.perf_counter()
        return now - started_at

    def finish(self) -> None:
        """Wait for the answers still owed, then close; their latencies are not recorded.

        Raises: as `run`.
        """
        owed = len(self._connections)
        while owed:
            for descriptor, event in self._poll():
                connection = self._connections[descriptor]
                if event & select.EPOLLOUT:
                    self._send_rest(connection)
                if event & ~select.EPOLLOUT and self._receive(connection):
                    owed -= 1
                    self._epoll.unregister(descriptor)
        self.close()

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            connection.socket.close()
        self._epoll.close()

    def _poll(self) -> list[tuple[int, int]]:
        """Look for events until there are some; the time is counted."""
        poll = self._epoll.poll
        events = poll(0)
        if not events:
            began = now = time.perf_counter()
            while not events:
                if now - began > _STALLED_S:
                    raise TimeoutError(f"no answer for {_STALLED_S:.0f} s")
                events = poll(0)
                now = time.perf_counter()
            self.spun_s += now - began
        return events

    def _send_next(self, connection: Connection, now: float) -> None:
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        connection.sent_at = now
        try:
            sent_bytes = connection.send(request)
        except BlockingIOError:
            sent_bytes = 0
        if sent_bytes < len(request):
            connection.unsent = memoryview(request)[sent_bytes:]
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _send_rest(self, connection: Connection) -> None:
        if connection.unsent is None:
            return
        connection.unsent = connection.unsent[connection.send(connection.unsent) :]
        if not connection.unsent:
            connection.unsent = None
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)

    def _receive(self, connection: Connection) -> bool:
        """Read what there is; return whether the answer is complete."""
        buffer: bytearray = self._buffer
        filled_bytes = connection.receive_into(buffer)
        if not filled_bytes:
            raise ConnectionError("the server closed a connection with a request in flight")
        if connection.received is not None:
            connection.received += memoryview(buffer)[:filled_bytes]
            buffer, filled_bytes = connection.received, len(connection.received)
        framing = read_framing(buffer, filled_bytes)
        if framing is None or filled_bytes < framing.total_bytes:
            if connection.received is None:
                connection.received = buffer[:filled_bytes]
            return False
        if framing.status != 200:
            self.errors += 1
            self.first_error = self.first_error or bytes(buffer[: min(filled_bytes, 600)]).decode("latin-1")
        if filled_bytes > framing.total_bytes:
            raise MalformedResponse(f"{filled_bytes - framing.total_bytes} bytes after the end of an answer")
        connection.received = None
        return True


def measure(job: Job) -> Measurement:
    """Warm the server up, measure one window, wait for the answers still owed.

    Raises: as `ClosedLoop.run`.
    """
    requests = msgspec.msgpack.decode(Path(job.requests_file).read_bytes(), type=list[bytes])
    loop = ClosedLoop(job.port, job.connections, requests)
    gc.disable()
    try:
        loop.start()
        loop.run(job.warmup_s)
        del loop.latencies_s[:]
        loop.spun_s = 0.0
        server = procfs.process_tree(job.server_pid)
        busy_s, server_s, client_s = procfs.machine_busy_s(), procfs.cpu_s(server), time.process_time()
        measured_s = loop.run(job.measure_s)
        client_busy_s = measured_s - loop.spun_s
        client_s = time.process_time() - client_s
        server_s = procfs.cpu_s(server) - server_s
        busy_s = procfs.machine_busy_s() - busy_s
        resident_bytes, peak_resident_bytes = procfs.resident_bytes(server)
        loop.finish()
    finally:
        loop.close()
    latencies_s = sorted(loop.latencies_s)
    if not latencies_s:
        raise TimeoutError(f"no request completed within {job.measure_s} s")
    return Measurement(
        requests=len(latencies_s),
        errors=loop.errors,
        first_error=loop.first_error,
        measured_s=measured_s,
        p50_ms=percentile(latencies_s, 50) * 1e3,
        p99_ms=percentile(latencies_s, 99) * 1e3,
        max_ms=latencies_s[-1] * 1e3,
        server_cpu_s=server_s,
        client_busy_s=client_busy_s,
        other_cpu_s=max(busy_s - server_s - client_s, 0.0),
        resident_bytes=resident_bytes,
        peak_resident_bytes=peak_resident_bytes,
    )


def main() -> int:
    """Run the job on standard input; exit 1 with one line when it cannot be finished."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        result = measure(job)
    except (MalformedResponse, OSError) as exc:
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
