"""What a route asks of this replica and does not find: versions that are not READY, signatures that differ.

Pure; never changes a route and never waits for a version.
"""

from __future__ import annotations

from gateway.inference.registry import Registry
from gateway.inference.signature import Signature
from gateway.inference.signature_changes import signature_changes
from gateway.messages import ModelVersion
from gateway.routing.document import pointer_to
from gateway.routing.route import Route

Faults = list[tuple[str, str]]
"""What is wrong, as (JSON pointer into the route's document, words)."""


def is_ready(registry: Registry, key: ModelVersion) -> bool:
    """Tell whether this replica could answer with the version now."""
    record = registry.record(key)
    return record is not None and record.served is not None


def fitness_faults(route: Route, registry: Registry) -> Faults:
    """List everything that keeps this replica from serving the whole route.

    All variants must take and give the same tensors; a shadow must take the same, whatever it gives.
    """
    return [*readiness_faults(route, registry), *signature_faults(route, registry)]


def readiness_faults(route: Route, registry: Registry) -> Faults:
    """List the members of a route whose version is not READY here."""
    members = [
        *((pointer_to("variants", index), variant.model_version) for index, variant in enumerate(route.variants)),
        *((pointer_to("shadows", index), shadow.model_version) for index, shadow in enumerate(route.shadows)),
    ]
    return [
        (f"{pointer}/version", why_not_ready(registry, key)) for pointer, key in members if not is_ready(registry, key)
    ]


def unready_versions(route: Route, registry: Registry) -> frozenset[ModelVersion]:
    """Find the versions without which a route is not served as meant: of shadows, and of variants with weight."""
    members = [variant.model_version for variant in route.variants if variant.weight_bp > 0]
    members += [shadow.model_version for shadow in route.shadows]
    return frozenset(key for key in members if not is_ready(registry, key))


def signature_faults(route: Route, registry: Registry) -> Faults:
    """List the members of a route whose tensors are not those of its first variant, as far as both are READY."""
    first = route.variants[0]
    wanted = _signature(registry, first.model_version)
    if wanted is None:
        return []
    faults = []
    for index, variant in enumerate(route.variants):
        found = _signature(registry, variant.model_version)
        if found is not None and (changes := signature_changes(wanted, found)):
            text = f"{variant.model_version} differs from '{first.name}' ({first.model_version}): {'; '.join(changes)}"
            faults.append((pointer_to("variants", index), text))
    for index, shadow in enumerate(route.shadows):
        found = _signature(registry, shadow.model_version)
        if found is not None and (changes := signature_changes(_inputs(wanted), _inputs(found))):
            text = f"{shadow.model_version} takes other inputs than '{first.name}': {'; '.join(changes)}"
            faults.append((pointer_to("shadows", index), text))
    return faults


def why_not_ready(registry: Registry, key: ModelVersion) -> str:
    """Say why a version that is not READY is not."""
    record = registry.record(key)
    if record is None:
        known = ", ".join(map(str, registry.ready_versions(key.model)))
        hint = f"READY versions: {known}" if known else f"no version of '{key.model}' is READY"
        return f"{key} is not READY: the repository has no such version ({hint})"
    return f"{key} is not READY, it is {record.state}{f': {record.reason}' if record.reason else ''}"


def worded(faults: Faults) -> str:
    """Write faults as one reason."""
    return "; ".join(detail for _, detail in faults)


def _signature(registry: Registry, key: ModelVersion) -> Signature | None:
    record = registry.record(key)
    return None if record is None or record.served is None else record.served.loaded.signature


def _inputs(signature: Signature) -> Signature:
    return Signature.of(signature.inputs, ())
