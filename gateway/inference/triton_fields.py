"""The fields of a Triton model configuration that are understood here, typed, and the names of those that are not.

Gives them no meaning: triton_config does.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from gateway.errors import InvalidSetting

Plain = dict[str, object]
Natural = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Size = Annotated[int, Meta(ge=-1)]


class Reshape(msgspec.Struct, frozen=True):
    """The shape that the model itself takes or gives."""

    shape: tuple[Size, ...] = ()


class Tensor(msgspec.Struct, frozen=True):
    """An input or output; `format` only describes it."""

    name: str
    data_type: str = "TYPE_INVALID"
    format: str = "FORMAT_NONE"
    dims: tuple[Size, ...] = ()
    reshape: Reshape | None = None


class Latest(msgspec.Struct, frozen=True):
    """The highest versions."""

    num_versions: Natural = 1


class Specific(msgspec.Struct, frozen=True):
    """Versions by number."""

    versions: tuple[Count, ...] = ()


class VersionPolicy(msgspec.Struct, frozen=True):
    """Exactly one of these is set."""

    latest: Latest | None = None
    all: Plain | None = None
    specific: Specific | None = None


class QueuePolicy(msgspec.Struct, frozen=True):
    """What waits how long; sizes are requests."""

    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    default_timeout_microseconds: Natural = 0
    allow_timeout_override: bool = False
    max_queue_size: Natural = 0


class DynamicBatching(msgspec.Struct, frozen=True):
    """How requests share runs."""

    preferred_batch_size: tuple[Count, ...] = ()
    max_queue_delay_microseconds: Natural = 0
    default_queue_policy: QueuePolicy = QueuePolicy()


class InstanceGroup(msgspec.Struct, frozen=True):
    """Sessions on one kind of device."""

    name: str = ""
    count: Natural = 1
    kind: Literal["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"] = "KIND_AUTO"
    gpus: tuple[Natural, ...] = ()


class Graph(msgspec.Struct, frozen=True):
    """How far onnxruntime may rewrite the graph."""

    level: int = 0


class Accelerator(msgspec.Struct, frozen=True):
    """An execution provider with its options."""

    name: str
    parameters: dict[str, str] = {}


class Accelerators(msgspec.Struct, frozen=True):
    """Execution providers before the plain ones of the device."""

    gpu_execution_accelerator: tuple[Accelerator, ...] = ()
    cpu_execution_accelerator: tuple[Accelerator, ...] = ()


class Optimization(msgspec.Struct, frozen=True):
    """How the model runs."""

    graph: Graph = Graph()
    execution_accelerators: Accelerators = Accelerators()


class Parameter(msgspec.Struct, frozen=True):
    """A setting of the onnxruntime backend."""

    string_value: str = ""


class WarmupInput(msgspec.Struct, frozen=True):
    """One input of a sample."""

    data_type: str = "TYPE_INVALID"
    dims: tuple[Natural, ...] = ()
    zero_data: bool | None = None
    random_data: bool | None = None


class Warmup(msgspec.Struct, frozen=True):
    """A sample to run before the version is READY; 0 runs it once."""

    name: str = ""
    batch_size: Natural = 1
    inputs: dict[str, WarmupInput] = {}
    count: Natural = 0


class ModelFields(msgspec.Struct, frozen=True):
    """A whole configuration."""

    name: str = ""
    platform: str = ""
    backend: str = ""
    version_policy: VersionPolicy | None = None
    max_batch_size: Natural | None = None
    input: tuple[Tensor, ...] = ()
    output: tuple[Tensor, ...] = ()
    dynamic_batching: DynamicBatching | None = None
    instance_group: tuple[InstanceGroup, ...] = ()
    optimization: Optimization = Optimization()
    parameters: dict[str, Parameter] = {}
    model_warmup: tuple[Warmup, ...] = ()
    default_model_filename: str = ""


def read_fields(plain: Plain, *, where: str) -> tuple[ModelFields, Plain, list[str]]:
    """Type what is understood.

    Returns: The fields, the same as they were written, and the paths of all others that ask for something.
    Raises: InvalidSetting: a value is out of its range.
    """
    unread: list[str] = []
    known = _known(plain, ModelFields, "", unread)
    try:
        return msgspec.convert(known, ModelFields), known, unread
    except msgspec.ValidationError as exc:
        text, _, pointer = str(exc).partition(" - at `$.")
        raise InvalidSetting(f"{where}: field '{pointer.rstrip('`')}': {text}") from exc


def _known(plain: Plain, into: type[msgspec.Struct], path: str, unread: list[str]) -> Plain:
    fields = {field.name: field.type for field in msgspec.structs.fields(into)}
    kept: Plain = {}
    for name, value in plain.items():
        if name not in fields:
            if _asks(value):
                unread.append(f"{path}{name}")
            continue
        kept[name] = _known_value(value, fields[name], f"{path}{name}", unread)
    return kept


def _known_value(value: object, kind: object, path: str, unread: list[str]) -> object:
    struct = _struct_in(kind)
    if struct is None or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [_known(item, struct, f"{path}[{index}].", unread) for index, item in enumerate(value)]
    if dict in _origins(kind):
        return {key: _known(item, struct, f"{path}[{key}].", unread) for key, item in value.items()}
    return _known(value, struct, f"{path}.", unread)


def _asks(value: object) -> bool:
    """Tell whether a field asks for anything: not with a false, 0 or "" that was written out."""
    if isinstance(value, dict):
        return not value or any(map(_asks, value.values()))
    return bool(value)


def _struct_in(kind: object) -> type[msgspec.Struct] | None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for inner in get_args(kind) if (found := _struct_in(inner)) is not None), None)


def _origins(kind: object) -> set[object]:
    return {getattr(kind, "__origin__", None), *(getattr(inner, "__origin__", None) for inner in get_args(kind))}
