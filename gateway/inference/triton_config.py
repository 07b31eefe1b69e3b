"""config.pbtxt: what a model's settings for Triton mean here.

Reads no file and opens no model. What it cannot honour it names; nothing is passed over in silence.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.errors import InvalidSetting
from gateway.inference.model_config import Batching, Execution, Latest, ModelConfig
from gateway.inference.triton_execution import IgnoredSetting, execution_of
from gateway.inference.triton_fields import ModelFields, Plain, Tensor, Warmup, read_fields

MODEL_FILE = "model.onnx"

_LEAST_QUEUE_ROWS = Batching().max_queue_rows
_ONNX = {"platform": ("", "onnxruntime_onnx"), "backend": ("", "onnxruntime")}
_REPEATED = ("default_model_filename", "instance_group", "model_warmup", "optimization", "parameters")
_REASONS = {
    "allow_ragged_batch": "only requests whose tensors have one shape share a run",
    "batch_input": "the model gets exactly the inputs of the request",
    "batch_output": "outputs are cut apart by rows only",
    "cc_model_filenames": "every device runs the same file",
    "input_data_file": "zeros are used instead",
    "label_filename": "labels stand in manifest.toml",
    "model_operations": "libraries with custom operators are not loaded",
    "optional": "the request must have every input",
    "preserve_ordering": "an answer goes out when it is ready",
    "response_cache": "answers are not cached",
    "sequence_batching": "requests have no state: callers send every input themselves",
}


class DeclaredTensor(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output as the configuration shows it to callers.

    Attributes:
        datatype: "" where it is not said.
        dims: Without the rows if the model batches; None where they are not said.
        reshape: What the model itself takes or gives instead of `dims`.
    """

    name: str
    datatype: str
    format: str
    dims: tuple[int, ...] | None
    reshape: tuple[int, ...] | None


class WarmupTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a sample: made-up values of this shape, else zeros."""

    dims: tuple[int, ...]
    is_random: bool


class WarmupSample(msgspec.Struct, frozen=True, kw_only=True):
    """A request that every instance runs before the version is READY."""

    name: str
    rows: int
    repeats: int
    inputs: dict[str, WarmupTensor]


class TritonModelConfig(ModelConfig, frozen=True, kw_only=True):
    """One model's settings, begun by its config.pbtxt; model.toml may have replaced some.

    Attributes:
        batches: Whether the tensors have rows before their dims; None where nothing was said of it.
        declared_inputs, declared_outputs: None at all where the file is to speak for itself.
        model_file: In the version's directory.
        ignored: Fields without effect.
        written: The execution that config.pbtxt asks for by itself.
        repeated: Fields that /config shows as they were written.
    """

    batches: bool | None = None
    declared_inputs: tuple[DeclaredTensor, ...] = ()
    declared_outputs: tuple[DeclaredTensor, ...] = ()
    warmup: tuple[WarmupSample, ...] = ()
    model_file: str = MODEL_FILE
    ignored: tuple[IgnoredSetting, ...] = ()
    written: Execution = Execution()
    repeated: Plain = msgspec.field(default_factory=dict)


def parse_triton_config(text: bytes, *, model: str, where: str) -> TritonModelConfig:
    """Read config.pbtxt.

    Args:
        model: The directory's name, which the file must agree with.
    Raises: InvalidSetting: not a model configuration, not of an ONNX model, or impossible; names line or field.
    """
    from gateway.inference.triton_schema import parse_text

    plain = parse_text(text, where=where)
    fields, known, unread = read_fields(plain, where=where)
    _check_kind(fields, is_ensemble="ensemble_scheduling" in plain, model=model, where=where)
    ignored = [IgnoredSetting(field, _reason(field)) for field in unread]
    batches = _batches(fields)
    execution = execution_of(fields, ignored, where=where)
    return TritonModelConfig(
        versions=_versions(fields),
        batching=_batching(fields, ignored, batches=batches, where=where),
        execution=execution,
        batches=batches,
        declared_inputs=tuple(map(_declared, fields.input)),
        declared_outputs=tuple(map(_declared, fields.output)),
        warmup=tuple(_sample(index, sample, fields, where) for index, sample in enumerate(fields.model_warmup)),
        model_file=_model_file(fields, where),
        ignored=tuple(ignored),
        written=execution,
        repeated=_repeated(known, ignored),
    )


def _repeated(known: Plain, ignored: list[IgnoredSetting]) -> Plain:
    without_effect = {setting.field for setting in ignored}
    kept = {name: known[name] for name in _REPEATED if name in known}
    parameters = kept.get("parameters")
    if isinstance(parameters, dict):
        kept["parameters"] = {
            name: value for name, value in parameters.items() if f"parameters[{name}]" not in without_effect
        }
    return kept


def _reason(field: str) -> str:
    return _REASONS.get(field.rpartition(".")[2], "not supported")


def _check_kind(fields: ModelFields, *, is_ensemble: bool, model: str, where: str) -> None:
    if fields.name not in ("", model):
        raise InvalidSetting(f"{where}: field 'name' is '{fields.name}', expected the directory's name '{model}'")
    if is_ensemble or fields.platform == "ensemble":
        raise InvalidSetting(f"{where}: field 'ensemble_scheduling': ensembles are not supported")
    for field, given in (("platform", fields.platform), ("backend", fields.backend)):
        if given not in _ONNX[field]:
            raise InvalidSetting(
                f"{where}: field '{field}' is '{given}', expected '{_ONNX[field][-1]}': only ONNX models are served"
            )
    for role, tensors in (("input", fields.input), ("output", fields.output)):
        names = [tensor.name for tensor in tensors]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidSetting(f"{where}: field '{role}': '{twice}' stands twice")


def _model_file(fields: ModelFields, where: str) -> str:
    name = fields.default_model_filename or MODEL_FILE
    if "/" in name or name.startswith("."):
        raise InvalidSetting(
            f"{where}: field 'default_model_filename' is '{name}', expected a name without directories"
        )
    return name


def _versions(fields: ModelFields) -> Literal["all"] | Latest | tuple[int, ...]:
    """Return the policy; without one Triton loads the highest version alone. Routed versions always load."""
    policy = fields.version_policy
    if policy is not None and policy.all is not None:
        return "all"
    if policy is not None and policy.specific is not None:
        return policy.specific.versions
    latest = policy.latest.num_versions if policy is not None and policy.latest is not None else 1
    return Latest(latest=latest or 1)


def _batches(fields: ModelFields) -> bool | None:
    """Tell whether tensors have rows; not said at all, the file and the self-test decide."""
    if fields.max_batch_size is not None:
        return fields.max_batch_size > 0
    return False if any(tensor.dims or tensor.reshape for tensor in (*fields.input, *fields.output)) else None


def _batching(fields: ModelFields, ignored: list[IgnoredSetting], *, batches: bool | None, where: str) -> Batching:
    dynamic = fields.dynamic_batching
    max_rows = fields.max_batch_size or (Batching().max_rows if batches is None else 1)
    if dynamic is None or batches is False:
        if dynamic is not None:
            ignored.append(IgnoredSetting("dynamic_batching", "max_batch_size is 0: no requests share a run"))
        return Batching(enabled=batches, max_rows=max_rows, max_queue_rows=max(_LEAST_QUEUE_ROWS, max_rows))
    largest = max(dynamic.preferred_batch_size, default=0)
    if largest > max_rows:
        raise InvalidSetting(
            f"{where}: field 'dynamic_batching.preferred_batch_size': {largest} is more than {max_rows}, "
            "which is the max_batch_size"
        )
    policy = dynamic.default_queue_policy
    timeout_us = policy.default_timeout_microseconds
    if policy.timeout_action == "DELAY":
        field = "dynamic_batching.default_queue_policy.timeout_action"
        ignored.append(IgnoredSetting(field, "DELAY: a late request keeps its place in the queue"))
        timeout_us = 0
    return Batching(
        enabled=batches,
        max_rows=max_rows,
        preferred_rows=tuple(sorted(set(dynamic.preferred_batch_size))),
        max_queue_delay_ms=dynamic.max_queue_delay_microseconds / 1000,
        max_queue_rows=max(_LEAST_QUEUE_ROWS, max_rows, policy.max_queue_size * max_rows),
        max_queue_requests=policy.max_queue_size,
        queue_timeout_ms=timeout_us / 1000,
    )


def _declared(tensor: Tensor) -> DeclaredTensor:
    return DeclaredTensor(
        name=tensor.name,
        datatype=_datatype(tensor.data_type),
        format=tensor.format,
        dims=tensor.dims if tensor.dims or tensor.reshape else None,
        reshape=tensor.reshape.shape if tensor.reshape else None,
    )


def _sample(index: int, sample: Warmup, fields: ModelFields, where: str) -> WarmupSample:
    field = f"model_warmup[{index}]"
    if not sample.batch_size:
        raise InvalidSetting(f"{where}: field '{field}.batch_size' is 0, expected at least 1")
    known = {tensor.name: tensor for tensor in fields.input}
    for name, tensor in sample.inputs.items():
        if known and name not in known:
            raise InvalidSetting(f"{where}: field '{field}.inputs': the model has no input '{name}'")
        if known and tensor.data_type not in ("TYPE_INVALID", known[name].data_type):
            raise InvalidSetting(
                f"{where}: field '{field}.inputs[{name}].data_type' is {tensor.data_type}, "
                f"the input is {known[name].data_type}"
            )
    return WarmupSample(
        name=sample.name or str(index),
        rows=sample.batch_size,
        repeats=sample.count or 1,
        inputs={
            name: WarmupTensor(dims=tensor.dims, is_random=tensor.random_data is not None)
            for name, tensor in sample.inputs.items()
        },
    )


def _datatype(name: str) -> str:
    kind = name.removeprefix("TYPE_")
    return {"INVALID": "", "STRING": "BYTES"}.get(kind, kind)
