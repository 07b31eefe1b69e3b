"""How a version gets its yardstick: reference.json read, held against the signature, and read again when it changes.

Never keeps a version from serving: what is wrong with its reference stands in its report.
"""

from __future__ import annotations

import logging
import math

import msgspec

from gateway.errors import GatewayError, InvalidReference, unknown_name
from gateway.inference.repository import VersionFolder, read_file
from gateway.inference.signature import Signature
from gateway.messages import ModelVersion, TensorSpec
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.reference import CategoricalFeature, Feature, Reference
from gateway.monitoring.report import NO_REFERENCE
from gateway.monitoring.yardstick import Yardstick
from gateway.settings import MonitoringOptions

log = logging.getLogger(__name__)

REFERENCE_FILE = "reference.json"


class Preparation(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A version's yardstick, or why it has none.

    Attributes:
        origin: What it was made from; a version with another one needs another preparation.
    """

    yardstick: Yardstick | None
    reason: str
    origin: object


class Yardsticks:
    """Gives the monitor the yardstick of every READY version; belongs to the event loop's thread."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._origins: dict[ModelVersion, object] = {}

    def is_current(self, version: VersionFolder, options: MonitoringOptions) -> bool:
        """Tell whether the version is watched as its files and settings now say."""
        return self._origins.get(version.key) == _origin(version, options)

    def watch(self, key: ModelVersion, preparation: Preparation) -> None:
        """Watch a version from now on; its rows count from the first."""
        self._origins[key] = preparation.origin
        if preparation.yardstick is None and preparation.reason != NO_REFERENCE:
            facts = {"model": key.model, "version": key.version, "reason": preparation.reason}
            log.warning("reference_refused", extra=facts)
        self._monitor.watch(key, preparation.yardstick, reason=preparation.reason)

    def forget(self, key: ModelVersion) -> None:
        """Watch a version no longer."""
        self._origins.pop(key, None)
        self._monitor.forget(key)


def prepare_yardstick(version: VersionFolder, signature: Signature, options: MonitoringOptions) -> Preparation:
    """Make a version's yardstick; takes milliseconds, so it belongs in a loader thread."""
    origin = _origin(version, options)
    if not version.has(REFERENCE_FILE):
        return Preparation(yardstick=None, reason=NO_REFERENCE, origin=origin)
    try:
        yardstick = load_yardstick(version, signature, options)
    except GatewayError as exc:
        reason = str(exc).removeprefix(f"{version.path}/")
        return Preparation(yardstick=None, reason=f"invalid reference: {reason}", origin=origin)
    except Exception:
        # A version must not fail for what only its monitoring needs.
        log.exception("reference_crashed", extra={"model": version.key.model, "version": version.key.version})
        return Preparation(yardstick=None, reason="invalid reference: the log says more", origin=origin)
    return Preparation(yardstick=yardstick, reason="", origin=origin)


def load_yardstick(version: VersionFolder, signature: Signature, options: MonitoringOptions) -> Yardstick:
    """Read a version's reference.json, and hold it against the model and the selection of features.

    Raises:
        InvalidModel: it is no plain file.
        InvalidReference: it is none, was changed since it was made, or does not fit.
    """
    yardstick = Yardstick(read_file(version.path, REFERENCE_FILE), options)
    check_reference(yardstick.reference, signature)
    return yardstick


def check_reference(reference: Reference, signature: Signature) -> None:
    """Hold a reference against the model that it is to be a reference of.

    Raises: InvalidReference: it watches a tensor that the model has not, or has otherwise.
    """
    for feature in reference.features:
        tensor = feature.tensor
        specs, role = (
            (signature.input_by_name, "input") if feature.role == "input" else (signature.output_by_name, "output")
        )
        spec = specs.get(tensor)
        if spec is None:
            raise InvalidReference(unknown_name(f"reference: feature '{feature.name}': {role}", tensor, specs))
        if row_values(spec) not in (None, reference.columns[tensor]):
            raise InvalidReference(
                f"reference: {role} '{tensor}' has {reference.columns[tensor]} values a row, the model's has "
                f"{row_values(spec)}"
            )
        if _is_text(feature) is not (spec.datatype == "BYTES"):
            raise InvalidReference(
                f"reference: feature '{feature.name}' does not fit {role} '{tensor}', {spec.datatype}"
            )


def row_values(spec: TensorSpec) -> int | None:
    """Count the values in a row of a tensor; None when the model leaves it open."""
    rest = spec.shape[1:]
    return math.prod(rest) if all(size >= 0 for size in rest) else None


def _is_text(feature: Feature) -> bool:
    # A column without any value can only have held strings: integers and booleans know no null.
    return isinstance(feature, CategoricalFeature) and (not feature.values or isinstance(feature.values[0], str))


def _origin(version: VersionFolder, options: MonitoringOptions) -> object:
    stamp = next((entry for entry in version.stamp if entry[0] == REFERENCE_FILE), None)
    return stamp, options
