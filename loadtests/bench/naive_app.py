"""Owns the handler most teams write first: a Starlette route that parses, calls `session.run` inline and answers.

Never batches, validates, counts or leaves the event loop; it does use the fastest JSON parser there is.

Runs as `python -m loadtests.bench.naive_app REPOSITORY --port PORT`.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


class NaiveHandler:
    """Answers Open Inference Protocol v2 for models with one float32 input."""

    def __init__(self, repository: Path) -> None:
        """Open version 1 of every model in `repository`, one intra-op thread each."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._sessions = {
            file.parent.parent.name: onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            for file in repository.glob("*/1/model.onnx")
        }
        self._outputs = {
            name: [(output.name, _DATATYPES[output.type]) for output in session.get_outputs()]
            for name, session in self._sessions.items()
        }

    async def infer(self, request: Request) -> Response:
        """Run one request through its model."""
        name = request.path_params["model"]
        content = await request.body()
        json_bytes = int(request.headers.get("inference-header-content-length", len(content)))
        asked = orjson.loads(content[:json_bytes])
        tensor = asked["inputs"][0]
        if "data" in tensor:
            rows = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        else:
            rows = np.frombuffer(content[json_bytes:], dtype=np.float32).reshape(tensor["shape"])
        values = self._sessions[name].run(None, {tensor["name"]: rows})
        binary = asked.get("parameters", {}).get("binary_data_output", False)
        outputs = []
        raw = []
        for (output, datatype), value in zip(self._outputs[name], values, strict=True):
            entry = {"name": output, "datatype": datatype, "shape": list(value.shape)}
            if binary:
                raw.append(value.tobytes())
                entry["parameters"] = {"binary_data_size": len(raw[-1])}
            else:
                entry["data"] = value.ravel().tolist()
            outputs.append(entry)
        head = orjson.dumps({"model_name": name, "model_version": "1", "outputs": outputs})
        if not binary:
            return Response(head, media_type="application/json")
        return Response(
            b"".join((head, *raw)),
            media_type="application/octet-stream",
            headers={"inference-header-content-length": str(len(head))},
        )

    async def ready(self, _request: Request) -> Response:
        """Answer 200: the models were opened before the socket was."""
        return Response()


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(prog="naive_app")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    handler = NaiveHandler(arguments.repository)
    app = Starlette(
        routes=[
            Route("/v2/health/ready", handler.ready),
            Route("/v2/models/{model}/infer", handler.infer, methods=["POST"]),
        ]
    )
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
