"""A replica to kill: records a row every few milliseconds and says how many it has recorded.

Run as `python -m tests.monitoring.killed_replica URL` by test_killed_replica.py.
"""

import asyncio
import sys
import time

from gateway.monitoring.monitor import Monitor
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_windows import RedisWindowStore
from tests.monitoring.replicas import FRAUD, reference_rows, score, yardstick


async def main(url: str) -> None:
    rows = reference_rows(1)
    async with RedisConnection(url) as connection:
        monitor = Monitor(RedisWindowStore(connection))
        monitor.watch(FRAUD, yardstick(rows))
        await monitor.start()
        recorded = 0
        while True:
            for _ in range(5):
                monitor.record(FRAUD, "primary", {"x": rows[:1]}, {"score": score(rows[:1])}, 1)
                recorded += 1
            sys.stdout.write(f"{time.monotonic()} {recorded}\n")
            sys.stdout.flush()
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
