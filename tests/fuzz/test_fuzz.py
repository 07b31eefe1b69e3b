"""Owns the promise that no request, however malformed, gets an undeclared 5xx, crashes, hangs or grows the gateway."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.cases import Case, ModelUnderTest
from tests.fuzz.client import Tally, run
from tests.fuzz.generator import Generator
from tests.support.server import GatewayProcess

SEED = 20_260
REQUESTS = 32_000
WARM_UP = 20_000
UNFINISHED = 40
AT_ONCE = 8
GROWTH_BYTES = 30 * 1024 * 1024
SHOWN = 10


@pytest.mark.timeout(300)
def test_no_malformed_request_fails_hangs_or_grows_the_gateway(
    gateway: GatewayProcess, models: tuple[ModelUnderTest, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    generator = Generator(SEED, models)
    expected = good_answers(gateway, models)
    tally = Tally()
    began = time.perf_counter()
    send(gateway, generator.cases(WARM_UP), tally)
    warm = resident_bytes(gateway)
    send(gateway, generator.cases(REQUESTS - WARM_UP), tally)
    grown = resident_bytes(gateway) - warm
    send(gateway, generator.unfinished(UNFINISHED), tally, at_once=UNFINISHED)
    seconds = time.perf_counter() - began
    with capsys.disabled():
        sys.stdout.write(f"\nfuzz: {tally.line()}; {seconds:.1f} s, {grown / 2**20:+.1f} MB\n")
    assert not tally.faults, f"{len(tally.faults)} faults, the first:\n" + "\n".join(tally.faults[:SHOWN])
    assert tally.sent >= REQUESTS
    assert grown < GROWTH_BYTES
    assert gateway.is_running
    assert good_answers(gateway, models) == expected
    assert gateway.ask("/v2/health/ready").status == 200


def test_the_same_seed_gives_the_same_requests(models: tuple[ModelUnderTest, ...]) -> None:
    first, second = (list(Generator(1, models).cases(500)) for _ in range(2))
    assert first == second
    assert first != list(Generator(2, models).cases(500))


def send(gateway: GatewayProcess, cases: Iterator[Case], tally: Tally, *, at_once: int = AT_ONCE) -> None:
    asyncio.run(run(cases, gateway.data_address, gateway.admin_address, tally, at_once=at_once))


def resident_bytes(gateway: GatewayProcess) -> int:
    return int(Path(f"/proc/{gateway.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def good_answers(gateway: GatewayProcess, models: tuple[ModelUnderTest, ...]) -> dict[str, object]:
    return {
        model.name: gateway.ask(model.target.decode(), "POST", model.document()).json["outputs"] for model in models
    }
