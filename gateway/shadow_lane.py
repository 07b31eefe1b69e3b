"""One shadow of one route: what waits for it, what it is asked, and what its answers showed.

Holds a bounded queue and the counts; never runs a model, never reads a clock.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Literal, get_args

import msgspec
import numpy as np

from gateway.inference.model_config import Outputs
from gateway.inference.registry import ServedVersion
from gateway.inference.signature import Signature
from gateway.messages import Array, ModelVersion, Tensors, TensorSpec
from gateway.routing.agreement import Agreement
from gateway.routing.comparison import Comparison, compare_outputs
from gateway.routing.route import Shadow
from gateway.telemetry.metrics import CounterCell, Metrics

DropReason = Literal["queue_full", "too_old", "not_ready", "incompatible", "stopping"]

MAX_REQUESTS = 512
MAX_ROWS = 8192
MAX_BYTES = 64 * 1024 * 1024
MAX_AGE_S = 30.0
"""What has waited longer is no news any more: the server had no spare time for so long."""


class Offered(msgspec.Struct, frozen=True):
    """An answered request, for a shadow to answer too.

    Attributes:
        outputs: What the caller got.
        inference_s: Run time of the caller's answer.
        offered_at: Monotonic seconds. at: Seconds since 1970.
    """

    inputs: dict[str, Array]
    rows: int
    outputs: dict[str, Array]
    request_id: bytes
    inference_s: float
    size_bytes: int
    offered_at: float
    at: float


class ShadowAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """What one shadow showed on this replica since it was added.

    Attributes:
        requests: By result: match, mismatch, error.
        dropped: By reason.
        summary: Differences, class flips and the worst request ids.
    """

    name: str
    model: str
    version: int
    requests: dict[str, int]
    dropped: dict[str, int]
    summary: dict[str, object]


class ShadowLane:
    """The queue of one shadow, bounded by requests, rows and bytes, and its agreement with the callers' answers.

    Attributes:
        is_busy: Whether a run of it is under way or waits to be compared.
        is_slow: Whether its last run took a thread.
        is_open: False once the route no longer has it.
    """

    def __init__(self, route: str, shadow: Shadow, metrics: Metrics) -> None:
        self.route = route
        self.shadow = shadow
        self.key: ModelVersion = shadow.model_version
        self.agreement = Agreement()
        self.served: ServedVersion | None = None
        self.is_busy = False
        self.is_slow = False
        self.is_open = True
        self._waiting: deque[Offered] = deque()
        self._rows = 0
        self._bytes = 0
        self._compared: frozenset[str] | None = frozenset()
        self._dropped: Counter[str] = Counter()
        self._results: dict[str, CounterCell] = {
            result: metrics.counter("shadow_requests_total", route, shadow.name, result)
            for result in ("match", "mismatch", "error")
        }
        self._drops: dict[str, CounterCell] = {
            reason: metrics.counter("shadow_dropped_total", route, shadow.name, reason)
            for reason in get_args(DropReason)
        }
        self._disagreements = metrics.counter("shadow_disagreement_total", route, shadow.name)
        self._difference = metrics.histogram("shadow_difference", route, shadow.name)

    # --- what it can be asked --------------------------------------------------------------------------

    def serve_with(self, served: ServedVersion | None, primary: Signature | None) -> None:
        """Take note of the version behind the shadow.

        Args:
            served: None while it is not READY.
            primary: What callers' requests fit; None while no variant is READY.
        """
        self.served = served
        self._compared = None
        if served is not None and primary is not None:
            signature = served.loaded.signature
            if takes_same_inputs(signature, primary):
                self._compared = comparable_outputs(primary, signature)

    def refusal(self, outputs: Tensors) -> DropReason | None:
        """Say why the shadow cannot be asked about an answer; None when it can."""
        if self.served is None:
            return "not_ready"
        if self._compared is None or self._compared.isdisjoint(outputs):
            return "incompatible"
        return None

    def wanted(self, outputs: Tensors) -> tuple[str, ...]:
        """Choose the outputs to compute for a comparison with an answer."""
        return tuple(name for name in outputs if self._compared and name in self._compared)

    # --- the queue -------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether no request, however small, finds room."""
        return len(self._waiting) >= MAX_REQUESTS

    @property
    def is_waiting(self) -> bool:
        """Whether something could be run."""
        return bool(self._waiting) and not self.is_busy

    def put(self, offered: Offered) -> None:
        """Take a request in, or drop it: what waits already is older, and nearer to its run."""
        full = self.is_full or (
            self._waiting and (self._rows + offered.rows > MAX_ROWS or self._bytes + offered.size_bytes > MAX_BYTES)
        )
        if full:
            self.drop("queue_full")
            return
        self._waiting.append(offered)
        self._rows += offered.rows
        self._bytes += offered.size_bytes

    def take(self, now: float) -> Offered | None:
        """Take the oldest request that is still worth a run.

        Args:
            now: Monotonic seconds.
        """
        while self._waiting:
            offered = self._waiting.popleft()
            self._rows -= offered.rows
            self._bytes -= offered.size_bytes
            if now - offered.offered_at > MAX_AGE_S:
                self.drop("too_old")
                continue
            refusal = self.refusal(offered.outputs)
            if refusal is None:
                return offered
            self.drop(refusal)
        return None

    def drop(self, reason: DropReason) -> None:
        """Count a sampled request that is not compared."""
        if not self.is_open:
            return
        self._dropped[reason] += 1
        self._drops[reason].add()

    def empty(self, reason: DropReason) -> None:
        """Drop all that waits."""
        for _ in self._waiting:
            self.drop(reason)
        self._waiting.clear()
        self._rows = self._bytes = 0

    # --- the answers -----------------------------------------------------------------------------------

    def compare(self, offered: Offered, outputs: Tensors) -> Comparison:
        """Compare a shadow's answer with the caller's."""
        named = self.served.loaded.config.outputs if self.served is not None else Outputs()
        return compare_outputs(
            offered.outputs,
            outputs,
            tolerance=self.shadow.tolerance,
            rows=offered.rows,
            label=named.label or None,
            score=named.score or None,
        )

    def count(self, comparison: Comparison, offered: Offered, run_s: float | None) -> None:
        """Count one comparison.

        Args:
            run_s: Run time of the shadow; None when it failed.
        """
        if not self.is_open:
            return
        self._results[comparison.result].add()
        if comparison.result == "mismatch" or comparison.class_flips:
            self._disagreements.add()
        if comparison.absolute.size:
            largest = float(np.max(comparison.absolute))
            if math.isfinite(largest):
                self._difference.observe(largest)
        self.agreement.add(
            comparison,
            request_id=offered.request_id.decode("latin-1"),
            at=offered.at,
            latency_ratio=run_s / offered.inference_s if run_s and offered.inference_s else None,
        )

    def report(self) -> ShadowAgreement:
        """Show what is known."""
        agreement = self.agreement
        return ShadowAgreement(
            name=self.shadow.name,
            model=self.key.model,
            version=self.key.version,
            requests={"match": agreement.matches, "mismatch": agreement.mismatches, "error": agreement.errors},
            dropped=dict(self._dropped),
            summary=agreement.summary(),
        )


def takes_same_inputs(shadow: Signature, primary: Signature) -> bool:
    """Tell whether a request that fits one signature may be handed to another model as it is."""
    return shadow.input_by_name.keys() == primary.input_by_name.keys() and all(
        _fits(spec, shadow.input_by_name[name]) for name, spec in primary.input_by_name.items()
    )


def comparable_outputs(primary: Signature, shadow: Signature) -> frozenset[str]:
    """Name the outputs that both models have, of one datatype and shape."""
    return frozenset(
        name
        for name, spec in primary.output_by_name.items()
        if name in shadow.output_by_name and _fits(spec, shadow.output_by_name[name])
    )


def _fits(one: TensorSpec, other: TensorSpec) -> bool:
    """Tell whether two tensors are of one datatype and may be of one shape: a free axis may be of any size."""
    return (
        one.datatype == other.datatype
        and len(one.shape) == len(other.shape)
        and all(size == wanted or -1 in (size, wanted) for size, wanted in zip(one.shape, other.shape, strict=True))
    )
