"""Owns how BentoML is started: its home is the working directory, and it reports to nobody.

Never imported by the benchmark.

Runs, in BentoML's environment, as `python -m loadtests.bench.peers.bentoml_start MODEL.onnx --port N`.
"""

import argparse
import os
import sys
from pathlib import Path


def main() -> None:
    """Run `bentoml serve` in this process's place."""
    parser = argparse.ArgumentParser(prog="bentoml_start")
    parser.add_argument("file")
    parser.add_argument("--port", required=True)
    arguments = parser.parse_args()
    environment = {
        **os.environ,
        "BENCH_MODEL_FILE": arguments.file,
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(Path.cwd()),
    }
    command = Path(sys.executable).with_name("bentoml")
    service = "loadtests.bench.peers.bentoml_service:OnnxService"
    options = ["--host", "127.0.0.1", "--port", arguments.port]
    # The process that is measured is the server itself, not one that started it.
    os.execve(command, [str(command), "serve", service, *options], environment)  # noqa: S606 - no shell, fixed arguments


if __name__ == "__main__":
    main()
