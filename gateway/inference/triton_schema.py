"""The message types of Triton's model configuration, and reading its text form into plain values.

Gives no meaning to any field: triton_config does. Imported only where a config.pbtxt lies: protobuf is slow to start.
"""

from __future__ import annotations

import re

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.errors import InvalidSetting, unknown_name

Plain = dict[str, object]

_PACKAGE = "triton"
_ROOT = "ModelConfig"

_MESSAGES = {
    "ModelConfig": """name:1 platform:2 backend:17 runtime:25 version_policy:3=VersionPolicy max_batch_size:4=int32
        input:5=Input* output:6=Output* batch_input:20=BatchInput* batch_output:21=BatchOutput*
        optimization:12=Optimization dynamic_batching:11=DynamicBatching@scheduling_choice
        sequence_batching:13=SequenceBatching@scheduling_choice ensemble_scheduling:15=Ensemble@scheduling_choice
        instance_group:7=InstanceGroup* default_model_filename:8 cc_model_filenames:9=map(string)
        metric_tags:10=map(string) parameters:14=map(Parameter) model_warmup:16=Warmup* model_operations:18=Operations
        model_transaction_policy:19=TransactionPolicy model_repository_agents:23=RepositoryAgents
        response_cache:24=ResponseCache model_metrics:26=Metrics""",
    "VersionPolicy": "latest:1=Latest@policy_choice all:2=All@policy_choice specific:3=Specific@policy_choice",
    "Latest": "num_versions:1=uint32",
    "All": "",
    "Specific": "versions:1=int64*",
    "Input": """name:1 data_type:2=DataType format:3=Format dims:4=int64* reshape:5=Reshape is_shape_tensor:6=bool
        allow_ragged_batch:7=bool optional:8=bool is_non_linear_format_io:9=bool""",
    "Output": """name:1 data_type:2=DataType dims:3=int64* reshape:5=Reshape label_filename:4 is_shape_tensor:6=bool
        is_non_linear_format_io:7=bool""",
    "Reshape": "shape:1=int64*",
    "BatchInput": "kind:1=BatchInputKind target_name:2* data_type:3=DataType source_input:4*",
    "BatchOutput": "target_name:1* kind:2=BatchOutputKind source_input:3*",
    "Optimization": """graph:1=Graph priority:2=Priority cuda:3=Cuda execution_accelerators:4=Accelerators
        input_pinned_memory:5=PinnedMemory output_pinned_memory:6=PinnedMemory
        gather_kernel_buffer_threshold:7=uint32 eager_batching:8=bool""",
    "Graph": "level:1=int32",
    "Cuda": "graphs:1=bool busy_wait_events:2=bool graph_spec:3=GraphSpec* output_copy_stream:4=bool",
    "GraphSpec": "batch_size:1=int32 input:2=map(GraphShape) graph_lower_bound:3=GraphBound",
    "GraphBound": "batch_size:1=int32 input:2=map(GraphShape)",
    "GraphShape": "dim:1=int64*",
    "Accelerators": "gpu_execution_accelerator:1=Accelerator* cpu_execution_accelerator:2=Accelerator*",
    "Accelerator": "name:1 parameters:2=map(string)",
    "PinnedMemory": "enable:1=bool",
    "DynamicBatching": """preferred_batch_size:1=int32* max_queue_delay_microseconds:2=uint64 preserve_ordering:3=bool
        priority_levels:4=uint64 default_priority_level:5=uint64 default_queue_policy:6=QueuePolicy
        priority_queue_policy:7=map(uint64,QueuePolicy)""",
    "QueuePolicy": """timeout_action:1=TimeoutAction default_timeout_microseconds:2=uint64 allow_timeout_override:3=bool
        max_queue_size:4=uint32""",
    "SequenceBatching": """max_sequence_idle_microseconds:1=uint64 control_input:2=ControlInput*
        direct:3=DirectStrategy@strategy_choice oldest:4=OldestStrategy@strategy_choice state:5=State*
        iterative_sequence:6=bool""",
    "ControlInput": "name:1 control:2=Control*",
    "Control": """kind:1=ControlKind int32_false_true:2=int32* fp32_false_true:3=float* data_type:4=DataType
        bool_false_true:5=bool*""",
    "DirectStrategy": "max_queue_delay_microseconds:1=uint64 minimum_slot_utilization:2=float",
    "OldestStrategy": """max_candidate_sequences:1=int32 preferred_batch_size:2=int32*
        max_queue_delay_microseconds:3=uint64 preserve_ordering:4=bool""",
    "State": """input_name:1 output_name:2 data_type:3=DataType dims:4=int64* initial_state:5=InitialState*
        use_same_buffer_for_input_output:6=bool use_growable_memory:7=bool""",
    "InitialState": "data_type:1=DataType dims:2=int64* zero_data:3=bool@state_data data_file:4@state_data name:5",
    "Ensemble": "step:1=Step* max_inflight_responses:2=uint32",
    "Step": "model_name:1 model_version:2=int64 input_map:3=map(string) output_map:4=map(string) model_namespace:5",
    "InstanceGroup": """name:1 count:2=int32 gpus:3=int32* kind:4=InstanceKind profile:5* rate_limiter:6=RateLimiter
        passive:7=bool secondary_devices:8=SecondaryDevice* host_policy:9""",
    "RateLimiter": "resources:1=Resource* priority:2=uint32",
    "Resource": "name:1 global:2=bool count:3=uint32",
    "SecondaryDevice": "kind:1=SecondaryDeviceKind device_id:2=int64",
    "Parameter": "string_value:1",
    "Warmup": "name:1 batch_size:2=uint32 inputs:3=map(WarmupInput) count:4=uint32",
    "WarmupInput": """data_type:1=DataType dims:2=int64* zero_data:3=bool@input_data_type
        random_data:4=bool@input_data_type input_data_file:5@input_data_type""",
    "Operations": "op_library_filename:1*",
    "TransactionPolicy": "decoupled:1=bool",
    "RepositoryAgents": "agents:1=Agent*",
    "Agent": "name:1 parameters:2=map(string)",
    "ResponseCache": "enable:1=bool",
    "Metrics": "metric_control:1=MetricControl*",
    "MetricControl": "metric_identifier:1=MetricIdentifier histogram_options:2=HistogramOptions@metric_options",
    "MetricIdentifier": "family:1",
    "HistogramOptions": "buckets:1=double*",
}
"""Per message its fields as `name:number=type`, string where no type stands; `*` repeats, `@` names the oneof."""

_ENUMS = {
    "DataType": """TYPE_INVALID TYPE_BOOL TYPE_UINT8 TYPE_UINT16 TYPE_UINT32 TYPE_UINT64 TYPE_INT8 TYPE_INT16 TYPE_INT32
        TYPE_INT64 TYPE_FP16 TYPE_FP32 TYPE_FP64 TYPE_STRING TYPE_BF16""",
    "Format": "FORMAT_NONE FORMAT_NHWC FORMAT_NCHW",
    "InstanceKind": "KIND_AUTO KIND_GPU KIND_CPU KIND_MODEL",
    "SecondaryDeviceKind": "KIND_NVDLA",
    "Priority": "PRIORITY_DEFAULT PRIORITY_MAX PRIORITY_MIN",
    "TimeoutAction": "REJECT DELAY",
    "BatchInputKind": """BATCH_ELEMENT_COUNT BATCH_ACCUMULATED_ELEMENT_COUNT BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO
        BATCH_MAX_ELEMENT_COUNT_AS_SHAPE BATCH_ITEM_SHAPE BATCH_ITEM_SHAPE_FLATTEN""",
    "BatchOutputKind": "BATCH_SCATTER_WITH_INPUT_SHAPE",
    "ControlKind": "CONTROL_SEQUENCE_START CONTROL_SEQUENCE_READY CONTROL_SEQUENCE_END CONTROL_SEQUENCE_CORRID",
}
"""Per enum its values, numbered from 0."""

_FIELD = re.compile(
    r"(?P<name>\w+):(?P<number>\d+)(?:=(?:map\((?:(?P<key>\w+),)?(?P<value>\w+)\)|(?P<type>\w+)))?(?P<many>\*)?"
    r"(?:@(?P<oneof>\w+))?"
)
_UNKNOWN_FIELD = re.compile(rf'Message type "{_PACKAGE}\.(\w+)" has no field named "(.*)"')
_POSITION = re.compile(r"^\d+:\d+ : ")

FieldProto = descriptor_pb2.FieldDescriptorProto


def parse_text(text: bytes, *, where: str) -> Plain:
    """Read a model configuration in protobuf's text form.

    Returns: Every field that was written, by name, enums as their names, maps as dicts.
    Raises: InvalidSetting: not the text form, or an unknown field or value, naming file, line and field.
    """
    message = _MODEL_CONFIG()
    try:
        text_format.Parse(text.decode(), message)
    except text_format.ParseError as exc:
        raise InvalidSetting(_explain(exc, where)) from exc
    except UnicodeDecodeError as exc:
        raise InvalidSetting(f"{where}: not UTF-8 text: {exc}") from exc
    return _plain(message)


def _explain(error: text_format.ParseError, where: str) -> str:
    text = _POSITION.sub("", str(error))
    line = error.GetLine()
    place = f"{where}: line {line}" if line is not None else where
    unknown = _UNKNOWN_FIELD.match(text)
    if unknown is None:
        return f"{place}: {text}"
    known = [field.name for field in _POOL.FindMessageTypeByName(f"{_PACKAGE}.{unknown[1]}").fields]
    return unknown_name(f"{place}: field '{unknown[2]}' of {unknown[1]}", unknown[2], known)


def _plain(message: Message) -> Plain:
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: FieldDescriptor, value: object) -> object:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        inner = entry.fields_by_name["value"]
        return {str(key): _single(inner, item) for key, item in dict(value).items()}  # type: ignore[call-overload]  # a map
    if field.is_repeated:
        return [_single(field, item) for item in list(value)]  # type: ignore[call-overload]  # a repeated field
    return _single(field, value)


def _single(field: FieldDescriptor, value: object) -> object:
    if isinstance(value, Message):
        return _plain(value)
    if field.enum_type is not None and isinstance(value, int):
        return str(field.enum_type.values_by_number[value].name)
    return value


def _file() -> descriptor_pb2.FileDescriptorProto:
    """Describe all messages; as proto2, because there every field knows whether it was written."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package=_PACKAGE, syntax="proto2")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values.split()):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        oneofs: dict[str, int] = {}
        for match in _FIELD.finditer(fields):
            field = _field(match["name"], int(match["number"]), match["type"] or "string")
            if match["value"]:
                entry = message.nested_type.add(name=match["name"].title().replace("_", "") + "Entry")
                entry.options.map_entry = True
                entry.field.extend([_field("key", 1, match["key"] or "string"), _field("value", 2, match["value"])])
                field.type = FieldProto.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{name}.{entry.name}"
            if match["many"] or match["value"]:
                field.label = FieldProto.LABEL_REPEATED
            if match["oneof"]:
                field.oneof_index = oneofs.setdefault(match["oneof"], len(oneofs))
            message.field.append(field)
        for oneof in oneofs:
            message.oneof_decl.add(name=oneof)
    return file


def _field(name: str, number: int, kind: str) -> FieldProto:
    field = FieldProto(name=name, number=number, label=FieldProto.LABEL_OPTIONAL)
    if kind in _MESSAGES or kind in _ENUMS:
        field.type = FieldProto.TYPE_MESSAGE if kind in _MESSAGES else FieldProto.TYPE_ENUM
        field.type_name = f".{_PACKAGE}.{kind}"
    else:
        field.type = FieldProto.Type.Value(f"TYPE_{kind.upper()}")
    return field


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())
_MODEL_CONFIG = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{_ROOT}"))
