"""How a config.pbtxt asks for a model to be run: instances, devices, execution providers, threads.

Decides nothing about batches, and asks nobody what is installed: the session does.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.errors import InvalidSetting
from gateway.inference.model_config import Execution, Option, Provider
from gateway.inference.triton_fields import Accelerator, InstanceGroup, ModelFields

_GRAPH_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}
_TENSORRT_OPTIONS = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
_PRECISIONS = {"FP32": "", "FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}
_CUDA_PARAMETERS: Mapping[str, Mapping[str, Option] | None] = {
    "arena_extend_strategy": {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"},
    "cudnn_conv_algo_search": {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"},
    "do_copy_in_default_stream": None,
    "gpu_mem_limit": None,
}
_SESSION_PARAMETERS: Mapping[str, tuple[str, Mapping[str, Option] | None]] = {
    "enable_mem_arena": ("enable_cpu_mem_arena", {"0": False, "1": True, "false": False, "true": True}),
    "enable_mem_pattern": ("enable_mem_pattern", {"0": False, "1": True, "false": False, "true": True}),
    "execution_mode": ("execution_mode", {"0": "ORT_SEQUENTIAL", "1": "ORT_PARALLEL"}),
    "session.use_device_allocator_for_initializers": ("session.use_device_allocator_for_initializers", None),
}
_NOT_LOADED = "libraries with custom operators are not loaded"


class IgnoredSetting(msgspec.Struct, frozen=True):
    """A field that has no effect here, and why."""

    field: str
    reason: str

    def __str__(self) -> str:
        """Write it as one sentence."""
        return f"config.pbtxt: {self.field} has no effect: {self.reason}"


def execution_of(fields: ModelFields, ignored: list[IgnoredSetting], *, where: str) -> Execution:
    """Translate everything that says how the model is run.

    Args:
        ignored: Takes what has no effect.
    Raises: InvalidSetting: a value that onnxruntime's backend in Triton would refuse, too.
    """
    return _Execution(fields, ignored, where).translated()


class _Execution:
    """The settings on their way from Triton's words to ours."""

    def __init__(self, fields: ModelFields, ignored: list[IgnoredSetting], where: str) -> None:
        self._fields = fields
        self._ignored = ignored
        self._where = where
        self._threads = Execution().intra_op_threads
        self._session: dict[str, Option] = {}
        self._cuda: dict[str, Option] = {}

    def translated(self) -> Execution:
        kind, instances, device = self._instances()
        self._read_parameters(on_gpu=kind == "KIND_GPU")
        self._read_graph_level()
        return Execution(
            providers=(*self._gpu_providers(device, on_gpu=kind == "KIND_GPU"), *self._cpu_providers(), "cpu"),
            instances=instances,
            intra_op_threads=self._threads,
            session_options=self._session,
        )

    def _instances(self) -> tuple[str, int, dict[str, Option]]:
        """Choose one kind of device, that of the first group: the instances of a version must give the same bits.

        Returns: The kind, the number of sessions, and the option that names the device.
        """
        groups = self._fields.instance_group or (InstanceGroup(),)
        kind = groups[0].kind
        instances = 0
        gpus: list[int] = []
        for index, group in enumerate(groups):
            if group.kind != kind:
                self._ignore(f"instance_group[{index}]", f"all instances are of the first group's {kind}")
                continue
            instances += group.count or 1
            gpus += group.gpus
        if kind == "KIND_MODEL":
            self._ignore("instance_group[0].kind", "KIND_MODEL: the model runs on the CPU")
        if gpus and kind != "KIND_GPU":
            self._ignore("instance_group[0].gpus", f"{kind} means the CPU here, KIND_GPU asks for a device")
        if kind != "KIND_GPU" or not gpus:
            return kind, instances, {}
        if len(set(gpus)) > 1:
            self._ignore("instance_group[0].gpus", f"all instances are on device {gpus[0]}")
        return kind, instances, {"device_id": gpus[0]}

    def _read_parameters(self, *, on_gpu: bool) -> None:
        for name, parameter in self._fields.parameters.items():
            path, value = f"parameters[{name}]", parameter.string_value
            if name == "intra_op_thread_count":
                self._threads = self._number(path, value)
            elif name == "inter_op_thread_count":
                self._session["inter_op_num_threads"] = self._number(path, value)
            elif name in _SESSION_PARAMETERS:
                option, choices = _SESSION_PARAMETERS[name]
                self._session[option] = self._choice(path, value, choices)
            elif name not in _CUDA_PARAMETERS:
                self._ignore(path, "not supported")
            elif on_gpu:
                self._cuda[name] = self._choice(path, value, _CUDA_PARAMETERS[name])
            else:
                self._ignore(path, "no instance_group is of KIND_GPU")

    def _read_graph_level(self) -> None:
        level = self._fields.optimization.graph.level
        if level in _GRAPH_LEVELS:
            self._session["graph_optimization_level"] = _GRAPH_LEVELS[level]
        elif level:
            self._ignore("optimization.graph.level", f"{level} is none of -1, 0, 1 and 2")

    def _gpu_providers(self, device: dict[str, Option], *, on_gpu: bool) -> list[str | Provider]:
        """Return TensorRT if it is asked for, then CUDA, which takes what TensorRT leaves."""
        path = "optimization.execution_accelerators.gpu_execution_accelerator"
        accelerators = self._fields.optimization.execution_accelerators.gpu_execution_accelerator
        if not on_gpu:
            if accelerators:
                self._ignore(path, "no instance_group is of KIND_GPU")
            return []
        providers: list[str | Provider] = []
        for index, accelerator in enumerate(accelerators):
            if accelerator.name == "tensorrt":
                providers.append(_provider("tensorrt", self._tensorrt(accelerator, f"{path}[{index}]") | device))
            elif accelerator.name == "cuda":
                self._cuda |= accelerator.parameters
            else:
                self._ignore(f"{path}[{index}]", f"'{accelerator.name}' is none of tensorrt and cuda")
        return [*providers, _provider("cuda", self._cuda | device)]

    def _cpu_providers(self) -> list[str | Provider]:
        providers: list[str | Provider] = []
        for index, accelerator in enumerate(self._fields.optimization.execution_accelerators.cpu_execution_accelerator):
            if accelerator.name == "openvino":
                providers.append(_provider("openvino", dict(accelerator.parameters)))
            else:
                path = f"optimization.execution_accelerators.cpu_execution_accelerator[{index}]"
                self._ignore(path, f"'{accelerator.name}' is not openvino")
        return providers

    def _tensorrt(self, accelerator: Accelerator, path: str) -> dict[str, Option]:
        options: dict[str, Option] = {}
        for name, value in accelerator.parameters.items():
            field = f"{path}.parameters[{name}]"
            if name == "precision_mode":
                precision = str(self._choice(field, value, _PRECISIONS))
                options |= {precision: "1"} if precision else {}
            elif name == "trt_extra_plugin_lib_paths":
                self._ignore(field, _NOT_LOADED)
            elif name in _TENSORRT_OPTIONS or name.startswith("trt_"):
                options[_TENSORRT_OPTIONS.get(name, name)] = value
            else:
                self._ignore(field, "not supported")
        return options

    def _number(self, field: str, value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise InvalidSetting(f"{self._where}: field '{field}' is '{value}', expected a whole number")
        return int(value)

    def _choice(self, field: str, value: str, choices: Mapping[str, Option] | None) -> Option:
        if choices is None:
            return value
        if value not in choices:
            raise InvalidSetting(f"{self._where}: field '{field}' is '{value}', expected one of {', '.join(choices)}")
        return choices[value]

    def _ignore(self, field: str, reason: str) -> None:
        self._ignored.append(IgnoredSetting(field, reason))


def _provider(name: str, options: dict[str, Option]) -> str | Provider:
    return Provider(name=name, options=options) if options else name
