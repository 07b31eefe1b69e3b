"""Owns the check before the clock starts: every server that runs models must give onnxruntime's own answers.

Never measures; a server that computes something else is refused, not compared.
"""

import http.client
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from loadtests.bench import models, payloads
from loadtests.bench.cells import Cell
from loadtests.bench.process import BenchFailure, RunningServer

_TOLERANCE = 1e-4


def expected_probabilities(cell: Cell, repository: Path) -> list[payloads.FloatArray]:
    """Return what onnxruntime itself answers to each request of the cell's body, float32, (rows, classes)."""
    file = models.model_file(repository, cell.body.model)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [
        np.asarray(session.run(["probabilities"], {cell.body.input_name: tensor})[0], dtype=np.float32)
        for tensor in payloads.inputs(cell.body)
    ]


def check_answers(
    target: RunningServer,
    cell: Cell,
    bodies: Sequence[tuple[bytes, int | None]],
    expected: Sequence[payloads.FloatArray],
) -> int:
    """Send every request once and compare; return the size of the first answer's body.

    Raises: BenchFailure: an answer is no inference answer, or its probabilities differ.
    """
    path = target.server.infer_path.format(model=cell.body.model)
    sizes = []
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30.0)
    try:
        for (content, json_bytes), wanted in zip(bodies, expected, strict=True):
            connection.request("POST", path, content, payloads.headers(json_bytes))
            response = connection.getresponse()
            answer = response.read()
            head = response.getheader("inference-header-content-length")
            got = payloads.probabilities(
                response.status, answer, None if head is None else int(head), target.server.dialect
            )
            if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=_TOLERANCE, atol=_TOLERANCE):
                raise ValueError(f"probabilities differ from onnxruntime's by more than {_TOLERANCE}")
            sizes.append(len(answer))
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise BenchFailure(f"{cell.name}: {target.server.title}: {exc}") from exc
    finally:
        connection.close()
    return sizes[0]
