"""The dashboard Traffic: who gets which share, how variants compare, what shadows say, which revision is served."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from dashboards.boards import ROUTE, Section, compose
from dashboards.panels import RED, YELLOW, YES_IS_BAD, Column, Panel, Query, Words, grid, lines, timeline
from dashboards.queries import quantile, rate, ratio, worst

VARIANT = ("route", "variant")
SHADOW = ("route", "shadow")
CHOSEN = ROUTE + ', by=~"sticky|random"'
"""Assignments that the weights made: none that was pinned, overridden or a fallback."""
RECORDED = 'route=~"$route"'


def traffic() -> dashboard.Dashboard:
    """Make the dashboard."""
    return compose(
        "gateway-traffic",
        "Gateway: Traffic",
        "Do the variants get their shares, is one worse than the other, and what do the shadows say?",
        [
            Section("Split", _split()),
            Section("Variants", _variants()),
            Section("Shadows", _shadows()),
            Section("Revisions", _revisions()),
        ],
    )


def _observed_share() -> str:
    by_variant = rate("gateway_assignments_total", CHOSEN, VARIANT)
    return f"{by_variant} / on (route) group_left () ({rate('gateway_assignments_total', CHOSEN, ['route'])} > 0)"


def _split() -> list[Panel]:
    return [
        lines(
            Words(
                title="Weights and observed shares",
                says=(
                    "Dashed: what the weights promise. Solid: what was assigned, by key or at "
                    "random. Sticky shares follow the callers' keys: few busy keys move them. Apart "
                    "for long, with a mismatch beside: read the runbook."
                ),
                alert="GatewaySampleRatioMismatch",
            ),
            Query(_observed_share(), "{{route}} {{variant}}"),
            Query(worst("gateway_route_weight", ROUTE, VARIANT) + " / 100", "{{route}} {{variant}} weight"),
            unit="percentunit",
            most=1,
            dashed="/ weight$/",
            width=12,
        ),
        timeline(
            Words(
                title="Mismatches and open breakers",
                says=(
                    "Red: the shares are not what the weights promise, or a variant failed so often "
                    "that the first variant takes its share. The highest of all replicas."
                ),
                alert="GatewayBreakerOpen",
            ),
            Query(worst("gateway_sample_ratio_mismatch", ROUTE, ["route"]), "{{route}} sample ratio mismatch"),
            Query(worst("gateway_variant_breaker_open", ROUTE, VARIANT), "{{route}} {{variant}} breaker open"),
            names=YES_IS_BAD,
            width=12,
        ),
        grid(
            Words(
                title="Variants side by side",
                says=(
                    "Of the last 10 minutes. More failures than the others: how far its failed "
                    "share is above theirs. Red: abort first, then look."
                ),
                alert="GatewayVariantFailsMore",
            ),
            Column(title="weight", expression=worst("gateway_route_weight", ROUTE, VARIANT), unit="percent"),
            Column(title="observed", expression=_observed_share(), unit="percentunit"),
            Column(title="runs", expression=rate("gateway_variant_attempts_total", ROUTE, VARIANT), unit="reqps"),
            Column(
                title="more failures than the others",
                expression=f"route_variant:gateway_variant_failures:excess_ratio10m{{{RECORDED}}}",
                unit="percentunit",
                steps=[(0.001, YELLOW), (0.01, RED)],
            ),
            Column(
                title="latency, 95 %",
                expression=f"route_variant:gateway_request_duration_seconds:p95_10m{{{RECORDED}}}",
                unit="s",
            ),
            Column(
                title="the others' 95 %",
                expression=f"route_variant:gateway_other_request_duration_seconds:p95_10m{{{RECORDED}}}",
                unit="s",
            ),
            Column(
                title="breaker open",
                expression=worst("gateway_variant_breaker_open", ROUTE, VARIANT),
                unit="none",
                names=YES_IS_BAD,
            ),
            rows=VARIANT,
            sort="more failures than the others",
            height=7,
        ),
    ]


def _variants() -> list[Panel]:
    failed = rate("gateway_variant_attempts_total", ROUTE + ', code=~"5.."', VARIANT)
    return [
        lines(
            Words(
                title="Runs by variant",
                says=(
                    "What each variant was asked by its share. While its breaker is open most of that "
                    "counts as 503, and the first variant answers."
                ),
                alert="GatewayBreakerOpen",
            ),
            Query(rate("gateway_variant_attempts_total", ROUTE, VARIANT), "{{route}} {{variant}}"),
            unit="reqps",
        ),
        lines(
            Words(
                title="Failed runs by variant",
                says=(
                    "Share of a variant's own runs that failed, whether or not the caller saw it. Compare, then abort."
                ),
                alert="GatewayVariantFailsMore",
            ),
            Query(ratio(failed, rate("gateway_variant_attempts_total", ROUTE, VARIANT)), "{{route}} {{variant}}"),
            unit="percentunit",
            steps=[(0.01, RED)],
        ),
        lines(
            Words(
                title="Latency by variant",
                says=(
                    "What callers of each variant wait: half of them less (50 %), and one in twenty "
                    "more (95 %). A slower candidate costs more replicas at full weight."
                ),
                alert="GatewayVariantSlower",
            ),
            *(
                Query(
                    quantile(share, "gateway_request_duration_seconds", ROUTE, VARIANT),
                    f"{{{{route}}}} {{{{variant}}}} {share:.0%}",
                )
                for share in (0.5, 0.95)
            ),
            unit="s",
        ),
        lines(
            Words(
                title="Answers by variant and code",
                says="What callers got. Variant pinned asked for a version by number; no variant: an unknown name.",
                alert="GatewayAvailabilityBurnFast",
            ),
            Query(rate("gateway_requests_total", ROUTE, ["variant", "code"]), "{{variant}} {{code}}"),
            unit="reqps",
            width=12,
        ),
        lines(
            Words(
                title="How variants were assigned",
                says=(
                    "sticky: by key; random: without one; override: a header asked for it; "
                    "fallback: the candidate failed or its breaker is open, and the first variant answered. "
                    "Fallbacks are failures that nobody saw."
                ),
                alert="GatewayBreakerOpen",
            ),
            Query(rate("gateway_assignments_total", ROUTE, ["route", "by"]), "{{route}} {{by}}"),
            unit="reqps",
            width=12,
        ),
    ]


def _shadows() -> list[Panel]:
    whole = rate("gateway_shadow_requests_total", ROUTE, SHADOW)
    return [
        lines(
            Words(
                title="Agreement",
                says=(
                    "Share of a shadow's answers that equal the caller's within the route's "
                    "tolerance. Below 99 %: the worst request ids are in "
                    "/admin/v1/routes/<route>/shadows."
                ),
                alert="GatewayShadowDisagrees",
            ),
            Query(
                ratio(rate("gateway_shadow_requests_total", ROUTE + ', result="match"', SHADOW), whole),
                "{{route}} {{shadow}}",
            ),
            unit="percentunit",
            most=1,
        ),
        lines(
            Words(
                title="Results",
                says="Comparisons by result. error: the shadow's own run failed; callers saw nothing of it.",
                alert="GatewayShadowDisagrees",
            ),
            Query(rate("gateway_shadow_requests_total", ROUTE, [*SHADOW, "result"]), "{{route}} {{shadow}} {{result}}"),
            unit="reqps",
            stack="normal",
        ),
        lines(
            Words(
                title="Dropped",
                says=(
                    "Requests that a shadow did not see. queue_full, too_old: it runs in spare time, and there was "
                    "little. not_ready, incompatible: it cannot take them. Many: the agreement rests on a quiet part "
                    "of the traffic; give it room before you trust it."
                ),
                alert="GatewayShadowDisagrees",
            ),
            Query(rate("gateway_shadow_dropped_total", ROUTE, [*SHADOW, "reason"]), "{{route}} {{shadow}} {{reason}}"),
            unit="reqps",
        ),
        lines(
            Words(
                title="Difference",
                says=(
                    "Largest absolute difference of an answer, in the output's own unit: the median "
                    "and one in a hundred."
                ),
                alert="GatewayShadowDisagrees",
            ),
            *(
                Query(
                    quantile(share, "gateway_shadow_difference", ROUTE, SHADOW),
                    f"{{{{route}}}} {{{{shadow}}}} {share:.0%}",
                )
                for share in (0.5, 0.99)
            ),
            unit="none",
            log=True,
            width=12,
        ),
        lines(
            Words(
                title="Other decisions",
                says=(
                    "Requests to which the shadow gives another answer: a value beyond the tolerance, or "
                    "another class. This is what callers would notice."
                ),
                alert="GatewayShadowDisagrees",
            ),
            Query(rate("gateway_shadow_disagreement_total", ROUTE, SHADOW), "{{route}} {{shadow}}"),
            unit="reqps",
            width=12,
        ),
    ]


def _revisions() -> list[Panel]:
    return [
        lines(
            Words(
                title="Revision by replica",
                says="All replicas of a route stand on one line; apart for more than 3 s, a change did not arrive.",
                alert="GatewayReplicasDisagree",
            ),
            Query(f"gateway_route_revision{{{ROUTE}}}", "{{route}} {{instance}}"),
            unit="none",
            width=12,
        ),
        timeline(
            Words(
                title="Disagreement and regression",
                says=(
                    "Red: replicas serve different revisions, one does not serve the newest it was told of, or the "
                    "store came back with a document that replicas do not obey until somebody adopts one."
                ),
                alert="GatewayRouteStoreRegressed",
            ),
            Query(
                f"{worst('gateway_route_revision', ROUTE, ['route'])} "
                f"> bool min by (route) (gateway_route_revision{{{ROUTE}}})",
                "{{route}} replicas disagree",
            ),
            Query(f"1 - min by (route) (gateway_route_applied{{{ROUTE}}})", "{{route}} not applied"),
            Query(worst("gateway_route_store_regressed", ROUTE, ["route"]), "{{route}} store regressed"),
            names=YES_IS_BAD,
            width=12,
        ),
    ]
