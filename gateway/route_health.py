"""How routes do on this replica: the breakers and balances that outlive a request, and what is shown of them.

Never chooses a variant and never asks a registry; who is READY is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from gateway.messages import ModelVersion
from gateway.routing.balance import BalanceStatus, SampleBalance
from gateway.routing.breaker import Breaker, BreakerStatus
from gateway.routing.published import PublishedRoute
from gateway.routing.route import Variant, percent
from gateway.store.records import Position
from gateway.telemetry.metrics import Labels, Metrics


class VariantStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one variant does on this replica; a first variant has no breaker."""

    name: str
    is_ready: bool
    breaker: BreakerStatus | None


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a route does on this replica; without a split there is no balance."""

    variants: tuple[VariantStatus, ...]
    balance: BalanceStatus | None


class RouteHealth:
    """A breaker for each variant but the first, kept while its model version stays; a balance for each revision."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._routes: Mapping[str, PublishedRoute] = {}
        self._breakers: dict[tuple[str, str, ModelVersion], Breaker] = {}
        self._balances: dict[tuple[str, Position], SampleBalance] = {}
        metrics.gauge("route_revision", self._read_revisions)
        metrics.gauge("route_weight", self._read_weights)
        metrics.gauge("variant_breaker_open", self._read_breakers)
        metrics.gauge("sample_ratio_mismatch", self._read_mismatches)

    def publish(self, routes: Mapping[str, PublishedRoute]) -> None:
        """Take the routes in force, and drop every series of variants that are gone."""
        before, self._routes = self._routes, dict(routes)
        self._breakers = {key: self._breakers.get(key) or Breaker() for key in _guarded(routes)}
        self._balances = {
            (name, published.position): self._balances.get((name, published.position))
            or SampleBalance(list(published.route.weights_bp.values()))
            for name, published in routes.items()
        }
        for name, variant in _variants(before) - _variants(routes):
            self._metrics.forget_labels(route=name, variant=variant)

    def is_in_force(self, route: str, variant: str) -> bool:
        """Tell whether a variant has series: those of a route that is gone do not come back with its last answers."""
        published = self._routes.get(route)
        return published is not None and variant in published.route.weights_bp

    def breaker(self, route: str, variant: Variant) -> Breaker | None:
        """Return the breaker of a variant; None for a first one."""
        return self._breakers.get((route, variant.name, variant.model_version))

    def balance(self, published: PublishedRoute) -> SampleBalance:
        """Return the balance of a revision in force."""
        return self._balances[published.route.name, published.position]

    def status(self, name: str, now: float, *, is_ready: Callable[[ModelVersion], bool]) -> RouteStatus:
        """Show how a route in force does.

        Args:
            now: Monotonic seconds.
        Raises: KeyError: no such route is in force.
        """
        published = self._routes[name]
        variants = []
        for variant in published.route.variants:
            breaker = self.breaker(name, variant)
            status = breaker.status(now) if breaker is not None else None
            variants.append(VariantStatus(name=variant.name, is_ready=is_ready(variant.model_version), breaker=status))
        balance = self.balance(published).status() if len(variants) > 1 else None
        return RouteStatus(variants=tuple(variants), balance=balance)

    # --- what the metrics read -------------------------------------------------------------------------

    def _read_revisions(self) -> list[tuple[Labels, float]]:
        return [((name,), float(published.revision)) for name, published in self._routes.items()]

    def _read_weights(self) -> list[tuple[Labels, float]]:
        return [
            ((name, variant), float(percent(weight_bp)))
            for name, published in self._routes.items()
            for variant, weight_bp in published.route.weights_bp.items()
        ]

    def _read_breakers(self) -> list[tuple[Labels, float]]:
        return [((route, variant), float(breaker.is_open)) for (route, variant, _), breaker in self._breakers.items()]

    def _read_mismatches(self) -> list[tuple[Labels, float]]:
        return [((name,), float(balance.status().is_mismatch)) for (name, _), balance in self._balances.items()]


def _guarded(routes: Mapping[str, PublishedRoute]) -> list[tuple[str, str, ModelVersion]]:
    """List who has a breaker: every variant but the first, for as long as its model version stays."""
    return [
        (name, variant.name, variant.model_version)
        for name, published in routes.items()
        for variant in published.route.variants[1:]
    ]


def _variants(routes: Mapping[str, PublishedRoute]) -> set[tuple[str, str]]:
    return {(name, variant) for name, published in routes.items() for variant in published.route.weights_bp}
