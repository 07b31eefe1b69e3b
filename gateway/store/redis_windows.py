"""The window store that replicas share: keys, packing and scripts of counts and results in Redis.

Knows nothing of what is counted, never waits longer than the connection's limit and keeps no state of its own.

The keys of one series share a hash tag, so that one script may touch them all on a cluster:

    gateway:1:{fraud:3}:primary:<reference hash>:<bucket_s>x<window_buckets>:counts:<bucket start>[:<chunk>]
        string: cells as unsigned integers of 40 bits, then the producers' marks
    …:index     hash: landed:<window> -> rows, result:<window> -> head, producer:<id> -> last packet, baseline
    …:history   sorted set: results by the start of their window, at most 500

A vector of more than 1,024 cells is cut into chunks of a key each, so that no script runs long. The chunk with the
rows is written last and read first: counts may run ahead of the rows, and are read again when the rows arrive.
Redis has to keep its keys: `maxmemory-policy noeviction`.
"""

from __future__ import annotations

from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.store.redis_connection import RedisConnection, Script
from gateway.store.windows import HISTORY_WINDOWS, CountPacket, Counts, CountSeries, Receipt, ResultHead, Survey

FORMAT = 1
CHUNK_CELLS = 1_024
CELL_BYTES = 5
READ_BYTES = 131_072
"""About as much is asked for in one command."""

KEPT_BUCKETS = 1_560
MAX_KEPT_S = 26 * 3_600
"""Counts are kept for 26 h of minute buckets, for less time when buckets are shorter, and never shorter than they may
still be decided on."""
INDEX_KEPT_S = 30 * 86_400

_ADD, _PUT_RESULT, _PUT_BASELINE = (Script(name) for name in ("add_counts.lua", "put_result.lua", "put_baseline.lua"))


class RedisWindowStore:
    """Counts and results in Redis; see `WindowStore`.

    Args:
        connection: Opened and closed by its owner.
        namespace: Begins every key.
    """

    def __init__(self, connection: RedisConnection, *, namespace: str = "gateway") -> None:
        self._connection = connection
        self._namespace = namespace

    async def add(self, series: CountSeries, packet: CountPacket) -> Receipt:
        """Add a packet's counts to its bucket, once; chunk by chunk, each once."""
        receipt = Receipt(mark=0, known=0)
        for chunk in reversed(range(_chunks(series))):
            counts = packet.counts[chunk * CHUNK_CELLS : (chunk + 1) * CHUNK_CELLS]
            receipt = await self._add_chunk(series, packet, chunk, counts)
            if receipt.mark < packet.sequence:
                break
        return receipt

    async def read(self, series: CountSeries, start_s: int, end_s: int) -> Counts:
        """Add up the buckets that start in [start_s, end_s)."""
        starts = range(start_s, end_s, series.bucket_s)
        total = np.zeros(series.cells, np.int64)
        for chunk in range(_chunks(series)):
            part = total[chunk * CHUNK_CELLS : (chunk + 1) * CHUNK_CELLS]
            step = max(1, READ_BYTES // (part.size * CELL_BYTES))
            for first in range(0, len(starts), step):
                keys = [self._counts_key(series, start, chunk) for start in starts[first : first + step]]
                for packed in cast("list[bytes | None]", await self._connection.read("MGET", *keys)):
                    if packed is not None:
                        part += unpack_counts(packed, part.size)
        return total

    async def survey(self, series: CountSeries) -> Survey:
        """Look at the latest windows that have rows."""
        fields = _pairs(await self._connection.read("HGETALL", self._key(series, "index")))
        landed: dict[int, int] = {}
        results: dict[int, ResultHead] = {}
        for name, value in fields.items():
            kind, _, start = name.partition(b":")
            if kind == b"landed":
                landed[int(start)] = int(value)
            elif kind == b"result":
                attempt, rows, *after = map(int, value.split(b":"))
                results[int(start)] = ResultHead(rows=rows, attempt=attempt, after=(after[0], after[1]))
        return Survey(landed=landed, results=results, baseline=fields.get(b"baseline"))

    async def put_result(self, series: CountSeries, start_s: int, head: ResultHead, body: bytes) -> bool:
        """Make this the current result of its window, if it is the next attempt."""
        words = (head.attempt, head.rows, *head.after)
        keys = [self._key(series, "index"), self._key(series, "history")]
        args = (start_s, head.attempt, ":".join(map(str, words)), body, HISTORY_WINDOWS, INDEX_KEPT_S)
        return await self._connection.write_script(_PUT_RESULT, keys, *args) == 1

    async def results(self, series: CountSeries, limit: int) -> list[bytes]:
        """List current results, newest window first."""
        if limit <= 0:
            return []
        key = self._key(series, "history")
        return cast("list[bytes]", await self._connection.read("ZREVRANGE", key, 0, min(limit, HISTORY_WINDOWS) - 1))

    async def put_baseline(self, series: CountSeries, body: bytes) -> None:
        """Replace what is known of the windows in control."""
        await self._connection.write_script(_PUT_BASELINE, [self._key(series, "index")], body, INDEX_KEPT_S)

    async def _add_chunk(self, series: CountSeries, packet: CountPacket, chunk: int, counts: Counts) -> Receipt:
        answer = await self._connection.write_script(
            _ADD,
            [self._counts_key(series, packet.bucket_start_s, chunk), self._key(series, "index")],
            packet.producer,
            packet.sequence,
            packet.after,
            counts.size,
            msgspec.msgpack.encode(counts.tolist()),
            kept_s(series),
            "" if chunk else int(counts[0]),
            series.window_start(packet.bucket_start_s),
            INDEX_KEPT_S,
            series.kept_windows,
        )
        mark, known = cast("tuple[int, int]", answer)
        return Receipt(mark=mark, known=known)

    def _counts_key(self, series: CountSeries, bucket_start_s: int, chunk: int) -> str:
        return self._key(series, f"counts:{bucket_start_s}" + (f":{chunk}" if chunk else ""))

    def _key(self, series: CountSeries, rest: str) -> str:
        return (
            f"{self._namespace}:{FORMAT}:{{{series.model}:{series.version}}}:{series.traffic}:"
            f"{series.reference}:{series.bucket_s}x{series.window_buckets}:{rest}"
        )


def kept_s(series: CountSeries) -> int:
    """Say for how many seconds a bucket's counts are kept after the last ones were added."""
    needed_s = (series.kept_windows + 1) * series.window_s
    return max(needed_s, min(KEPT_BUCKETS * series.bucket_s, MAX_KEPT_S))


def unpack_counts(packed: bytes, cells: int) -> Counts:
    """Read the first `cells` big-endian integers of 40 bits; int64, shape (cells,)."""
    wide: npt.NDArray[np.uint8] = np.zeros((cells, 8), np.uint8)
    wide[:, 8 - CELL_BYTES :] = np.frombuffer(packed, np.uint8, cells * CELL_BYTES).reshape(cells, CELL_BYTES)
    return wide.view(">i8")[:, 0].astype(np.int64)


def _chunks(series: CountSeries) -> int:
    return -(-series.cells // CHUNK_CELLS)


def _pairs(answer: object) -> dict[bytes, bytes]:
    """Read HGETALL's answer, which the library has made a dictionary in one protocol version and a list in another."""
    if isinstance(answer, dict):
        return answer
    flat = cast("list[bytes]", answer)
    return dict(zip(flat[::2], flat[1::2], strict=True))
