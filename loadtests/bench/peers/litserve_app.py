"""Owns the LitServe application: one ONNX model, batched, run by onnxruntime with one thread.

Never imported by the benchmark.

Runs, in LitServe's environment, as `python -m loadtests.bench.peers.litserve_app MODEL.onnx --port N`.
"""

import argparse
from collections.abc import Sequence

import litserve  # type: ignore[import-not-found]  # installed in the peer's own environment only
import numpy as np
import numpy.typing as npt
import onnxruntime

FloatArray = npt.NDArray[np.float32]

_MAX_BATCH_ROWS = 64
_BATCH_TIMEOUT_S = 0.001


class OnnxApi(litserve.LitAPI):  # type: ignore[misc]  # mypy sees no LitServe, so its class is Any
    """Answers {"rows": [[…]]} with the probabilities, [[…]]."""

    def __init__(self, file: str) -> None:
        """Remember the model; it is opened in the worker."""
        super().__init__(max_batch_size=_MAX_BATCH_ROWS, batch_timeout=_BATCH_TIMEOUT_S, api_path="/infer")
        self._file = file
        self._rows: list[int] = []

    def setup(self, _device: str) -> None:
        """Open the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self._file, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def decode_request(self, request: dict[str, list[object]]) -> FloatArray:
        """Make an array of one request."""
        return np.array(request["rows"], dtype=np.float32)

    def batch(self, inputs: Sequence[FloatArray]) -> FloatArray:
        """Join requests, and note where to cut."""
        self._rows = [len(rows) for rows in inputs]
        return np.concatenate(inputs)

    def predict(self, x: FloatArray) -> FloatArray:
        """Run the model."""
        values: FloatArray = self._session.run(["probabilities"], {self._input: x})[0]
        return values

    def unbatch(self, output: FloatArray) -> list[FloatArray]:
        """Cut the outputs where the inputs met."""
        return np.split(output, np.cumsum(self._rows)[:-1])

    def encode_response(self, output: FloatArray) -> list[list[float]]:
        """Make JSON of one answer."""
        answer: list[list[float]] = output.tolist()
        return answer


def main() -> None:
    """Serve until a signal ends it: one process takes requests, one runs the model."""
    parser = argparse.ArgumentParser(prog="litserve_app")
    parser.add_argument("file")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    server = litserve.LitServer(OnnxApi(arguments.file), accelerator="cpu", fast_queue=True, disable_openapi_url=True)
    server.run(
        host="127.0.0.1",
        port=arguments.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
