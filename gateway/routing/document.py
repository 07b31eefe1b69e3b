"""Reading a route document from outside: every fault is found, each with its JSON pointer.

Never asks whether a model version exists or fits; that is the control plane's to say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from gateway.errors import InvalidRoute, InvalidSetting, unknown_name
from gateway.routing.route import (
    DEFAULT_ROUTING_KEY_HEADER,
    DEFAULT_TOLERANCE,
    WHOLE_BP,
    Route,
    Shadow,
    Variant,
    percent,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_MEMBERS = 100
"""Variants, and shadows, of one route."""
MAX_REASON_CHARACTERS = 1000
MAX_VERSION = 2**31 - 1

_RESERVED = "stats"  # /v2/models/stats is an endpoint of its own
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # a token of RFC 9110
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_ROUTE_KEYS = ("name", "variants", "shadows", "routing_key_header", "reason")
_ANSWER_KEYS = ("revision", "status")  # added to a document when it is answered; what was read may be sent back
_VARIANT_KEYS = ("name", "model", "version", "weight")
_SHADOW_KEYS = ("name", "model", "version", "sample", "tolerance")

_MISSING = object()


def parse_route(document: object, *, name: str) -> Route:
    """Read a route document.

    Args:
        document: JSON as Python has it, numbers as int and float.
        name: The route's name as the address gives it; the document may leave it out, never contradict it.
    Returns: The route; `revision` and `status` of an answer are passed over.
    Raises:
        InvalidRoute: with every fault found.
    """
    reader = _Reader(name)
    route = reader.route(document)
    if route is None or reader.faults:
        raise InvalidRoute(name, tuple(reader.faults))
    return route


def configured_routes(tables: Mapping[str, object], *, where: str = "settings") -> dict[str, Route]:
    """Read the `[routes.<name>]` tables of the settings.

    Args:
        where: The file's name, for errors.
    Raises:
        InvalidSetting: with every fault of the first bad table, each with its key.
    """
    routes = {}
    for name, table in tables.items():
        try:
            routes[name] = parse_route(table, name=name)
        except InvalidRoute as exc:
            faults = "; ".join(
                f"key 'routes.{name}{pointer.replace('/', '.')}': {text}" for pointer, text in exc.errors
            )
            raise InvalidSetting(f"{where}: {faults}") from exc
    return routes


def basis_points(value: object) -> int | str:
    """Read a percentage of at most two decimals, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return f"expected a number from 0 to 100, got {_shown(value)}"
    exact = Decimal(repr(value)) * 100
    if exact != exact.to_integral_value():
        return f"expected at most two decimals, got {_shown(value)}"
    return int(exact)


def pointer_to(*steps: str | int) -> str:
    """Write a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


class _Reader:
    """Reads one document and collects its faults; a part that cannot be read is None or empty."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults: list[tuple[str, str]] = []

    def route(self, document: object) -> Route | None:
        table = self.table(document, "", "route", (*_ROUTE_KEYS, *_ANSWER_KEYS))
        if table is None:
            return None
        self.route_name(table)
        variants = [self.variant(*item) for item in self.items(table, "variants", at_least=1)]
        shadows = [self.shadow(*item) for item in self.items(table, "shadows", at_least=0)]
        header = self.header(table)
        reason = self.reason(table)
        self.unique_names(table)
        if self.faults:
            return None
        weighed = tuple(variant for variant in variants if variant is not None)
        total_bp = sum(variant.weight_bp for variant in weighed)
        if total_bp != WHOLE_BP:
            self.fault("/variants", f"the weights sum to {percent(total_bp)}, expected 100")
            return None
        return Route(
            name=self.name,
            variants=weighed,
            shadows=tuple(shadow for shadow in shadows if shadow is not None),
            routing_key_header=header,
            reason=reason,
        )

    def variant(self, value: object, pointer: str) -> Variant | None:
        table = self.table(value, pointer, "variant", _VARIANT_KEYS)
        if table is None:
            return None
        name, model = self.identifier(table, pointer, "name"), self.identifier(table, pointer, "model")
        version, weight_bp = self.version(table, pointer), self.share_bp(table, pointer, "weight")
        if name is None or model is None or version is None or weight_bp is None:
            return None
        return Variant(name=name, model=model, version=version, weight_bp=weight_bp)

    def shadow(self, value: object, pointer: str) -> Shadow | None:
        table = self.table(value, pointer, "shadow", _SHADOW_KEYS)
        if table is None:
            return None
        name, model = self.identifier(table, pointer, "name"), self.identifier(table, pointer, "model")
        version, tolerance = self.version(table, pointer), self.tolerance(table, pointer)
        sample_bp = self.share_bp(table, pointer, "sample") if "sample" in table else WHOLE_BP
        if name is None or model is None or version is None or sample_bp is None or tolerance is None:
            return None
        return Shadow(name=name, model=model, version=version, sample_bp=sample_bp, tolerance=tolerance)

    def fault(self, pointer: str, detail: str) -> None:
        self.faults.append((pointer, detail))

    def table(self, value: object, pointer: str, what: str, known: tuple[str, ...]) -> dict[str, object] | None:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            self.fault(pointer, f"expected an object, got {_shown(value)}")
            return None
        for key in value:
            if key not in known:
                self.fault(pointer + pointer_to(key), unknown_name(what, _cut(key), known))
        return dict(value)

    def items(self, table: Mapping[str, object], key: str, *, at_least: int) -> Iterator[tuple[object, str]]:
        """Yield the members of a list with their pointers; nothing, and a fault, where there is no good list."""
        value = table.get(key, () if at_least == 0 else _MISSING)
        pointer = pointer_to(key)
        if value is _MISSING:
            self.fault(pointer, f"is missing, expected a list of {key}")
        elif not isinstance(value, list | tuple):
            self.fault(pointer, f"expected a list, got {_shown(value)}")
        elif not at_least <= len(value) <= MAX_MEMBERS:
            self.fault(pointer, f"expected {at_least} to {MAX_MEMBERS} {key}, got {len(value)}")
        else:
            yield from ((item, pointer_to(key, index)) for index, item in enumerate(value))

    def required(self, table: Mapping[str, object], pointer: str, key: str) -> object:
        value = table.get(key, _MISSING)
        if value is _MISSING:
            self.fault(pointer + pointer_to(key), "is missing")
        return value

    def identifier(self, table: Mapping[str, object], pointer: str, key: str) -> str | None:
        value = self.required(table, pointer, key)
        if value is _MISSING:
            return None
        if not isinstance(value, str) or NAME.fullmatch(value) is None:
            self.fault(pointer + pointer_to(key), f"expected a name like {NAME.pattern}, got {_shown(value)}")
            return None
        return value

    def version(self, table: Mapping[str, object], pointer: str) -> int | None:
        value = self.required(table, pointer, "version")
        if value is _MISSING:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_VERSION:
            self.fault(f"{pointer}/version", f"expected a positive integer, got {_shown(value)}")
            return None
        return value

    def share_bp(self, table: Mapping[str, object], pointer: str, key: str) -> int | None:
        value = self.required(table, pointer, key)
        if value is _MISSING:
            return None
        share = basis_points(value)
        if isinstance(share, str):
            self.fault(pointer + pointer_to(key), share)
            return None
        return share

    def tolerance(self, table: Mapping[str, object], pointer: str) -> float | None:
        value = table.get("tolerance", DEFAULT_TOLERANCE)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            self.fault(f"{pointer}/tolerance", f"expected a number of at least 0, got {_shown(value)}")
            return None
        return float(value)

    def route_name(self, table: Mapping[str, object]) -> None:
        if NAME.fullmatch(self.name) is None or self.name == _RESERVED:
            self.fault("/name", f"expected a name like {NAME.pattern} and not '{_RESERVED}', got {_shown(self.name)}")
        elif (value := table.get("name", self.name)) != self.name:
            self.fault("/name", f"expected '{self.name}' as in the address, got {_shown(value)}")

    def unique_names(self, table: Mapping[str, object]) -> None:
        seen: dict[str, str] = {}
        for key in ("variants", "shadows"):
            members = table.get(key)
            if not isinstance(members, list | tuple) or len(members) > MAX_MEMBERS:
                continue
            for index, member in enumerate(members):
                name = member.get("name") if isinstance(member, Mapping) else None
                if not isinstance(name, str):
                    continue
                pointer = pointer_to(key, index)
                first = seen.setdefault(name, pointer)
                if first != pointer:
                    self.fault(f"{pointer}/name", f"'{_cut(name)}' is the name of {first} already")

    def header(self, table: Mapping[str, object]) -> str:
        value = table.get("routing_key_header", DEFAULT_ROUTING_KEY_HEADER)
        if not isinstance(value, str) or _HEADER.fullmatch(value) is None:
            self.fault("/routing_key_header", f"expected the name of a header, got {_shown(value)}")
            return DEFAULT_ROUTING_KEY_HEADER
        return value.lower()

    def reason(self, table: Mapping[str, object]) -> str:
        value = table.get("reason", "")
        if isinstance(fault := reason_fault(value), str):
            self.fault("/reason", fault)
        return value if isinstance(value, str) else ""


def reason_fault(value: object) -> str | None:
    """Say what is wrong with a reason, None when it may be kept and shown."""
    if not isinstance(value, str):
        return f"expected a text, got {_shown(value)}"
    if len(value) > MAX_REASON_CHARACTERS:
        return f"expected at most {MAX_REASON_CHARACTERS} characters, got {len(value)}"
    if _CONTROL.search(value) is not None:
        return "expected one line without control characters"
    return None


def _shown(value: object) -> str:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "an integer of more than 64 bits"  # Python refuses to write the longest ones
    return _cut(repr(value)) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
