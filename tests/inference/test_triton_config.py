"""Holds config.pbtxt to its promises: what is understood is kept, what is not is named, what is wrong says where."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidSetting
from gateway.inference.model_config import Batching, Execution, Latest, Provider, parse_model_config
from gateway.inference.triton_config import (
    DeclaredTensor,
    TritonModelConfig,
    WarmupSample,
    WarmupTensor,
    parse_triton_config,
)

EVERYTHING = """
name: "fraud"
platform: "onnxruntime_onnx"
max_batch_size: 16
version_policy { specific { versions: [ 1, 3 ] } }
input [
  { name: "amount" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } },
  { name: "words" data_type: TYPE_STRING dims: [ -1 ] format: FORMAT_NONE }
]
output { name: "score" data_type: TYPE_FP64 dims: 1 reshape { shape: [ ] } }
dynamic_batching {
  preferred_batch_size: [ 8, 4 ]
  max_queue_delay_microseconds: 2500
  default_queue_policy {
    max_queue_size: 100
    default_timeout_microseconds: 40000
    allow_timeout_override: true
  }
}
instance_group [ { count: 2 kind: KIND_CPU } ]
optimization { graph { level: 1 } }
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
model_warmup {
  name: "zeros"
  batch_size: 3
  count: 2
  inputs { key: "amount" value { data_type: TYPE_FP32 dims: [ 2, 2 ] zero_data: true } }
  inputs { key: "words" value { data_type: TYPE_STRING dims: [ 5 ] random_data: true } }
}
default_model_filename: "net.onnx"
"""


def read(text: str, *, model: str = "fraud") -> TritonModelConfig:
    return parse_triton_config(text.encode(), model=model, where="fraud/config.pbtxt")


def ignored(text: str) -> dict[str, str]:
    return {setting.field: setting.reason for setting in read(text).ignored}


def on_gpu(text: str) -> str:
    return f"instance_group {{ kind: KIND_GPU }}\n{text}"


def parameter(name: str, value: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'


# --- what is understood ------------------------------------------------------------------------------


def test_everything_that_is_supported_is_read_and_nothing_of_it_is_named() -> None:
    config = read(EVERYTHING)
    assert config.ignored == ()
    assert config.versions == (1, 3)
    assert config.batches is True
    assert config.batching == Batching(
        enabled=True,
        max_rows=16,
        preferred_rows=(4, 8),
        max_queue_delay_ms=2.5,
        max_queue_rows=1600,
        max_queue_requests=100,
        queue_timeout_ms=40,
    )
    assert config.execution == Execution(
        providers=("cpu",),
        instances=2,
        intra_op_threads=2,
        session_options={"graph_optimization_level": "ORT_ENABLE_EXTENDED"},
    )
    assert config.declared_inputs == (
        DeclaredTensor(name="amount", datatype="FP32", format="FORMAT_NONE", dims=(2, 2), reshape=(4,)),
        DeclaredTensor(name="words", datatype="BYTES", format="FORMAT_NONE", dims=(-1,), reshape=None),
    )
    assert config.declared_outputs == (
        DeclaredTensor(name="score", datatype="FP64", format="FORMAT_NONE", dims=(1,), reshape=()),
    )
    assert config.warmup == (
        WarmupSample(
            name="zeros",
            rows=3,
            repeats=2,
            inputs={
                "amount": WarmupTensor(dims=(2, 2), is_random=False),
                "words": WarmupTensor(dims=(5,), is_random=True),
            },
        ),
    )
    assert config.model_file == "net.onnx"


def test_what_is_repeated_to_clients_is_what_was_written() -> None:
    repeated = read(EVERYTHING + parameter("unheard_of", "1")).repeated
    assert repeated["parameters"] == {"intra_op_thread_count": {"string_value": "2"}}
    assert repeated["optimization"] == {"graph": {"level": 1}}
    assert repeated["default_model_filename"] == "net.onnx"
    assert repeated["model_warmup"] == [
        {
            "name": "zeros",
            "batch_size": 3,
            "count": 2,
            "inputs": {
                "amount": {"data_type": "TYPE_FP32", "dims": [2, 2], "zero_data": True},
                "words": {"data_type": "TYPE_STRING", "dims": [5], "random_data": True},
            },
        }
    ]


def test_an_empty_file_leaves_everything_but_the_versions_to_the_model() -> None:
    """Without a policy Triton loads the highest version alone."""
    assert read("") == TritonModelConfig(versions=Latest(latest=1))


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", Latest(latest=1)),
        ("version_policy { }", Latest(latest=1)),
        ("version_policy { latest { } }", Latest(latest=1)),
        ("version_policy { latest { num_versions: 3 } }", Latest(latest=3)),
        ("version_policy: { all { } }", "all"),
        ("version_policy: { specific { versions: 7 } }", (7,)),
    ],
)
def test_the_version_policy_decides_what_loads(policy: str, versions: object) -> None:
    assert read(policy).versions == versions


@pytest.mark.parametrize(
    ("text", "batches", "batching"),
    [
        ("max_batch_size: 0", False, Batching(enabled=False, max_rows=1)),
        ("max_batch_size: 1", True, Batching(enabled=True, max_rows=1)),
        ("max_batch_size: 8", True, Batching(enabled=True, max_rows=8)),
        ("max_batch_size: 4096", True, Batching(enabled=True, max_rows=4096, max_queue_rows=4096)),
        ('input { name: "x" dims: 3 }', False, Batching(enabled=False, max_rows=1)),
        ('input { name: "x" }', None, Batching()),
        ("dynamic_batching { max_queue_delay_microseconds: 5 }", None, Batching(max_queue_delay_ms=0.005)),
        ("max_batch_size: 8 dynamic_batching { }", True, Batching(enabled=True, max_rows=8)),
    ],
)
def test_the_batch_size_says_whether_requests_may_share_a_run(text: str, batches: object, batching: Batching) -> None:
    config = read(text)
    assert (config.batches, config.batching) == (batches, batching)


@pytest.mark.parametrize(
    ("text", "providers"),
    [
        ("", ("cpu",)),
        ("instance_group { count: 1 }", ("cpu",)),
        ("instance_group { kind: KIND_CPU }", ("cpu",)),
        (on_gpu(""), ("cuda", "cpu")),
        ("instance_group { kind: KIND_GPU gpus: 1 }", (Provider(name="cuda", options={"device_id": 1}), "cpu")),
        (
            on_gpu(parameter("gpu_mem_limit", "100") + parameter("arena_extend_strategy", "1")),
            (
                Provider(name="cuda", options={"gpu_mem_limit": "100", "arena_extend_strategy": "kSameAsRequested"}),
                "cpu",
            ),
        ),
        (
            on_gpu(
                'optimization { execution_accelerators { gpu_execution_accelerator { name: "cuda" '
                'parameters { key: "use_tf32" value: "0" } } } }'
            ),
            (Provider(name="cuda", options={"use_tf32": "0"}), "cpu"),
        ),
        (
            """
            instance_group { kind: KIND_GPU gpus: [ 0 ] }
            optimization { execution_accelerators { gpu_execution_accelerator: [ {
              name: "tensorrt"
              parameters { key: "precision_mode" value: "FP16" }
              parameters { key: "max_workspace_size_bytes" value: "1073741824" }
              parameters { key: "trt_engine_cache_enable" value: "true" }
            } ] } }
            """,
            (
                Provider(
                    name="tensorrt",
                    options={
                        "trt_fp16_enable": "1",
                        "trt_max_workspace_size": "1073741824",
                        "trt_engine_cache_enable": "true",
                        "device_id": 0,
                    },
                ),
                Provider(name="cuda", options={"device_id": 0}),
                "cpu",
            ),
        ),
        (
            on_gpu(
                'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" '
                'parameters { key: "precision_mode" value: "FP32" } } } }'
            ),
            ("tensorrt", "cuda", "cpu"),
        ),
        (
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }',
            ("openvino", "cpu"),
        ),
    ],
)
def test_devices_and_accelerators_become_execution_providers_in_order(text: str, providers: object) -> None:
    config = read(text)
    assert config.execution.providers == providers
    assert config.ignored == ()


def test_instances_of_several_groups_of_one_kind_add_up() -> None:
    config = read("instance_group [ { kind: KIND_CPU count: 2 }, { kind: KIND_CPU }, { kind: KIND_CPU count: 0 } ]")
    assert config.execution.instances == 4


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (parameter("inter_op_thread_count", "3"), {"inter_op_num_threads": 3}),
        (parameter("execution_mode", "1"), {"execution_mode": "ORT_PARALLEL"}),
        (parameter("enable_mem_arena", "0"), {"enable_cpu_mem_arena": False}),
        (parameter("enable_mem_pattern", "true"), {"enable_mem_pattern": True}),
        (
            parameter("session.use_device_allocator_for_initializers", "1"),
            {"session.use_device_allocator_for_initializers": "1"},
        ),
        ("optimization { graph { level: -1 } }", {"graph_optimization_level": "ORT_ENABLE_BASIC"}),
        ("optimization { graph { level: 2 } }", {"graph_optimization_level": "ORT_DISABLE_ALL"}),
        ("optimization { graph { level: 0 } }", {}),
    ],
)
def test_parameters_of_the_backend_become_session_options(text: str, options: dict[str, object]) -> None:
    config = read(text)
    assert config.execution.session_options == options
    assert config.ignored == ()


def test_model_toml_wins_where_both_speak() -> None:
    config = parse_model_config(
        b'versions = "all"\n[batching]\nmax_queue_delay_ms = 1\n[execution]\nintra_op_threads = 1',
        where="fraud/model.toml",
        base=read(EVERYTHING),
    )
    assert isinstance(config, TritonModelConfig)
    assert config.versions == "all"
    assert (config.batching.max_queue_delay_ms, config.batching.max_rows) == (1, 16)
    assert (config.execution.intra_op_threads, config.execution.instances) == (1, 2)
    assert config.written == read(EVERYTHING).execution
    assert config.declared_inputs == read(EVERYTHING).declared_inputs


def test_model_toml_may_not_contradict_what_it_leaves_standing() -> None:
    with pytest.raises(InvalidSetting, match=r"'batching.preferred_rows': 8 is more than batching.max_rows \(6\)"):
        parse_model_config(b"[batching]\nmax_rows = 6", where="fraud/model.toml", base=read(EVERYTHING))


# --- what has no effect is named -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("response_cache { enable: true }", "response_cache"),
        ("sequence_batching { }", "sequence_batching"),
        ("sequence_batching { max_sequence_idle_microseconds: 5 direct { } }", "sequence_batching"),
        ('metric_tags { key: "a" value: "b" }', "metric_tags"),
        ('cc_model_filenames { key: "8.0" value: "b" }', "cc_model_filenames"),
        ('model_operations { op_library_filename: "a.so" }', "model_operations"),
        ("model_transaction_policy { decoupled: true }", "model_transaction_policy"),
        ('model_repository_agents { agents { name: "checksum" } }', "model_repository_agents"),
        ('model_metrics { metric_control { metric_identifier { family: "x" } } }', "model_metrics"),
        ('batch_input { kind: BATCH_ITEM_SHAPE target_name: "x" }', "batch_input"),
        ('batch_output { target_name: "x" }', "batch_output"),
        ('runtime: "libtriton_onnxruntime.so"', "runtime"),
        ('input { name: "x" allow_ragged_batch: true }', "input[0].allow_ragged_batch"),
        ('input [ { name: "x" }, { name: "y" optional: true } ]', "input[1].optional"),
        ('output { name: "x" label_filename: "labels.txt" }', "output[0].label_filename"),
        ("max_batch_size: 4 dynamic_batching { preserve_ordering: true }", "dynamic_batching.preserve_ordering"),
        ("max_batch_size: 4 dynamic_batching { priority_levels: 2 }", "dynamic_batching.priority_levels"),
        (
            "max_batch_size: 4 dynamic_batching { priority_queue_policy { key: 1 value { max_queue_size: 1 } } }",
            "dynamic_batching.priority_queue_policy",
        ),
        (
            "max_batch_size: 4 dynamic_batching { default_queue_policy { timeout_action: DELAY } }",
            "dynamic_batching.default_queue_policy.timeout_action",
        ),
        ("max_batch_size: 0 dynamic_batching { }", "dynamic_batching"),
        ("instance_group { kind: KIND_MODEL }", "instance_group[0].kind"),
        ("instance_group { gpus: 0 }", "instance_group[0].gpus"),
        ("instance_group { kind: KIND_GPU gpus: [ 0, 1 ] }", "instance_group[0].gpus"),
        ("instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]", "instance_group[1]"),
        ('instance_group { profile: "1" }', "instance_group[0].profile"),
        ("instance_group { rate_limiter { priority: 2 } }", "instance_group[0].rate_limiter"),
        ("optimization { cuda { graphs: true } }", "optimization.cuda"),
        ("optimization { priority: PRIORITY_MAX }", "optimization.priority"),
        ("optimization { graph { level: 7 } }", "optimization.graph.level"),
        ("optimization { eager_batching: true }", "optimization.eager_batching"),
        ("optimization { input_pinned_memory { enable: true } }", "optimization.input_pinned_memory"),
        (parameter("share_session_between_instances", "true"), "parameters[share_session_between_instances]"),
        (parameter("gpu_mem_limit", "5"), "parameters[gpu_mem_limit]"),
        (
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
            "optimization.execution_accelerators.gpu_execution_accelerator",
        ),
        (
            on_gpu('optimization { execution_accelerators { gpu_execution_accelerator { name: "gpu_io" } } }'),
            "optimization.execution_accelerators.gpu_execution_accelerator[0]",
        ),
        (
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "dnnl" } } }',
            "optimization.execution_accelerators.cpu_execution_accelerator[0]",
        ),
        (
            on_gpu(
                'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" '
                'parameters { key: "max_cached_engines" value: "1" } } } }'
            ),
            "optimization.execution_accelerators.gpu_execution_accelerator[0].parameters[max_cached_engines]",
        ),
        (
            on_gpu(
                'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" '
                'parameters { key: "trt_extra_plugin_lib_paths" value: "evil.so" } } } }'
            ),
            "optimization.execution_accelerators.gpu_execution_accelerator[0].parameters[trt_extra_plugin_lib_paths]",
        ),
        (
            'model_warmup { inputs { key: "x" value { input_data_file: "raw" } } }',
            "model_warmup[0].inputs[x].input_data_file",
        ),
    ],
)
def test_what_has_no_effect_is_named(text: str, field: str) -> None:
    found = ignored(text)
    assert list(found) == [field]
    assert found[field]


def test_a_late_request_that_may_wait_is_not_refused() -> None:
    policy = "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 10 }"
    assert read(f"max_batch_size: 4 dynamic_batching {{ {policy} }}").batching.queue_timeout_ms == 0


def test_what_is_written_out_to_ask_for_nothing_is_not_named() -> None:
    """Generated files spell out defaults: naming those would hide what matters."""
    assert (
        ignored(
            """
            response_cache { enable: false }
            model_transaction_policy { decoupled: false }
            input { name: "x" optional: false is_shape_tensor: false }
            output { name: "y" label_filename: "" }
            instance_group { passive: false host_policy: "" }
            optimization { eager_batching: false gather_kernel_buffer_threshold: 0 }
            """
        )
        == {}
    )


def test_a_named_setting_reads_as_a_sentence() -> None:
    (setting,) = read("response_cache { enable: true }").ignored
    assert str(setting) == "config.pbtxt: response_cache has no effect: answers are not cached"


# --- what is wrong names its place ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\n\ninput { dimz: 3 }", "line 3: field 'dimz' of Input: unknown 'dimz', did you mean 'dims'?"),
        ("max_bach_size: 3", "line 1: field 'max_bach_size' of ModelConfig: unknown 'max_bach_size', did you mean"),
        ('max_batch_size: "many"', "line 1: 'max_batch_size: \"many\"': Couldn't parse integer"),
        ("max_batch_size: 99999999999", "line 1: 'max_batch_size: 99999999999': Value out of range"),
        ('\ninput { name: "x" data_type: TYPE_FP31 }', "line 2: .*has no value named TYPE_FP31"),
        ('name: "a"\nname: "b"', 'line 2: .*should not have multiple "name" fields'),
        ("version_policy { all { } latest { } }", "another member of oneof"),
        ("input {", "line 1: "),
        ("not a configuration", "line 1: "),
        ("max_batch_size: -1", "field 'max_batch_size': Expected `int` >= 0"),
        ('input { name: "x" dims: -2 }', r"field 'input\[0\].dims\[0\]': Expected `int` >= -1"),
        ("input { dims: 3 }", r"field 'input\[0\]': Object missing required field `name`"),
        ('name: "other"', "field 'name' is 'other', expected the directory's name 'fraud'"),
        ('platform: "ensemble"', "field 'ensemble_scheduling': ensembles are not supported"),
        ("ensemble_scheduling { }", "field 'ensemble_scheduling': ensembles are not supported"),
        ('platform: "tensorrt_plan"', "field 'platform' is 'tensorrt_plan', expected 'onnxruntime_onnx'"),
        ('backend: "python"', "field 'backend' is 'python', expected 'onnxruntime': only ONNX models are served"),
        ('input [ { name: "x" }, { name: "x" } ]', "field 'input': 'x' stands twice"),
        ('default_model_filename: "../net.onnx"', "field 'default_model_filename' is '../net.onnx'"),
        ('default_model_filename: ".hidden"', "field 'default_model_filename' is '.hidden'"),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }",
            "field 'dynamic_batching.preferred_batch_size': 8 is more than 4, which is the max_batch_size",
        ),
        (
            parameter("intra_op_thread_count", "two"),
            r"'parameters\[intra_op_thread_count\]' is 'two', expected a whole",
        ),
        (parameter("execution_mode", "2"), r"'parameters\[execution_mode\]' is '2', expected one of 0, 1"),
        (
            on_gpu(
                'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" '
                'parameters { key: "precision_mode" value: "FP8" } } } }'
            ),
            r"parameters\[precision_mode\]' is 'FP8', expected one of FP32, FP16, BF16, INT8",
        ),
        ("model_warmup { batch_size: 0 }", r"field 'model_warmup\[0\].batch_size' is 0"),
        (
            'input { name: "x" } model_warmup { inputs { key: "y" value { } } }',
            r"field 'model_warmup\[0\].inputs': the model has no input 'y'",
        ),
        (
            """
            input { name: "x" data_type: TYPE_FP32 }
            model_warmup { inputs { key: "x" value { data_type: TYPE_INT32 } } }
            """,
            r"field 'model_warmup\[0\].inputs\[x\].data_type' is TYPE_INT32, the input is TYPE_FP32",
        ),
    ],
)
def test_a_fault_names_the_file_and_the_place(text: str, fault: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^fraud/config.pbtxt: .*{fault}|^fraud/config.pbtxt: {fault}"):
        read(text)


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"fraud/config\.pbtxt: not UTF-8 text"):
        parse_triton_config(b'name: "\xff"', model="fraud", where="fraud/config.pbtxt")


@given(st.text(alphabet=' \n"{}[]:,#\\-0123456789abnampeinputdims_TYPEF', max_size=80))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(InvalidSetting):
        read(text)
