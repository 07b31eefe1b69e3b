"""What happens to one request, in arrays: which version a name means now, its way to a queue, and what is counted.

Speaks no HTTP, loads nothing and never waits for a store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from gateway.call import Call
from gateway.endpoints import (
    DRAWN,
    FALLBACK,
    OVERRIDE,
    PINNED,
    Assignment,
    Endpoint,
    Target,
    first_ready,
    pinned_endpoint,
    route_endpoint,
)
from gateway.errors import GatewayError, InferenceFailed, NotReady, Overloaded, UnknownModel
from gateway.inference.registry import Registry, ServedVersion, VersionState
from gateway.messages import Array, ModelVersion, Timings
from gateway.route_health import RouteHealth, RouteStatus
from gateway.routing.published import PublishedRoute
from gateway.shadow_lane import ShadowLane
from gateway.shadowing import Shadowing
from gateway.spare_time import Callers
from gateway.telemetry.metrics import CounterCell, Labels, Metrics

log = logging.getLogger(__name__)

CANNOT_TAKE = 503
"""Status of an attempt that a variant did not even begin: not READY, its breaker open, or its queue full."""


class DataPlane:
    """Resolves names, hands requests to queues and counts what becomes of them."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        *,
        shadowing: Shadowing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._shadowing = shadowing
        self._callers = shadowing.callers if shadowing is not None else Callers()
        self._clock = clock
        self._routes: dict[str, PublishedRoute] = {}
        self._routed: dict[str, Endpoint] = {}
        self._pinned: dict[ModelVersion, Endpoint] = {}
        self._health = RouteHealth(metrics)

    # --- what names mean -------------------------------------------------------------------------------

    def publish(self, routes: Mapping[str, PublishedRoute]) -> None:
        """Swap in the routes in force, and forget what belongs to routes and versions that are gone."""
        self._routes = dict(routes)
        self._pinned = {key: endpoint for key, endpoint in self._pinned.items() if self._is_current(endpoint)}
        self._health.publish(routes)
        if self._shadowing is not None:
            self._shadowing.publish(routes)
        endpoints = {name: self._route_endpoint(published) for name, published in routes.items()}
        self._routed = {name: endpoint for name, endpoint in endpoints.items() if endpoint is not None}

    def endpoint(self, name: str, version: int | None) -> Endpoint:
        """Return what a request for `name` means now.

        Args:
            version: Pins a version of the model of that name; None follows the route.
        Raises:
            UnknownModel: no such route, model or version, or unloaded.
            NotReady: it is known, but nothing behind it is READY.
        """
        if version is None:
            endpoint = self._routed.get(name)
            if endpoint is None:
                raise self._why_not(name)
            return endpoint
        key = ModelVersion(name, version)
        endpoint = self._pinned.get(key)
        if endpoint is None or not self._is_current(endpoint):
            endpoint = self._pinned[key] = pinned_endpoint(self._registry.served(name, version), self._metrics)
        return endpoint

    def status(self, name: str, now: float) -> RouteStatus:
        """Show how a route in force does on this replica.

        Args:
            now: Monotonic seconds.
        Raises: KeyError: no such route is in force.
        """
        return self._health.status(name, now, is_ready=lambda key: self._served(key) is not None)

    # --- one request -----------------------------------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Queue a request at its variant, or at the first one when its candidate cannot take it.

        Raises: GatewayError: nobody takes it; no lease is held.
        """
        target = call.assignment.target
        served, reserve, breaker = target.served, target.reserve, target.breaker
        if served is None:
            if reserve is None:
                raise target.not_ready()
            self._submit_to_first(call, target)
            return
        ticket = None
        # Where the first variant is not READY nobody could stand in, so an open breaker would serve nobody.
        if reserve is not None and breaker is not None:
            clock = self._clock
            ticket = breaker.admit(clock())
            if ticket is None:
                self._submit_to_first(call, target)
                return
        request, batcher = call.request, served.batcher
        try:
            call.answer = batcher.submit(request.inputs, request.rows, request.outputs, call.deadline)
        except GatewayError as exc:
            if ticket is not None and breaker is not None:
                breaker.abandon(ticket)
            if reserve is None or not isinstance(exc, Overloaded):
                raise
            self._submit_to_first(call, target)
            return
        batcher.acquire()
        if reserve is not None:
            reserve.batcher.acquire()
            call.reserve, call.ticket = reserve, ticket
        self._callers.come()

    def falls_back(self, call: Call) -> bool:
        """Queue a request anew whose candidate failed: then `answer` is another one, to be waited for as the first.

        To be asked once the answer is done. It happens once at most, and not when the deadline has passed.
        """
        reserve = call.reserve
        if reserve is None or call.answer.cancelled() or not isinstance(call.answer.exception(), InferenceFailed):
            return False
        if call.deadline <= self._clock():
            return False
        candidate = call.suspect = call.assignment.target
        self._count_attempt(candidate, 500)
        if candidate.served is not None:
            candidate.served.batcher.release()
        call.reserve = None
        call.assignment = call.endpoint.fallback[0]
        request = call.request
        try:
            call.answer = reserve.batcher.submit(request.inputs, request.rows, request.outputs, call.deadline)
        except GatewayError as exc:
            call.answer = asyncio.get_running_loop().create_future()
            call.answer.set_exception(exc)
        return True

    def finish(self, call: Call, code: int, *, failed: bool | None = None) -> None:
        """Count the one answer to a request, and let go of the versions that could have given it.

        Args:
            code: Status of the answer; 499 when the caller has gone.
            failed: Whether the variant failed by itself; None when the answer says nothing of it.
        """
        clock = self._clock
        now = clock()
        assignment = call.assignment
        target = assignment.target
        if target.served is not None:
            target.served.batcher.release()
        self._callers.leave()
        if call.reserve is not None:
            call.reserve.batcher.release()
            self._record(call, target, failed=failed, now=now)
        elif call.suspect is not None:  # a request that breaks every variant is no witness against one
            self._record(call, call.suspect, failed=None if failed else True, now=now)
        self.count_assigned(assignment, code, now - call.began)
        if call.dealt is not None and code == 200:
            self._count_dealt(call, call.dealt)

    def answered(self, call: Call, outputs: dict[str, Array], timings: Timings, request_id: bytes) -> None:
        """Tell the shadows of a request that is answered and finished."""
        request, endpoint = call.request, call.endpoint
        if endpoint.shadows and self._shadowing is not None and endpoint.published is not None:
            if call.assignment.by == OVERRIDE:  # who tests a variant is no traffic to learn from
                return
            self._shadowing.offer(
                endpoint.shadows,
                endpoint.published,
                call.key,
                inputs=request.inputs,
                rows=request.rows,
                outputs=outputs,
                timings=timings,
                request_id=request_id,
            )

    def count_assigned(self, assignment: Assignment, code: int, seconds: float) -> None:
        """Count one answer of a variant that was chosen."""
        target = assignment.target
        assignment.answered.value += 1
        (target.attempts.get(code) or self._attempts(target, code)).value += 1
        (target.answers.get(code) or self._answers(target, code)).value += 1
        target.duration.observe(seconds)

    def count_answer(
        self, endpoint: Endpoint | None, code: int, seconds: float, *, asked: tuple[str, int | None] = ("", None)
    ) -> None:
        """Count one answer for which no variant was chosen.

        Args:
            endpoint: None where nothing was READY, or the name is not known.
            asked: Name and version that the caller asked for, where the path could be read.
        """
        if endpoint is None:
            self._metrics.counter("requests_total", *self._asked_labels(*asked), str(code)).add()
            return
        target = endpoint.reader
        (target.answers.get(code) or self._answers(target, code)).value += 1
        target.duration.observe(seconds)

    def count_rejection(self, target: Target | None, reason: str) -> None:
        """Count a request that was refused or given up."""
        self._metrics.counter("rejected_total", target.key.model if target else "", reason).add()

    def _submit_to_first(self, call: Call, candidate: Target) -> None:
        """Queue a request at the first variant, which stands in for a candidate that could not take it."""
        self._count_attempt(candidate, CANNOT_TAKE)
        call.assignment = call.endpoint.fallback[0]
        self.submit(call)

    # --- small things ----------------------------------------------------------------------------------

    @staticmethod
    def _count_dealt(call: Call, dealt: int) -> None:
        """Count an answer of the variant that the split chose; one that stood in for it says nothing of the split."""
        assignment, balance = call.assignment, call.endpoint.balance
        if balance is None or assignment.by == FALLBACK:
            return
        if dealt == DRAWN:
            balance.count_random(assignment.index)
        elif call.key:
            balance.count_key(dealt, assignment.index)
            call.endpoint.keep_dealt(call.key, assignment)

    def _record(self, call: Call, candidate: Target, *, failed: bool | None, now: float) -> None:
        """Tell the candidate's breaker how the run ended that it admitted."""
        breaker, ticket = candidate.breaker, call.ticket
        if breaker is None or ticket is None:
            return
        if failed is None:
            breaker.abandon(ticket)
            return
        if breaker.record(ticket, failed=failed, now=now):
            status = breaker.status(now)
            facts = {"route": candidate.route, "variant": candidate.variant, "reason": status.reason}
            if breaker.is_open:
                log.warning("variant_breaker_opened", extra=facts | {"retry_in_s": status.retry_in_s})
            else:
                log.info("variant_breaker_closed", extra=facts)

    def _count_attempt(self, target: Target, code: int) -> None:
        (target.attempts.get(code) or self._attempts(target, code)).value += 1

    def _answers(self, target: Target, code: int) -> CounterCell:
        labels = (target.route, target.variant, target.key.model, target.version, str(code))
        shown = not target.route or self._health.is_in_force(target.route, target.variant)
        cell = target.answers[code] = self._metrics.counter("requests_total", *labels) if shown else CounterCell()
        return cell

    def _attempts(self, target: Target, code: int) -> CounterCell:
        labels = (target.route, target.variant, str(code))
        cell = target.attempts[code] = (
            self._metrics.counter("variant_attempts_total", *labels)
            if self._health.is_in_force(target.route, target.variant)
            else CounterCell()
        )
        return cell

    def _route_endpoint(self, published: PublishedRoute) -> Endpoint | None:
        name = published.route.name
        served = [self._served(variant.model_version) for variant in published.route.variants]
        known = self._routed.get(name)
        if (
            known is not None
            and known.published is published
            and all(target.served is version for target, version in zip(known.targets, served, strict=True))
        ):
            self._lanes(published, known.targets)
            return known
        targets = tuple(
            Target(
                route=name,
                variant=variant.name,
                key=variant.model_version,
                model=str(variant.model_version),
                version=str(variant.model_version.version),
                served=version,
                reserve=served[0] if index else None,
                breaker=self._health.breaker(name, variant),
                duration=self._metrics.histogram("request_duration_seconds", name, variant.name),
            )
            for index, (variant, version) in enumerate(zip(published.route.variants, served, strict=True))
        )
        balance = self._health.balance(published)
        return route_endpoint(published, targets, self._lanes(published, targets), balance, self._metrics)

    def _lanes(self, published: PublishedRoute, targets: tuple[Target, ...]) -> tuple[ShadowLane, ...]:
        """Bring the shadows of a route up to what is READY now."""
        if self._shadowing is None or not published.route.shadows:
            return ()
        return self._shadowing.lanes(published, self._served, first_ready(targets))

    def _served(self, key: ModelVersion) -> ServedVersion | None:
        record = self._registry.record(key)
        return record.served if record is not None else None

    def _is_current(self, endpoint: Endpoint) -> bool:
        target = endpoint.targets[0]
        return self._served(target.key) is target.served

    def _asked_labels(self, name: str, version: int | None) -> Labels:
        """Name who should have answered: only configured names stand in labels, so all are "" for an unknown one."""
        if version is not None:
            is_known = self._registry.record(ModelVersion(name, version)) is not None
            return ("", PINNED, name, str(version)) if is_known else ("", "", "", "")
        published = self._routes.get(name)
        if published is None:
            return ("", "", "", "")
        first = published.route.variants[0]
        return (name, first.name, first.model, str(first.version))

    def _why_not(self, name: str) -> UnknownModel | NotReady:
        published = self._routes.get(name)
        if published is not None:
            behind = " and ".join(dict.fromkeys(str(variant.model_version) for variant in published.route.variants))
            return NotReady(f"route '{name}': {behind} is not READY")
        records = self._registry.versions(name)
        waiting = [record for record in records if record.state is not VersionState.UNLOADED]
        if waiting:
            states = ", ".join(f"{record.key.version} is {record.state}" for record in waiting)
            reasons = "; ".join(record.reason for record in waiting if record.reason)
            return NotReady(f"model '{name}' has no READY version: {states}{f' ({reasons})' if reasons else ''}")
        return UnknownModel(f"model '{name}' is unloaded" if records else f"no model or route '{name}'")
