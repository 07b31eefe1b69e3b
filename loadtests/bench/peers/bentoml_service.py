"""Owns the BentoML service: one ONNX model, batched, run by onnxruntime with one thread.

Never imported by the benchmark: `bentoml serve` opens it, in BentoML's environment; the variable BENCH_MODEL_FILE names
the model.
"""

import os

import bentoml  # type: ignore[import-not-found]  # installed in the peer's own environment only
import numpy as np
import numpy.typing as npt
import onnxruntime

# Far above any latency seen: what would take longer is refused with 503, and that would end the comparison.
_MAX_LATENCY_MS = 10_000


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class OnnxService:
    """Answers {"rows": [[…]]} with the probabilities, [[…]]."""

    def __init__(self) -> None:
        """Open the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL_FILE"], options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=_MAX_LATENCY_MS)  # type: ignore[untyped-decorator]  # as above
    def infer(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the model on what BentoML has gathered."""
        values: npt.NDArray[np.float32] = self._session.run(
            ["probabilities"], {self._input: np.asarray(rows, dtype=np.float32)}
        )[0]
        return values
