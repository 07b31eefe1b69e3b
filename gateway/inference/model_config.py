"""model.toml: what an operator decided about one model.

Says nothing about single versions; those are immutable.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.errors import InvalidSetting
from gateway.toml_files import convert_table, parse_toml

Count = Annotated[int, Meta(ge=1)]
Option = str | int | float | bool


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The `latest` highest versions."""

    latest: Count


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    """How requests share runs.

    Attributes:
        max_rows: Of one run.
        max_queue_delay_ms: How long a run may wait for company; 0 never waits.
        max_queue_rows: Waiting rows beyond which requests are refused.
        enabled: None decides by the signature and the self-test; True trusts that the first axis is rows although the
            file does not say so (the self-test still decides); False runs every request alone.
    """

    max_rows: Count = 64
    max_queue_delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    max_queue_rows: Count = 1024
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


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One model's settings."""

    versions: Literal["all"] | Latest | tuple[Count, ...] = "all"
    batching: Batching = Batching()
    execution: Execution = Execution()

    def selects(self, available: Iterable[int]) -> set[int]:
        """Return which of the available versions are to be loaded."""
        versions = sorted(available)
        if isinstance(self.versions, Latest):
            return set(versions[-self.versions.latest :])
        return set(versions) if self.versions == "all" else set(versions) & set(self.versions)


def parse_model_config(text: bytes, *, where: str) -> ModelConfig:
    """Read model.toml.

    Raises: InvalidSetting: not TOML, an unknown key or a wrong value, naming file and key.
    """
    config = convert_table(parse_toml(text, where=where), ModelConfig, where=where)
    if not config.execution.providers:
        raise InvalidSetting(f"{where}: key 'execution.providers': expected at least one execution provider")
    if config.batching.max_rows > config.batching.max_queue_rows:
        raise InvalidSetting(
            f"{where}: key 'batching.max_rows': {config.batching.max_rows} is more than "
            f"batching.max_queue_rows ({config.batching.max_queue_rows})"
        )
    return config
