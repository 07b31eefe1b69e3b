"""A configuration's own warm-up samples: their tensors, and running them before a version may be READY.

Measures nothing: the loader's warm-up does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.errors import GatewayError, InvalidInput, InvalidModel, LoadFailed
from gateway.inference.samples import Inputs, random_inputs, repeated_rows
from gateway.inference.session import Session
from gateway.inference.signature import NUMPY_TYPES, Signature
from gateway.inference.triton_config import TritonModelConfig, WarmupSample
from gateway.messages import Array


def sample_inputs(signature: Signature, config: TritonModelConfig) -> list[Inputs]:
    """Make the tensors of every sample.

    Raises: InvalidModel: a sample does not fit the signature.
    """
    return [_inputs(signature, sample, has_rows=bool(config.batches)) for sample in config.warmup]


def run_samples(
    sessions: Sequence[Session], config: TritonModelConfig, inputs: Sequence[Inputs], *, rows: int | None
) -> None:
    """Run every sample on every session as often as it asks.

    Args:
        rows: Of every run, where the file fixes them.
    Raises: LoadFailed: a run fails.
    """
    for session in sessions:
        for sample, tensors in zip(config.warmup, inputs, strict=True):
            for _ in range(sample.repeats):
                try:
                    session.run(repeated_rows(tensors, rows) if rows else tensors, ())
                except GatewayError as exc:
                    raise LoadFailed(f"config.pbtxt: model_warmup '{sample.name}' failed: {exc}") from exc


def _inputs(signature: Signature, sample: WarmupSample, *, has_rows: bool) -> Inputs:
    where = f"config.pbtxt: model_warmup '{sample.name}'"
    zeros: Inputs = {}
    for name, tensor in sample.inputs.items():
        spec = signature.input_by_name.get(name)
        if spec is None:
            raise InvalidModel(f"{where}: the model has no input '{name}'")
        shape = (sample.rows, *tensor.dims) if has_rows else tensor.dims
        zeros[name] = np.zeros(shape, NUMPY_TYPES[spec.datatype]) if spec.datatype != "BYTES" else _blanks(shape)
    try:
        rows = signature.with_free_rows() if signature.rows is not None else signature
        count = rows.check(zeros, model=where)
    except InvalidInput as exc:
        raise InvalidModel(str(exc)) from exc
    made_up = random_inputs(signature, count, np.random.default_rng(22), scale=1.0, like=zeros)
    return {
        name: made_up[name] if sample.inputs[name].is_random and array.dtype != object else array
        for name, array in zeros.items()
    }


def _blanks(shape: tuple[int, ...]) -> Array:
    blanks = np.empty(shape, dtype=object)
    blanks[...] = ""
    return blanks
