"""The Open Inference Protocol's descriptions as JSON values: server, models, configuration, statistics, index.

Renders what others know; decides nothing and counts nothing.
"""

from __future__ import annotations

from gateway import __version__
from gateway.inference.model_config import Execution, Provider
from gateway.inference.registry import Registry, ServedVersion, VersionRecord, VersionState
from gateway.inference.signature import FREE_ROWS, Signature
from gateway.inference.statistics import Statistics, Tally
from gateway.inference.triton_config import DeclaredTensor, TritonModelConfig
from gateway.messages import TensorSpec

Json = dict[str, object]

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]

_INDEX_STATES = {
    VersionState.LOADING: "LOADING",
    VersionState.READY: "READY",
    VersionState.DRAINING: "UNLOADING",
    VersionState.UNLOADED: "UNAVAILABLE",
    VersionState.FAILED: "UNAVAILABLE",
}


def server_metadata() -> Json:
    """Describe the server."""
    return {"name": "onnx-gateway", "version": __version__, "extensions": EXTENSIONS}


def model_metadata(name: str, served: ServedVersion, versions: list[int]) -> Json:
    """Describe a model's tensors.

    Args:
        name: As it was asked for.
        versions: Those a client may pin.
    """
    signature = served.loaded.signature
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
    }


def model_configuration(name: str, served: ServedVersion) -> Json:
    """Describe a model's settings in the words of Triton's ModelConfig, as they apply here."""
    loaded = served.loaded
    triton = loaded.config if isinstance(loaded.config, TritonModelConfig) else TritonModelConfig()
    signature, batching, execution = loaded.signature, loaded.config.batching, loaded.config.execution
    # Clients drop the first axis of the metadata when there is a batch size: it is only given where that axis is free.
    batches = signature.rows == FREE_ROWS and triton.batches is not False
    gpu = loaded.sessions[0].providers[0] != "cpu"
    configuration: Json = {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": _version_policy(served),
        "max_batch_size": batching.max_rows if batches else 0,
        "input": [_config_tensor(spec, triton.declared_inputs, batches=batches) for spec in signature.inputs],
        "output": [
            _config_tensor(spec, triton.declared_outputs, batches=batches, is_input=False) for spec in signature.outputs
        ],
        "instance_group": [
            {
                "name": name,
                "kind": "KIND_GPU" if gpu else "KIND_CPU",
                "count": execution.instances,
                "gpus": _devices(execution),
                "secondary_devices": [],
                "profile": [],
                "passive": False,
                "host_policy": "",
            }
        ],
        "default_model_filename": triton.model_file,
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": triton.repeated.get("model_warmup", []),
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
    }
    if execution == triton.written:  # model.toml may have said otherwise
        configuration |= {key: triton.repeated[key] for key in ("optimization", "parameters") if key in triton.repeated}
    if loaded.sharing.shares_runs:
        configuration["dynamic_batching"] = {
            "preferred_batch_size": list(batching.preferred_rows),
            "max_queue_delay_microseconds": round(batching.max_queue_delay_ms * 1000),
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": round(batching.queue_timeout_ms * 1000),
                "allow_timeout_override": True,
                "max_queue_size": batching.max_queue_requests,
            },
        }
    return configuration


def model_statistics(name: str, served: ServedVersion) -> Json:
    """Report a version's counters with every key that load generators read."""
    statistics = served.batcher.statistics
    return {
        "name": name,
        "version": str(served.key.version),
        "last_inference": round(statistics.last_at * 1000),
        "inference_count": statistics.rows,
        "execution_count": statistics.runs,
        "inference_stats": _inference_statistics(statistics),
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(tally.assemble),
                "compute_infer": _duration(tally.run),
                "compute_output": _duration(tally.split),
            }
            for rows, tally in sorted(statistics.batches.items())
        ],
        "memory_usage": [],
    }


def repository_index(registry: Registry, *, only_ready: bool) -> list[Json]:
    """List every known model version with its state."""
    return [_index_entry(record) for record in registry if not only_ready or record.state is VersionState.READY]


def signature_json(signature: Signature) -> Json:
    """Describe a signature with its symbolic axes."""
    return {
        "inputs": [_tensor(spec) | {"axes": list(spec.axes)} for spec in signature.inputs],
        "outputs": [_tensor(spec) | {"axes": list(spec.axes)} for spec in signature.outputs],
    }


def _index_entry(record: VersionRecord) -> Json:
    entry: Json = {
        "name": record.key.model,
        "version": str(record.key.version),
        "state": _INDEX_STATES[record.state],
    }
    return entry | {"reason": record.reason} if record.reason else entry


def _tensor(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config_tensor(
    spec: TensorSpec, declared: tuple[DeclaredTensor, ...], *, batches: bool, is_input: bool = True
) -> Json:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    described: Json = {
        "name": spec.name,
        "data_type": f"TYPE_{kind}",
        "dims": list(spec.shape[1:] if batches else spec.shape),
        "is_shape_tensor": False,
    }
    found = next((tensor for tensor in declared if tensor.name == spec.name), None)
    if found is not None and found.reshape is not None:
        described["reshape"] = {"shape": list(found.reshape)}
    if is_input:
        return described | {"format": found.format if found else "FORMAT_NONE", "optional": False}
    return described | {"label_filename": ""}


def _devices(execution: Execution) -> list[int]:
    """Return the device that the providers name, if they name one."""
    named = {
        provider.options["device_id"]
        for provider in execution.providers
        if isinstance(provider, Provider) and "device_id" in provider.options
    }
    return sorted(int(device) for device in named)


def _version_policy(served: ServedVersion) -> Json:
    versions = served.loaded.config.versions
    if versions == "all":
        return {"all": {}}
    if isinstance(versions, tuple):
        return {"specific": {"versions": list(versions)}}
    return {"latest": {"num_versions": versions.latest}}


def _inference_statistics(statistics: Statistics) -> Json:
    return {
        "success": _duration(statistics.success),
        "fail": _duration(statistics.fail),
        "queue": _duration(statistics.queue),
        "compute_input": _duration(statistics.assemble),
        "compute_infer": _duration(statistics.run),
        "compute_output": _duration(statistics.split),
        "cache_hit": _duration(Tally()),
        "cache_miss": _duration(Tally()),
    }


def _duration(tally: Tally) -> Json:
    return {"count": tally.count, "ns": round(tally.seconds * 1e9)}
