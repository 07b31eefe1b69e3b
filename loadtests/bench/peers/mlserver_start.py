"""Owns MLServer's settings files, written into the working directory, and becomes `mlserver start`.

Never imported by the benchmark.

Runs, in MLServer's environment, as `python -m loadtests.bench.peers.mlserver_start MODEL.onnx --name tabular
--port N --grpc-port N --workers 0 [--batching]`.
"""

import argparse
import json
import os
import sys
from pathlib import Path

# As many rows as a batch of 64 connections can be sure to find, and the least wait that still lets them gather:
# with 64 rows, or a wait of 1 ms, it was slower at every number of connections.
_BATCHING = {"max_batch_size": 32, "max_batch_time": 0.0001}


def main() -> None:
    """Write the settings, then run MLServer in this process's place."""
    parser = argparse.ArgumentParser(prog="mlserver_start")
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--batching", action="store_true")
    arguments = parser.parse_args()
    server = {
        "host": "127.0.0.1",
        "http_port": arguments.port,
        "grpc_port": arguments.grpc_port,
        "parallel_workers": arguments.workers,
        # What costs time and is not needed to answer: debug logs, its own metrics, compressed answers.
        "debug": False,
        "metrics_endpoint": None,
        "gzip_enabled": False,
    }
    model = {
        "name": arguments.name,
        "implementation": "loadtests.bench.peers.mlserver_runtime.OnnxRuntime",
        "parameters": {"uri": str(arguments.file)},
        **(_BATCHING if arguments.batching else {}),
    }
    Path("settings.json").write_text(json.dumps(server), encoding="utf-8")
    Path("model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    command = Path(sys.executable).with_name("mlserver")
    # The process that is measured is the server itself, not one that started it.
    os.execv(command, [str(command), "start", "."])  # noqa: S606 - no shell, fixed arguments


if __name__ == "__main__":
    main()
