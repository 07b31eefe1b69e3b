"""model.toml: what an operator decided about one model.

Says nothing about single versions; those are immutable.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.errors import InvalidSetting
from gateway.settings import MonitoringOptions
from gateway.toml_files import StructT, Table, convert_table, parse_toml

Count = Annotated[int, Meta(ge=1)]
Option = str | int | float | bool


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The `latest` highest versions."""

    latest: Count


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    """How requests share runs.

    Attributes:
        max_rows: Of one run.
        preferred_rows: A run of one of these sizes does not wait for more company.
        max_queue_delay_ms: How long a run may wait for company; 0 never waits.
        max_queue_rows: Waiting rows beyond which requests are refused.
        max_queue_requests: Waiting requests beyond which more are refused; 0 leaves it to the rows.
        queue_timeout_ms: How long a request may wait for its run to begin; 0 leaves it to the request's deadline.
        enabled: None decides by the signature and the self-test; True trusts that the first axis is rows although the
            file does not say so (the self-test still decides); False runs every request alone.
    """

    max_rows: Count = 64
    preferred_rows: tuple[Count, ...] = ()
    max_queue_delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    max_queue_rows: Count = 1024
    max_queue_requests: Annotated[int, Meta(ge=0)] = 0
    queue_timeout_ms: Annotated[float, Meta(ge=0)] = 0.0
    enabled: bool | None = None


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """An execution provider by its short name, with onnxruntime's options for it."""

    name: str
    options: dict[str, Option] = {}


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """How onnxruntime runs the model.

    Attributes:
        providers: In order of preference, by short name ("cpu", "cuda", "tensorrt", "openvino", …).
        instances: Sessions that run at the same time.
        intra_op_threads: Of each session; 0 takes all the processors this process may use.
        session_options: Fields of onnxruntime's SessionOptions, or its configuration entries by their dotted names.
    """

    providers: tuple[str | Provider, ...] = ("cpu",)
    instances: Count = 1
    intra_op_threads: Annotated[int, Meta(ge=0)] = 1
    session_options: dict[str, Option] = {}


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    """Which outputs hold the predicted class, for comparing answers; "" finds them by datatype and shape.

    Attributes:
        score: Its highest column is the class.
        label: The class itself; it goes before the score.
    """

    score: str = ""
    label: str = ""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One model's settings."""

    versions: Literal["all"] | Latest | tuple[Count, ...] = "all"
    batching: Batching = Batching()
    execution: Execution = Execution()
    monitoring: MonitoringOptions = MonitoringOptions()
    outputs: Outputs = Outputs()

    def selects(self, available: Iterable[int]) -> set[int]:
        """Return which of the available versions are to be loaded."""
        versions = sorted(available)
        if isinstance(self.versions, Latest):
            return set(versions[-self.versions.latest :])
        return set(versions) if self.versions == "all" else set(versions) & set(self.versions)


def parse_model_config(text: bytes, *, where: str, base: ModelConfig | None = None) -> ModelConfig:
    """Read model.toml.

    Args:
        base: What holds where the file says nothing; the defaults without.
    Raises: InvalidSetting: not TOML, an unknown key or a wrong value, naming file and key.
    """
    table = parse_toml(text, where=where)
    config = convert_table(table, ModelConfig, where=where)
    if base is not None:
        config = _laid_over(base, config, table)
    if not config.execution.providers:
        raise InvalidSetting(f"{where}: key 'execution.providers': expected at least one execution provider")
    if config.batching.max_rows > config.batching.max_queue_rows:
        raise InvalidSetting(
            f"{where}: key 'batching.max_rows': {config.batching.max_rows} is more than "
            f"batching.max_queue_rows ({config.batching.max_queue_rows})"
        )
    if max(config.batching.preferred_rows, default=0) > config.batching.max_rows:
        raise InvalidSetting(
            f"{where}: key 'batching.preferred_rows': {max(config.batching.preferred_rows)} is more than "
            f"batching.max_rows ({config.batching.max_rows})"
        )
    return config


def _laid_over(base: StructT, given: msgspec.Struct, table: Table) -> StructT:
    """Replace in `base` what the table says, key by key; the other keys of a section stay."""
    changes: dict[str, object] = {}
    for key, value in table.items():
        below, above = getattr(base, key), getattr(given, key)
        is_section = isinstance(value, dict) and isinstance(below, Batching | Execution | MonitoringOptions | Outputs)
        changes[key] = _laid_over(below, above, value) if is_section else above
    return msgspec.structs.replace(base, **changes)
