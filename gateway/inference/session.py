"""One loaded model in onnxruntime: providers, threads, one synchronous run. The only user of onnxruntime.

Never chooses what to run; never falls back to another execution provider than those asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort

from gateway.errors import InferenceFailed, InvalidInput, LoadFailed
from gateway.inference.model_config import Execution, Option, Provider
from gateway.inference.signature import Signature, tensor_spec
from gateway.messages import Array

log = logging.getLogger(__name__)

_SUFFIX = "ExecutionProvider"
_CPU = f"CPU{_SUFFIX}"
_NVIDIA = frozenset(f"{name}{_SUFFIX}" for name in ("CUDA", "Tensorrt", "NvTensorRTRTX"))
_PRESET: Mapping[str, Mapping[str, str]] = {f"CUDA{_SUFFIX}": {"use_tf32": "0"}}
"""Options unless a model says otherwise. TF32 keeps three digits, and others by batch size: rows would seem to depend
on their neighbours, and golden requests would fail."""
_SILENT = 4

Providers = list[tuple[str, dict[str, str]]]
"""By onnxruntime's names, with options."""

_FILE_WORDS = frozenset(
    {
        "dir",
        "directory",
        "file",
        "filepath",
        "folder",
        "lib",
        "libraries",
        "library",
        "path",
        "paths",
        "prefix",
        "profiling",
    }
)
_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
_CGROUP = Path("/sys/fs/cgroup")
_SOURCE = re.compile(r"/onnxruntime_src/\S+:\d+ [^()]*\([^()]*\)(?: const)? (?:\[with [^]]*\] )?")
"""Where in onnxruntime's C++ a message was made."""

_INVALID_ARGUMENT = ort.capi.onnxruntime_pybind11_state.InvalidArgument


class RunStop:
    """Ends one running call from another thread."""

    __slots__ = ("options",)

    def __init__(self) -> None:
        self.options = ort.RunOptions()

    def stop(self) -> None:
        """Make the run fail at its next operator."""
        self.options.terminate = True


class Session(Protocol):
    """What the batcher needs of a loaded model."""

    signature: Signature
    providers: tuple[str, ...]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        """Compute `outputs` (all when empty), in order.

        Raises:
            InvalidInput: the model refuses these values.
            InferenceFailed: anything else went wrong.
        """


class OnnxSession:
    """A session over the very bytes that were hashed."""

    def __init__(self, model: bytes, execution: Execution, *, name: str, external_folder: Path | None = None) -> None:
        """Open the model.

        Args:
            name: Of the model version, for errors: `fraud:3`.
            external_folder: Where external tensor data lies, already checked.
        Raises: LoadFailed: an execution provider is missing, or onnxruntime refuses the file.
        """
        ort.set_default_logger_severity(_SILENT)
        self._name = name
        providers = resolve_providers(execution)
        takes_cpu = any(provider == _CPU for provider, _ in providers)
        options = _session_options(execution, takes_cpu=takes_cpu, name=name)
        if external_folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(external_folder)
            )
        missing = _preload() if any(provider in _NVIDIA for provider, _ in providers) else ""
        try:
            self._session = ort.InferenceSession(model, sess_options=options, providers=providers, enable_fallback=0)
        except Exception as exc:
            reason = "" if takes_cpu else _why_not_alone(model, options, providers, missing)
            raise LoadFailed(reason or f"onnxruntime refuses the model: {_text(exc)}") from exc
        if reason := _not_started(self._session, providers, missing):
            raise LoadFailed(reason)
        self.providers = tuple(_short(provider) for provider, _ in providers)
        self.signature = Signature.of(
            [tensor_spec(node.name, node.type, node.shape, role="input") for node in self._session.get_inputs()],
            [tensor_spec(node.name, node.type, node.shape, role="output") for node in self._session.get_outputs()],
        )
        tensors = [*self.signature.inputs, *self.signature.outputs]
        self._all_outputs = list(self.signature.output_by_name)
        self._has_bfloat16 = any(spec.datatype == "BF16" for spec in tensors)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        """Compute `outputs` (all when empty), in order; see Session.run.

        Without an IO binding: it would copy the inputs to a device with the interpreter lock held.
        """
        options = stop.options if stop else None
        try:
            if self._has_bfloat16:
                return self._run_values(inputs, outputs, options)
            arrays: list[Array] = self._session.run(outputs or self._all_outputs, inputs, options)
        except _INVALID_ARGUMENT as exc:
            raise InvalidInput(f"{self._name}: {_text(exc)}") from exc
        except Exception as exc:
            raise InferenceFailed(f"{self._name}: {_text(exc)}") from exc
        return arrays

    def _run_values(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], options: ort.RunOptions | None
    ) -> list[Array]:
        """Run on OrtValues, the only form that carries BF16; numpy sees its bits."""
        feed = {name: self._value(name, array) for name, array in inputs.items()}
        names = list(outputs or self.signature.output_by_name)
        return [_array(value) for value in self._session.run_with_ort_values(names, feed, options)]

    def _value(self, name: str, array: Array) -> ort.OrtValue:
        contiguous = np.asarray(array, order="C")
        if self.signature.input_by_name[name].datatype == "BF16":
            return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(contiguous, _BFLOAT16)
        return ort.OrtValue.ortvalue_from_numpy(contiguous)


def resolve_providers(execution: Execution) -> Providers:
    """Translate short provider names into onnxruntime's, in the order asked for.

    Raises: LoadFailed: a name is unknown, or this onnxruntime was built without it.
    """
    known = {_short(provider): provider for provider in ort.get_all_providers()}
    available = ort.get_available_providers()
    resolved: Providers = []
    for asked in execution.providers:
        provider = asked if isinstance(asked, Provider) else Provider(name=asked)
        name = known.get(_short(provider.name))
        if name is None:
            raise LoadFailed(
                f"unknown execution provider '{provider.name}', expected one of {', '.join(sorted(known))}"
            )
        if name not in available:
            raise LoadFailed(
                f"execution provider '{provider.name}' is not part of the installed onnxruntime, "
                f"which offers {', '.join(sorted(map(_short, available)))}"
            )
        for key in provider.options:
            _refuse_file_option(key)
        asked_for = {key: str(value) for key, value in provider.options.items()}
        resolved.append((name, {**_PRESET.get(name, {}), **asked_for}))
    return resolved


def usable_cpus(cgroup: Path = _CGROUP) -> int:
    """Return how many processors this process may keep busy: its affinity, cut by the cgroup's quota.

    Args:
        cgroup: Where the control groups are mounted, version 2 or 1.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        share = math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup, or no limit ("max")
        return cpus
    return max(1, min(cpus, share)) if share > 0 else cpus


def _preload() -> str:
    """Load the extra `gpu`'s CUDA and cuDNN, which lie among Python's packages, where no loader looks.

    Returns: The first that is missing, "" when none is; onnxruntime can only print that.
    """
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        ort.preload_dlls()
    lines = printed.getvalue().splitlines()
    return lines[0].partition(": ")[2] or lines[0] if lines else ""


def _not_started(session: ort.InferenceSession, providers: Providers, missing: str) -> str:
    """Say which provider that was asked for the session does without, "" when there is none."""
    running = session.get_providers()
    for provider, _ in providers:
        if provider not in running:
            why = missing or "its libraries are missing or there is no such device"
            return (
                f"execution provider '{_short(provider)}' did not start ({why}), "
                f"running would be {', '.join(map(_short, running))}"
            )
    return ""


def _why_not_alone(model: bytes, options: ort.SessionOptions, providers: Providers, missing: str) -> str:
    """Say what the CPU would have to do for the providers, "" where the model does not open for another reason."""
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = ort.InferenceSession(model, sess_options=options, providers=providers, enable_fallback=0)
    except Exception:  # noqa: BLE001 - the first error is the one to tell
        return ""
    if reason := _not_started(session, providers, missing):
        return reason
    placed = session.get_provider_graph_assignment_info()
    lacking = sorted({node.op_type for part in placed if part.ep_name == _CPU for node in part.get_nodes()})
    if not lacking:
        return ""
    asked = " or ".join(f"'{_short(provider)}'" for provider, _ in providers)
    return (
        f"execution provider {asked} does not run {', '.join(lacking)} of this model; "
        "'cpu' at the end of execution.providers would"
    )


def _session_options(execution: Execution, *, takes_cpu: bool, name: str) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    cpus = usable_cpus()
    threads = execution.intra_op_threads or cpus
    if threads > cpus:
        log.warning("threads_capped", extra={"model": name, "asked": threads, "usable": cpus})
    options.intra_op_num_threads = min(threads, cpus)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not takes_cpu:  # an operator the provider lacks must not slip to the CPU unseen
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    for key, value in execution.session_options.items():
        _refuse_file_option(key)
        _set_option(options, key, value)
    return options


def _refuse_file_option(key: str) -> None:
    """Refuse options that write files or load libraries: whoever publishes models does not thereby gain that reach."""
    if _FILE_WORDS & set(re.split(r"[._]", key.lower())):
        raise LoadFailed(f"execution option '{key}' names a file or a library, which a model's settings may not do")


def _set_option(options: ort.SessionOptions, key: str, value: Option) -> None:
    enums = {"graph_optimization_level": ort.GraphOptimizationLevel, "execution_mode": ort.ExecutionMode}
    if "." in key:
        _set_entry(options, key, value)
        return
    if key.startswith("_") or not hasattr(options, key) or callable(getattr(options, key)):
        raise LoadFailed(f"execution.session_options: onnxruntime has no session option '{key}'")
    try:
        setattr(options, key, getattr(enums[key], str(value)) if key in enums else value)
    except (TypeError, AttributeError) as exc:
        raise LoadFailed(f"execution.session_options.{key}: onnxruntime does not take {value!r}") from exc


def _set_entry(options: ort.SessionOptions, key: str, value: Option) -> None:
    text = str(int(value)) if isinstance(value, bool) else str(value)  # onnxruntime reads "1", and anything else as no
    try:
        options.add_session_config_entry(key, text)
    except RuntimeError as exc:
        raise LoadFailed(f"execution.session_options: onnxruntime does not take the entry '{key}': {exc}") from exc


def _array(value: ort.OrtValue) -> Array:
    if value.data_type() != "tensor(bfloat16)":
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    count = math.prod(shape)
    if not count:
        return np.empty(shape, np.uint16)
    bits = (ctypes.c_uint16 * count).from_address(value.data_ptr())
    return np.ctypeslib.as_array(bits).reshape(shape).copy()


def _short(provider: str) -> str:
    return provider.removesuffix(_SUFFIX).lower()


def _text(error: Exception) -> str:
    """One line of onnxruntime's message, without its prefixes and advice."""
    text = _SOURCE.sub("", str(error).rpartition("[ONNXRuntimeError] : ")[2])
    return text.splitlines()[0][:500] if text.strip() else type(error).__name__
