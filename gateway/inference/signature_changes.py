"""What a caller would notice between two versions of one model, in words.

Never judges: whether a change is welcome is for the reader to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.inference.model_config import Execution
from gateway.inference.repository import VersionFiles
from gateway.inference.session import OnnxSession
from gateway.inference.signature import Signature, display_shape
from gateway.messages import ModelVersion, TensorSpec

_UNOPTIMISED = Execution(session_options={"graph_optimization_level": "ORT_DISABLE_ALL"})


def file_signature(key: ModelVersion, files: VersionFiles) -> Signature:
    """Read a version's signature from its file, the quick way: the session could not serve.

    Raises: LoadFailed: onnxruntime refuses the file, or it gives no tensors.
    """
    return OnnxSession(files.model, _UNOPTIMISED, name=str(key), external_folder=files.external_folder).signature


def signature_changes(before: Signature, after: Signature) -> list[str]:
    """List every input and output that went, came or changed its datatype or shape.

    Symbolic names of axes count for nothing: no caller sees them.
    """
    return [
        *_tensor_changes("input", before.input_by_name, after.input_by_name),
        *_tensor_changes("output", before.output_by_name, after.output_by_name),
    ]


def naming_changes(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> list[str]:
    """List inputs whose columns have other names, with the first column that differs.

    Inputs that only one side names are left out.
    """
    changes = []
    for tensor, names in after.items():
        pairs = enumerate(zip(before.get(tensor, names), names, strict=False))
        different = next(((column, old, new) for column, (old, new) in pairs if old != new), None)
        if different is not None:
            column, old, new = different
            changes.append(f"column {column} of input '{tensor}' was '{old}', is '{new}'")
    return changes


def described_tensor(spec: TensorSpec) -> str:
    """Write a tensor's datatype and shape: `FP32 [rows, 30]`."""
    return f"{spec.datatype} {display_shape(spec)}"


def _tensor_changes(role: str, before: Mapping[str, TensorSpec], after: Mapping[str, TensorSpec]) -> list[str]:
    gone = [f"{role} '{name}' is gone" for name in before if name not in after]
    new = [f"{role} '{name}' is new: {described_tensor(spec)}" for name, spec in after.items() if name not in before]
    changed = [
        f"{role} '{name}' was {described_tensor(before[name])}, is {described_tensor(spec)}"
        for name, spec in after.items()
        if name in before and (before[name].datatype, before[name].shape) != (spec.datatype, spec.shape)
    ]
    return [*gone, *new, *changed]
