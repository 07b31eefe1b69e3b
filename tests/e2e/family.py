"""Owns several replicas on one Redis: their processes, their admin API, and who of them answered what.

Never holds an expectation.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.wire import AsyncConnection
from tests.store.fault_proxy import FaultProxy
from tests.store.redis_server import RedisServer
from tests.support.server import QUICK_STOP, GatewayProcess, HttpAnswer, ask, eventually, running_gateway

REPLICAS = 3


class Family:
    """Three replicas behind one data port, asked over HTTP."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway

    @property
    def admin_urls(self) -> list[str]:
        """Of every replica, in the order of their ports."""
        return self.gateway.admin_urls

    def processes(self) -> dict[str, int]:
        """Read from the log which process each replica is now."""
        lines = self.gateway.log_records
        return {line["replica"]: line["pid"] for line in lines if line["event"] == "replica_ready"}

    def admin(
        self,
        replica: int,
        path: str,
        method: str = "GET",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """Ask one replica's admin API below /admin/v1."""
        return ask(f"{self.admin_urls[replica]}/admin/v1{path}", method, body, headers)

    def ready(self) -> list[int]:
        """Ask every replica whether it is ready."""
        return [ask(url + "/readyz").status for url in self.admin_urls]

    def write(
        self,
        replica: int,
        path: str,
        body: object = None,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """Write through one replica; again where a busy machine let the quarter of a second of a call pass."""

        def answered() -> HttpAnswer | None:
            answer = self.admin(replica, path, method, body, headers)
            return None if answer.status == 503 else answer

        return eventually(answered, what="a write")

    def shift(self, replica: int, route: str, weights: Mapping[str, float], reason: str = "") -> HttpAnswer:
        """Move weights through one replica."""
        return self.write(replica, f"/routes/{route}/shift", {"weights": weights, "reason": reason})

    def served(self, replica: int, route: str) -> int:
        """Return the revision that a replica serves now, 0 for none."""
        for line in ask(self.admin_urls[replica] + "/metrics").body.decode().splitlines():
            if line.startswith(f'gateway_route_revision{{route="{route}"}} '):
                return int(float(line.rpartition(" ")[2]))
        return 0

    def reports(self, route: str, *, asked: int = 0) -> list[dict[str, Any]]:
        """Return what each replica that is known to the asked one says of a route."""
        reports = self.admin(asked, "/replicas").json["replicas"]
        return [report["routes"].get(route, {}) for report in reports]

    def await_agreement(self, route: str, *, within_s: float = 10.0) -> int:
        """Wait until every replica applies the same revision, and return it."""

        def agreed() -> int:
            reports = self.reports(route)
            revisions = {report.get("revision") for report in reports if report.get("applied")}
            served = {self.served(replica, route) for replica in range(REPLICAS)}
            is_agreed = len(reports) == REPLICAS and all(report.get("applied") for report in reports)
            return served.pop() if is_agreed and revisions == served and len(served) == 1 else 0

        return eventually(agreed, within_s=within_s, what=f"agreement about {route}")

    async def ask_each(self, requests: Sequence[bytes]) -> dict[str, list[HttpAnswer]]:
        """Send all requests to every replica, and return the answers by the process that gave them."""
        answers: dict[str, list[HttpAnswer]] = {}
        spare = []
        try:
            async with asyncio.timeout(20):
                while len(answers) < REPLICAS:
                    connection = await AsyncConnection.open(self.gateway.data_address)
                    spare.append(connection)
                    who = origin(await connection.ask(requests[0]))
                    if who not in answers:
                        answers[who] = [await connection.ask(request) for request in requests]
                        assert {origin(answer) for answer in answers[who]} == {who}
        finally:
            for connection in spare:
                await connection.close()
        return answers


def origin(answer: HttpAnswer) -> str:
    """Tell the process that answered by the beginning of the request id it made."""
    return answer.headers["x-request-id"].partition("-")[0]


@contextmanager
def running_family(
    repository: Path, redis_url: str, *arguments: str, config: str = QUICK_STOP, exit_code: int = 0
) -> Iterator[Family]:
    """Run three replicas whose log can be read back."""
    flags = ["--replicas", str(REPLICAS), "--redis", redis_url, "--log-format", "json", *arguments]
    with running_gateway(repository, config=config, arguments=flags, exit_code=exit_code) as gateway:
        yield Family(gateway)


@contextmanager
def redis_door(redis: RedisServer) -> Iterator[FaultProxy]:
    """Run a door to a Redis beside the test; its switches may be turned from here."""
    made: Future[FaultProxy] = Future()
    closing = threading.Event()

    async def keep_open() -> None:
        async with FaultProxy(redis) as door:
            made.set_result(door)
            await asyncio.to_thread(closing.wait)

    thread = threading.Thread(target=lambda: asyncio.run(keep_open()), name="redis-door")
    thread.start()
    try:
        yield made.result(timeout=10)
    finally:
        closing.set()
        thread.join()
