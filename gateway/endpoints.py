"""What a path's name means: the variants behind it and all that a request needs of them, made once per revision.

Decides who answers; never queues, and never decides otherwise once it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import random

from gateway.errors import InvalidRequest, NotReady
from gateway.inference.registry import ServedVersion
from gateway.inference.signature import Signature
from gateway.messages import ModelVersion
from gateway.routing.balance import SampleBalance
from gateway.routing.breaker import Breaker
from gateway.routing.published import PublishedRoute
from gateway.routing.route import WHOLE_BP
from gateway.routing.splitter import Splitter
from gateway.shadow_lane import ShadowLane
from gateway.telemetry.metrics import CounterCell, HistogramCell, Metrics

PINNED = "pinned"
STICKY = "sticky"
RANDOM = "random"
OVERRIDE = "override"
FALLBACK = "fallback"

DRAWN = -1
"""Stands where a key's hash would: the request was dealt at random."""

_MAX_DEALT = 8192
_MAX_DEALT_BYTES = 128


@dataclass(eq=False, frozen=True, slots=True, kw_only=True)
class Target:
    """One variant of a revision, or a pinned version, ready to be asked.

    Attributes:
        route, variant: As in the metrics' labels: "" and "pinned" for a pinned version.
        model: The version as it is written: `fraud:3`. version: Its number as it is written.
        served: None while the version is not READY.
        reserve: What stands in for a candidate; None for a first variant and while that one's version is not READY.
        breaker: None for a first variant and a pinned version: they have nobody to fall back to.
        answers: Counters of answers to callers by status.
        attempts: Counters of what the variant did by status; a pinned version's are in no series.
    """

    route: str
    variant: str
    key: ModelVersion
    model: str
    version: str
    served: ServedVersion | None
    reserve: ServedVersion | None
    breaker: Breaker | None
    duration: HistogramCell
    answers: dict[int, CounterCell] = field(default_factory=dict)
    attempts: dict[int, CounterCell] = field(default_factory=dict)

    def not_ready(self) -> NotReady:
        """Say that the version behind the variant is not READY."""
        return NotReady(f"route '{self.route}': {self.model} is not READY")


@dataclass(eq=False, frozen=True, slots=True)
class Assignment:
    """A variant, and why it answers.

    Attributes:
        index: Of the variant in the route.
        by: sticky, random, override, fallback or pinned.
        header_lines: What every answer says of it, as it is sent.
        answered: Counts the requests that it answered.
    """

    target: Target
    index: int
    by: str
    header_lines: bytes
    answered: CounterCell


@dataclass(eq=False, frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a path's name meant when the request arrived; it stays so until the answer.

    Attributes:
        published: The revision; None for a pinned version.
        targets: The variants in the route's order; the first one is the one to fall back to.
        reader: The target whose signature requests are read with: the first READY one, all have the same.
        signature: Of the reader.
        splitter: None where one variant has all the traffic, so that nothing need be hashed or drawn.
        owners: As of the slots, who owns which.
        sole: Index of the variant that has all the traffic.
        balance: Counts who answered; None where there is no split to hold to.
        sticky, drawn, fallback: Assignments by variant.
        overrides: Assignments by the name that an override gives.
        shadows: In the route's order.
        dealt: Keys that were dealt and counted lately: who comes again need not be hashed.
    """

    published: PublishedRoute | None
    targets: tuple[Target, ...]
    reader: Target
    signature: Signature
    routing_key_header: bytes = b""
    splitter: Splitter | None = None
    owners: bytes = b""
    sole: int = 0
    balance: SampleBalance | None = None
    pinned: Assignment | None = None
    sticky: tuple[Assignment, ...] = ()
    drawn: tuple[Assignment, ...] = ()
    fallback: tuple[Assignment, ...] = ()
    overrides: dict[bytes, Assignment] = field(default_factory=dict)
    shadows: tuple[ShadowLane, ...] = ()
    dealt: dict[bytes, Assignment] = field(default_factory=dict)

    @property
    def served(self) -> ServedVersion:
        """The version that speaks for the name: the first variant's.

        Raises: NotReady: it is not READY, whatever the others are.
        """
        first = self.targets[0]
        if first.served is None:
            raise first.not_ready()
        return first.served

    def assign(self, key: bytes | None, override: bytes | None) -> tuple[Assignment, int | None]:
        """Choose who answers.

        Args:
            key: The caller's routing key; None or empty assigns at random.
            override: Name of the variant that the caller wants.
        Returns: The assignment, and how it was dealt if that is still to be counted: the key's hash, or DRAWN.
        Raises: InvalidRequest: the override names no variant of the route.
        """
        if self.pinned is not None:
            return self.pinned, None
        if override is not None:
            return self._overridden(override), None
        if key:
            known = self.dealt.get(key)
            if known is not None:
                return known, None
        splitter = self.splitter
        if splitter is None:
            return (self.sticky if key else self.drawn)[self.sole], None
        if not key:
            return self.drawn[splitter.variant_at(random())], DRAWN
        key_hash = splitter.hash_key(key)
        return self.sticky[self.owners[key_hash * WHOLE_BP >> 64]], key_hash  # without the cost of another call

    def keep_dealt(self, key: bytes, assignment: Assignment) -> None:
        """Remember whom a key was dealt to, once it is counted; beyond 8,192 keys begin anew."""
        if len(key) <= _MAX_DEALT_BYTES:
            if len(self.dealt) >= _MAX_DEALT:
                self.dealt.clear()
            self.dealt[key] = assignment

    def _overridden(self, name: bytes) -> Assignment:
        found = self.overrides.get(name)
        if found is None:
            route = self.targets[0].route
            expected = " or ".join(f"'{target.variant}'" for target in self.targets)
            raise InvalidRequest(f"route '{route}' has no variant '{name.decode('latin-1')}', expected {expected}")
        return found


def first_ready(targets: tuple[Target, ...]) -> Signature | None:
    """Return the signature that a route's requests are read with; None when none of its variants is READY."""
    return next((target.served.loaded.signature for target in targets if target.served is not None), None)


def route_endpoint(
    published: PublishedRoute,
    targets: tuple[Target, ...],
    shadows: tuple[ShadowLane, ...],
    balance: SampleBalance,
    metrics: Metrics,
) -> Endpoint | None:
    """Make the endpoint of a revision; None when none of its variants is READY."""
    reader = next((target for target in targets if target.served is not None), None)
    if reader is None or reader.served is None:
        return None
    sole = next(
        (index for index, variant in enumerate(published.route.variants) if variant.weight_bp == WHOLE_BP), None
    )

    def assignments(by: str) -> tuple[Assignment, ...]:
        return tuple(
            _assignment(target, index, by, published.revision, metrics) for index, target in enumerate(targets)
        )

    return Endpoint(
        published=published,
        targets=targets,
        reader=reader,
        signature=reader.served.loaded.signature,
        routing_key_header=published.route.routing_key_header.encode(),
        splitter=published.splitter if sole is None else None,
        owners=published.slots.owners,
        sole=sole or 0,
        balance=balance if sole is None else None,
        sticky=assignments(STICKY),
        drawn=assignments(RANDOM),
        fallback=assignments(FALLBACK),
        overrides={found.target.variant.encode(): found for found in assignments(OVERRIDE)},
        shadows=shadows,
    )


def pinned_endpoint(served: ServedVersion, metrics: Metrics) -> Endpoint:
    """Make the endpoint of one version of a model: no split, no shadow, no revision."""
    target = Target(
        route="",
        variant=PINNED,
        key=served.key,
        model=str(served.key),
        version=str(served.key.version),
        served=served,
        reserve=None,
        breaker=None,
        duration=metrics.histogram("request_duration_seconds", "", PINNED),
    )
    lines = f"x-gateway-model: {target.model}\r\nx-gateway-assigned-by: {PINNED}\r\n"
    return Endpoint(
        published=None,
        targets=(target,),
        reader=target,
        signature=served.loaded.signature,
        pinned=Assignment(target, 0, PINNED, lines.encode(), CounterCell()),  # counted in no series
    )


def _assignment(target: Target, index: int, by: str, revision: int, metrics: Metrics) -> Assignment:
    lines = (
        f"x-gateway-model: {target.model}\r\nx-gateway-assigned-by: {by}\r\n"
        f"x-gateway-variant: {target.variant}\r\nx-gateway-revision: {revision}\r\n"
    )
    answered = metrics.counter("assignments_total", target.route, target.variant, by)
    return Assignment(target, index, by, lines.encode(), answered)
