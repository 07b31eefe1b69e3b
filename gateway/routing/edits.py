"""Changes to a route: what a shift, an abort and a difference mean.

Pure; never decides whether the change may be made, never deals slots (`splitter.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.errors import InvalidRoute, unknown_name
from gateway.routing.document import basis_points, pointer_to, reason_fault
from gateway.routing.route import WHOLE_BP, Route, percent, to_document


def apply_shift(route: Route, weights: Mapping[str, object], *, reason: str = "") -> Route:
    """Move weights: the named variants get these, the first variant takes the rest.

    Args:
        weights: Percent by variant, at most two decimals. Variants that are not named keep theirs.
        reason: Replaces the route's.
    Raises:
        InvalidRoute: with every fault, its pointer into `{"weights": …, "reason": …}`.
    """
    faults: list[tuple[str, str]] = []
    shares_bp = route.weights_bp
    for name, weight in weights.items():
        share = basis_points(weight)
        if name not in shares_bp:
            faults.append((pointer_to("weights", name), unknown_name("weights", name, shares_bp)))
        elif isinstance(share, str):
            faults.append((pointer_to("weights", name), share))
        else:
            shares_bp[name] = share
    if not weights:
        faults.append(("/weights", f"expected at least one of {', '.join(shares_bp)}"))
    if (fault := reason_fault(reason)) is not None:
        faults.append(("/reason", fault))
    if not faults:
        faults.extend(_settle_first(route.variants[0].name, shares_bp, is_named=route.variants[0].name in weights))
    if faults:
        raise InvalidRoute(route.name, tuple(faults))
    variants = tuple(msgspec.structs.replace(variant, weight_bp=shares_bp[variant.name]) for variant in route.variants)
    return msgspec.structs.replace(route, variants=variants, reason=reason)


def _settle_first(first: str, shares_bp: dict[str, int], *, is_named: bool) -> list[tuple[str, str]]:
    total_bp = sum(shares_bp.values())
    if is_named:
        if total_bp == WHOLE_BP:
            return []
        return [("/weights", f"'{first}' is named too, so all weights must sum to 100, not {percent(total_bp)}")]
    rest_bp = WHOLE_BP - (total_bp - shares_bp[first])
    if rest_bp < 0:
        taken = percent(WHOLE_BP - rest_bp)
        return [("/weights", f"the other variants take {taken} together, nothing is left for '{first}'")]
    shares_bp[first] = rest_bp
    return []


def apply_abort(route: Route, *, shadows: bool = False, reason: str = "") -> Route:
    """Give everything to the first variant; the others stay in the document with weight 0.

    Args:
        shadows: Remove the shadows too.
    """
    first, *others = route.variants
    return msgspec.structs.replace(
        route,
        variants=(
            msgspec.structs.replace(first, weight_bp=WHOLE_BP),
            *(msgspec.structs.replace(variant, weight_bp=0) for variant in others),
        ),
        shadows=() if shadows else route.shadows,
        reason=reason,
    )


def changes(old: Route | None, new: Route | None) -> list[dict[str, object]]:
    """List what differs between two documents, as `{"pointer", "from", "to"}`; the reason is no difference.

    A route that comes or goes is one change of the whole document.
    """
    found: list[dict[str, object]] = []
    _compare(_comparable(old), _comparable(new), "", found)
    return found


def _comparable(route: Route | None) -> dict[str, object] | None:
    if route is None:
        return None
    document = to_document(route)
    del document["reason"]
    return document


def _compare(old: object, new: object, pointer: str, found: list[dict[str, object]]) -> None:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old:  # both have the keys of one kind of object
            _compare(old[key], new[key], pointer + pointer_to(key), found)
    elif isinstance(old, Sequence) and isinstance(new, Sequence) and not isinstance(old, str):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            _compare(before, after, f"{pointer}/{index}", found)
    elif old != new:
        found.append({"pointer": pointer, "from": old, "to": new})
