"""Owns the MLServer runtime: one ONNX model behind `MLModel`, run by onnxruntime with one thread.

Never imported by the benchmark: MLServer opens it, in MLServer's environment.
"""

import onnxruntime
from mlserver import MLModel  # type: ignore[import-not-found]  # installed in the peer's own environment only
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]  # as above
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]  # as above


class OnnxRuntime(MLModel):  # type: ignore[misc]  # mypy sees no MLServer, so its class is Any
    """Answers with every output of the model at `parameters.uri`."""

    async def load(self) -> bool:
        """Open the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run the model where MLServer runs it: on its event loop, which is fastest for runs this short."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        values = self._session.run(self._outputs, {self._input: rows})
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, value) for name, value in zip(self._outputs, values, strict=True)],
        )
