"""Measures what the counts of one version take in Redis: bytes a day, and the time of the script that adds them.

Never starts a gateway: its own ledgers and window store write to a Redis of this run's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from gateway.messages import ModelVersion
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.ledger import Ledger, Producer
from gateway.monitoring.recorder import BucketDelta
from gateway.monitoring.reference import encode_reference
from gateway.monitoring.reference_builder import build_reference
from gateway.monitoring.yardstick import Yardstick
from gateway.settings import MonitoringOptions
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_windows import RedisWindowStore

FEATURES = 20
MINUTES_A_DAY = 1_440
FLUSHES_A_MINUTE = 5
"""Of each replica, here: enough for a mean, and far from the sixty of a busy minute, which would take an hour."""
ROWS_A_FLUSH = 200
REPLICAS = 3
_START_WITHIN_S = 10.0


class RedisCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a day of one version's counts took.

    Attributes:
        bytes_a_day: Growth of used_memory over all buckets of a day, keys and index included.
        script_us: Mean time of one EVALSHA, as INFO commandstats has it.
        scripts: How many there were.
    """

    version: str
    features: int
    replicas: int
    buckets: int
    bytes_a_day: int
    script_us: float
    scripts: int


@contextlib.contextmanager
def private_redis(directory: Path) -> Iterator[str]:
    """Run a redis-server on a Unix socket of its own, and give its address.

    Raises: FileNotFoundError: there is no redis-server.
    """
    command = shutil.which("redis-server")
    if command is None:
        raise FileNotFoundError("redis-server is not installed")
    socket = Path(tempfile.mkdtemp(prefix="redis-", dir=directory)) / "redis.sock"
    server = subprocess.Popen(
        [command, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"],
        cwd=socket.parent,
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(int(_START_WITHIN_S / 0.02)):
            if socket.exists():
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.02)
        yield f"unix://{socket}"
    finally:
        server.terminate()
        server.wait()


async def measure_day(url: str, *, minutes: int = MINUTES_A_DAY, seed: int = 1) -> RedisCost:
    """Write a day of minute buckets from three replicas, and ask Redis what it took."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(10_000, FEATURES)).astype(np.float32)
    scores = 1 / (1 + np.exp(-rows[:, :1]))
    options = MonitoringOptions(bucket_s=60, window_buckets=5)
    yardstick = Yardstick(encode_reference(build_reference({"x": rows}, {"score": scores})), options)
    series = yardstick.series(ModelVersion("fraud", 3), "primary")
    counter = BlockCounter(yardstick.layout)
    ledgers = [Ledger(series.cells, yardstick.schedule, Producer()) for _ in range(REPLICAS)]
    async with RedisConnection(url, call_timeout_s=5.0) as connection:
        store = RedisWindowStore(connection)
        before = await _info(connection, "memory")
        await connection.read("CONFIG", "RESETSTAT")
        for minute in range(minutes):
            for _ in range(FLUSHES_A_MINUTE):
                for ledger in ledgers:
                    some = rng.integers(0, len(rows), ROWS_A_FLUSH)
                    counts = counter.count([{"x": rows[some]}], [{"score": scores[some]}], ROWS_A_FLUSH)
                    ledger.enter([BucketDelta(bucket_start_s=60 * minute, counts=counts)])
                    while (packet := ledger.next_packet()) is not None:
                        ledger.settle(packet, await store.add(series, packet))
            for ledger in ledgers:
                ledger.drop_expired(60.0 * minute)
        after, stats = await _info(connection, "memory"), await _info(connection, "commandstats")
        version = (await _info(connection, "server"))["redis_version"]
    script = dict(part.split("=") for part in stats["cmdstat_evalsha"].split(","))
    grown = int(after["used_memory"]) - int(before["used_memory"])
    return RedisCost(
        version=version,
        features=FEATURES,
        replicas=REPLICAS,
        buckets=minutes,
        bytes_a_day=grown * MINUTES_A_DAY // minutes,
        script_us=float(script["usec_per_call"]),
        scripts=int(script["calls"]),
    )


def redis_cost(*, minutes: int) -> RedisCost:
    """Measure with a Redis of this run's own."""
    with (
        tempfile.TemporaryDirectory(prefix="cost-", ignore_cleanup_errors=True) as name,
        private_redis(Path(name)) as url,
    ):
        return asyncio.run(measure_day(url, minutes=minutes))


async def _info(connection: RedisConnection, section: str) -> dict[str, str]:
    answer = cast("bytes | dict[str, object]", await connection.read("INFO", section))
    if isinstance(answer, dict):
        return {name: _flat(value) for name, value in answer.items()}
    lines = answer.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _flat(value: object) -> str:
    """Write what redis-py has taken apart as Redis had it."""
    if isinstance(value, dict):
        return ",".join(f"{name}={one}" for name, one in value.items())
    return str(value)
