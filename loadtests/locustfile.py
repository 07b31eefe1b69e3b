"""Owns the users that put load on a gateway: v2 JSON, v2 binary and v1, by `locust -f loadtests/locustfile.py`.

Decides nothing itself: rows, faults, shapes and thresholds are in the modules beside it.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from locust import FastHttpUser, LoadTestShape, constant_throughput, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.addresses import refusal
from loadtests.datasets import load_dataset, models
from loadtests.injection import Injection, check_injection, read_injection
from loadtests.payloads import Drawer, Encoded, Tensors, answered_rows, v1, v2_binary, v2_json
from loadtests.shapes import SHAPES, users_at
from loadtests.thresholds import Figures, Thresholds, breaches

log = logging.getLogger("loadtests")

MAX_USERS = 1000
MAX_DURATION_S = 4 * 3600.0
NOT_PASSED, WRONG_USAGE = 1, 2

_user_numbers = itertools.count()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust does not type its hooks
def add_options(parser: LocustArgumentParser) -> None:
    """Add what is ours to locust's own options; each also as LOCUST_… in the environment."""
    group = parser.add_argument_group("gateway load test")
    add = group.add_argument
    add("--shape", choices=sorted(SHAPES), default="steady", env_var="LOCUST_SHAPE", help="users over time (steady)")
    add("--peak-users", type=int, default=20, env_var="LOCUST_PEAK_USERS", help="users at the peak (20)")
    add("--duration-s", type=float, default=30.0, env_var="LOCUST_DURATION_S", help="length of the run (30)")
    add("--rate", type=float, default=10.0, env_var="LOCUST_RATE", help="requests per second of each user (10)")
    add("--models", default="", env_var="LOCUST_MODELS", help="comma-separated; default: every example model")
    add("--max-rows", type=int, default=4, env_var="LOCUST_MAX_ROWS", help="a request has 1 to this many rows (4)")
    add("--keys", type=int, default=10_000, env_var="LOCUST_KEYS", help="distinct routing keys; 0 sends none (10000)")
    add("--seed", type=int, default=7, env_var="LOCUST_SEED", help="of rows, faults and keys (7)")
    add("--drift", action="append", default=[], help="KIND:MODEL/FEATURE[:AMOUNT][@FROM[-TO]]; may be repeated")
    add("--max-failure-ratio", type=float, default=Thresholds().max_failure_ratio, help="more fails the run (0.01)")
    add("--max-p99-ms", type=float, default=Thresholds().max_p99_ms, help="more fails the run (500)")
    add("--min-rps", type=float, default=Thresholds().min_requests_per_s, help="less fails the run (1)")
    add("--allow-remote", action="store_true", env_var="LOCUST_ALLOW_REMOTE", help="the target is another machine")
    parser.set_defaults(web_host="127.0.0.1")


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust does not type its hooks
def check_options(environment: Environment, **_: object) -> None:
    """End with exit code 2 where the options make no bounded, permitted run."""
    options = _options(environment)
    faults = list(_faults(options))
    target = refusal(environment.host, is_remote_allowed=options.allow_remote)
    if target is not None and (options.headless or environment.host):
        faults.append(target)
    if faults:
        print("\n".join(f"loadtests: {fault}" for fault in faults), file=sys.stderr)
        raise SystemExit(WRONG_USAGE)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust does not type its hooks
def check_target(environment: Environment, **_: object) -> None:
    """Hold the target typed into the web page to the same rule."""
    reason = refusal(environment.host, is_remote_allowed=_options(environment).allow_remote)
    if reason is not None and environment.runner is not None:
        log.error(reason)
        environment.process_exit_code = WRONG_USAGE
        environment.runner.quit()


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust does not type its hooks
def judge(environment: Environment, **_: object) -> None:
    """Turn the thresholds into locust's exit code."""
    if environment.process_exit_code:
        return
    options, total = _options(environment), environment.stats.total
    found = breaches(
        Figures(
            requests=total.num_requests,
            failures=total.num_failures,
            p99_ms=float(total.get_response_time_percentile(0.99)),
            requests_per_s=float(total.total_rps),
        ),
        Thresholds(
            max_failure_ratio=options.max_failure_ratio,
            max_p99_ms=options.max_p99_ms,
            min_requests_per_s=options.min_rps,
        ),
    )
    for breach in found:
        log.error("not passed: %s", breach)
    environment.process_exit_code = NOT_PASSED if found else 0


def _options(environment: Environment) -> argparse.Namespace:
    options = environment.parsed_options
    if not isinstance(options, argparse.Namespace):
        raise TypeError("locust has parsed no options")
    return options


def _faults(options: argparse.Namespace) -> list[str]:
    faults = []
    if not 1 <= options.peak_users <= MAX_USERS:
        faults.append(f"--peak-users {options.peak_users}: expected 1 to {MAX_USERS}")
    if not 0 < options.duration_s <= MAX_DURATION_S:
        faults.append(f"--duration-s {options.duration_s:g}: expected at most {MAX_DURATION_S:g}")
    if options.rate <= 0 or options.max_rows < 1 or options.keys < 0:
        faults.append("--rate and --max-rows are above 0, --keys is at least 0")
    try:
        chosen = _models(options)
        for injection in _injections(options):
            if injection.model not in chosen:
                raise ValueError(f"{injection.model!r} is not among the models {', '.join(chosen)}")
            check_injection(injection, load_dataset(injection.model))
    except ValueError as exc:
        faults.append(str(exc))
    return faults


def _models(options: argparse.Namespace) -> list[str]:
    chosen = [name.strip() for name in options.models.split(",") if name.strip()] or list(models())
    for name in chosen:
        load_dataset(name)
    return chosen


def _injections(options: argparse.Namespace) -> list[Injection]:
    return [read_injection(text) for text in options.drift]


class Shape(LoadTestShape):
    """The shape that --shape names."""

    use_common_options: ClassVar[bool] = False

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there should be, and how fast to get there; None ends the run."""
        if self.runner is None:
            return None
        options = _options(self.runner.environment)
        elapsed_s: float = self.get_run_time()  # type: ignore[no-untyped-call]  # locust does not type its base class
        count = users_at(options.shape, elapsed_s, peak_users=options.peak_users, duration_s=options.duration_s)
        return None if count is None else (count, float(options.peak_users))


_ENCODERS: dict[str, Callable[[str, Tensors], Encoded]] = {"v2 json": v2_json, "v2 binary": v2_binary, "v1": v1}


class ModelUser(FastHttpUser):
    """Asks each model in turn, in the dialect of its subclass."""

    abstract = True
    connection_timeout = 10.0
    network_timeout = 30.0
    dialect: ClassVar[str]

    def on_start(self) -> None:
        """Draw from data that no other user draws."""
        options = _options(self.environment)
        seed = options.seed + 1000 * next(_user_numbers)
        self._random = random.Random(seed)
        self._keys: int = options.keys
        self._pace = constant_throughput(options.rate)
        injections = _injections(options)
        drawers = [
            Drawer(load_dataset(name), injections, max_rows=options.max_rows, seed=seed) for name in _models(options)
        ]
        self._random.shuffle(drawers)
        self._turns = itertools.cycle(drawers)
        self._first_wait_s: float | None = self._random.random() / options.rate

    def wait_time(self) -> float:
        """Keep the rate that was asked for, whatever the answers take, and out of step with the other users."""
        if self._first_wait_s is not None:
            first_wait_s, self._first_wait_s = self._first_wait_s, None
            return first_wait_s
        wait: float = self._pace(self)
        return wait

    @task
    def predict(self) -> None:
        """Send one request and hold its answer to as many rows."""
        drawer = next(self._turns)
        shape: Any = self.environment.shape_class
        tensors = drawer.draw(shape.get_run_time())
        rows = len(next(iter(tensors.values())))
        request = _ENCODERS[self.dialect](drawer.model, tensors)
        headers = request.headers
        if self._keys:
            headers = headers | {"x-routing-key": f"key-{self._random.randrange(self._keys)}"}
        with self.client.request(
            "POST",
            request.path,
            name=f"{self.dialect} {drawer.model}",
            data=request.content,  # type: ignore[arg-type]  # bytes go through as they are
            headers=headers,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {(response.text or '')[:160]}")
                return
            binary = response.headers.get("inference-header-content-length")
            try:
                answered = answered_rows(response.content or b"", int(binary) if binary else None)
            except ValueError as exc:
                response.failure(str(exc))
                return
            if answered != rows:
                response.failure(f"{rows} rows asked, {answered} answered")


class V2JsonUser(ModelUser):
    """Speaks the Open Inference Protocol in JSON."""

    weight = 2
    dialect = "v2 json"


class V2BinaryUser(ModelUser):
    """Speaks the Open Inference Protocol with binary tensors."""

    weight = 1
    dialect = "v2 binary"


class V1User(ModelUser):
    """Speaks REST v1."""

    weight = 1
    dialect = "v1"
