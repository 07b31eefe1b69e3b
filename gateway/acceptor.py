"""Takes connections from a listening socket that several replicas share, so that each of them has about as many.

Speaks no protocol; what is taken goes to a transport of the loop.

Every new connection wakes all replicas, and the quickest would get it: of 64 that arrive together one replica may get
45 and another none, for as long as they are kept alive. A replica that has more than another gives way for a moment.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

GIVE_WAY_S = 0.002
"""For so long a new connection may wait for a replica that has fewer, but is busy."""
_EXHAUSTED_PAUSE_S = 1.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SLOT_BYTES = 8
ABSENT = 2**63
"""In the place of a count: this replica takes no connections now."""


class ConnectionCounts:
    """How many connections each replica has open, in memory that all of them share.

    Args:
        descriptor: An open file of at least `size(replicas)` bytes.
    """

    def __init__(self, descriptor: int, replicas: int) -> None:
        self._memory = mmap.mmap(descriptor, self.size(replicas))
        self._slots = memoryview(self._memory).cast("Q")

    @staticmethod
    def size(replicas: int) -> int:
        """Bytes that so many counts take."""
        return replicas * _SLOT_BYTES

    def put(self, replica: int, count: int) -> None:
        """Note how many connections a replica has, or ABSENT."""
        self._slots[replica] = count

    def fewest_beside(self, replica: int) -> int:
        """Return the count of the replica that has fewest, leaving one out; ABSENT when there is no other."""
        return min((count for number, count in enumerate(self._slots) if number != replica), default=ABSENT)

    def close(self) -> None:
        """Let go of the memory."""
        self._slots.release()
        self._memory.close()


class Acceptor:
    """Accepts one connection at a time, and none while another replica with fewer may take it.

    Args:
        listening: Not blocking, shared with other processes.
        make_protocol: For each connection.
        count: How many connections this replica has open.
        number: This replica among all.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        count: Callable[[], int],
        counts: ConnectionCounts,
        number: int,
    ) -> None:
        self._listening = listening
        self._make_protocol = make_protocol
        self._count = count
        self._counts = counts
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._gave_way = False
        self._is_closed = False
        self.note()
        self._resume()

    def close(self) -> None:
        """Accept no more; the socket is the caller's to close."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._is_closed = True
        self._counts.put(self._number, ABSENT)

    async def settle(self) -> None:
        """Wait until everything that was accepted has its protocol."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def note(self) -> None:
        """Tell the others how many connections are open, since one was closed."""
        if not self._is_closed:
            self._counts.put(self._number, self._open())

    def _open(self) -> int:
        return self._count() + len(self._opening)

    def _resume(self) -> None:
        self._loop.add_reader(self._listening, self._take_one)

    def _take_one(self) -> None:
        if self._open() > self._counts.fewest_beside(self._number) and not self._gave_way:
            self._gave_way = True
            self._wait(GIVE_WAY_S)
            return
        self._gave_way = False
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another replica was quicker, or the client has gone
        except OSError as exc:
            if exc.errno not in _EXHAUSTED:
                raise
            log.warning("connection_not_accepted", extra={"reason": str(exc)})
            self._wait(_EXHAUSTED_PAUSE_S)
            return
        connection.setblocking(False)
        opening = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        self.note()

    def _wait(self, pause_s: float) -> None:
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(pause_s, self._resume)
