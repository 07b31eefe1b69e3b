"""Owns the model of Triton's Python backend: onnxruntime with one thread, on all requests of a batch at once.

Never imported by the benchmark: Triton's stub process opens a copy of it, in the environment of the peer.
"""

import json
from collections.abc import Sequence

import numpy as np
import onnxruntime
import triton_python_backend_utils as backend  # type: ignore[import-not-found]  # exists inside Triton's stub only


class TritonPythonModel:
    """Answers with every output of the model file that the configuration's parameter `model_file` names."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Open the model."""
        file = json.loads(arguments["model_config"])["parameters"]["model_file"]["string_value"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def execute(self, requests: Sequence[object]) -> list[object]:
        """Run the requests that the dynamic batcher gathered as one batch, and cut its outputs."""
        inputs = [backend.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        values = self._session.run(
            self._outputs, {self._input: np.concatenate(inputs) if len(inputs) > 1 else inputs[0]}
        )
        responses = []
        start = 0
        for rows in inputs:
            stop = start + len(rows)
            responses.append(
                backend.InferenceResponse(
                    [backend.Tensor(name, value[start:stop]) for name, value in zip(self._outputs, values, strict=True)]
                )
            )
            start = stop
        return responses
