"""Owns the ceiling: rows per second that onnxruntime alone gives in a loop, in a process of its own.

Never serves anything: no HTTP, no parsing, the input lies ready.

Runs as `python -m loadtests.bench.ceiling MODEL.onnx --rows 1 --rows 8 --seconds 0.5`.
Prints {"1": <rows/s>, "8": <rows/s>}.
"""

import argparse
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime


def rows_per_s(session: onnxruntime.InferenceSession, rows: int, duration_s: float) -> float:
    """Run batches of `rows` seeded float32 rows for `duration_s`, after a warm-up of ten runs."""
    description = session.get_inputs()[0]
    tensor = np.random.default_rng(rows).standard_normal((rows, *description.shape[1:]), dtype=np.float32)
    feed = {description.name: tensor}
    for _ in range(10):
        session.run(None, feed)
    runs = 0
    started_at = now = time.perf_counter()
    while now - started_at < duration_s:
        session.run(None, feed)
        runs += 1
        now = time.perf_counter()
    return runs * rows / (now - started_at)


def main() -> None:
    """Measure each batch size in turn."""
    parser = argparse.ArgumentParser(prog="ceiling")
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, action="append", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    found = {rows: rows_per_s(session, rows, arguments.seconds) for rows in arguments.rows}
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
