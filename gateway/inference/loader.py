"""Turns a version's files into a version that may answer: sessions, golden requests, self-test, warm-up.

Runs in a loader thread, start to end; never touches the registry and never serves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.errors import GatewayError, InvalidInput, InvalidModel, LoadFailed, unknown_name
from gateway.inference.declared_session import declared_session
from gateway.inference.execution import Joined
from gateway.inference.manifest import Golden, GoldenCase, Manifest
from gateway.inference.memory import give_back, resident_bytes
from gateway.inference.model_config import Batching, ModelConfig
from gateway.inference.repository import VersionFiles
from gateway.inference.run_time import RunTime
from gateway.inference.samples import (
    Inputs,
    as_array,
    bfloat16_values,
    golden_inputs,
    joined_sample,
    random_inputs,
    repeated_rows,
)
from gateway.inference.self_test import rows_are_independent
from gateway.inference.session import OnnxSession, Session
from gateway.inference.signature import FREE_ROWS, Signature
from gateway.inference.triton_config import TritonModelConfig
from gateway.inference.warmup import run_samples, sample_inputs
from gateway.messages import Array, ModelVersion

_SLOW_RUN_S = 0.5
_LEAST_RUNS = 3
_MOST_RUNS = 10
_TIMED_S = 0.02
_MUCH = 2.0


@dataclass(frozen=True, slots=True)
class Sharing:
    """Whether requests of this version may share a run, and why.

    Attributes:
        fixed_rows: Rows that every run has: batches are padded to them and cut again. The file fixes its first axis, or
            a device takes long to change to another size. None when free.
    """

    shares_runs: bool
    reason: str
    fixed_rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVersion:
    """Everything a READY version needs to answer.

    Attributes:
        signature: What callers see: fixed rows that are padded appear as free.
        sessions: One per instance.
        file_bytes: Size of model.onnx. grown_bytes: Resident memory the load added, roughly.
    """

    key: ModelVersion
    sha256: str
    manifest: Manifest | None
    config: ModelConfig
    signature: Signature
    sessions: tuple[Session, ...]
    sharing: Sharing
    run_time: RunTime
    file_bytes: int
    grown_bytes: int
    load_s: float

    def equivalent_rows(self, requests: Sequence[Joined], rows: int) -> int:
        """Return how many warm-up rows a run of these requests is worth, to predict its time.

        Args:
            rows: Of all of them.
        """
        if self.sharing.fixed_rows is not None:  # what was timed at load is a padded run
            return -(-rows // self.sharing.fixed_rows)
        if self.signature.is_static:
            return rows
        elements = sum(array.size for request in requests for array in request.inputs.values())
        return max(rows, self.run_time.equivalent_rows(elements))


def load_version(key: ModelVersion, files: VersionFiles, config: ModelConfig) -> LoadedVersion:
    """Open, test and warm one version.

    Raises: LoadFailed: with the reason it may not be READY.
    """
    started = time.perf_counter()
    resident = resident_bytes()
    sessions: list[Session] = [
        OnnxSession(files.model, config.execution, name=str(key), external_folder=files.external_folder)
        for _ in range(config.execution.instances)
    ]
    triton = config if isinstance(config, TritonModelConfig) else None
    if triton is not None:
        sessions = [declared_session(session, triton) for session in sessions]
    session = sessions[0]
    declared = session.signature
    _check_outputs(declared, config)
    golden = golden_inputs(declared, files.golden) if files.golden else []
    if files.golden:
        run_golden(session, files.golden, golden)
    asked = sample_inputs(declared, triton) if triton is not None else []
    sample = joined_sample(declared, golden or asked)
    sharing = decide_sharing(session, config.batching, sample=sample)
    signature = declared.with_free_rows() if sharing.fixed_rows else declared
    run_time = warm_up(sessions, config.batching, sharing, sample=sample)
    one_size = decide_size(session, config.batching, sharing, run_time, sample=sample)
    if one_size is not sharing:
        sharing = one_size
        run_time = warm_up(sessions, config.batching, sharing, sample=sample)
    if triton is not None:
        run_samples(sessions, triton, asked, rows=sharing.fixed_rows)
    give_back()
    return LoadedVersion(
        key=key,
        sha256=files.sha256,
        manifest=files.manifest,
        config=config,
        signature=signature,
        sessions=tuple(sessions),
        sharing=sharing,
        run_time=run_time,
        file_bytes=len(files.model),
        grown_bytes=max(0, resident_bytes() - resident),
        load_s=time.perf_counter() - started,
    )


def run_golden(session: Session, golden: Golden, inputs: list[Inputs]) -> None:
    """Ask the golden requests.

    Raises: InvalidModel: a request does not fit or fails, or an answer differs by more than its tolerance.
    """
    for number, (case, arrays) in enumerate(zip(golden.cases, inputs, strict=True)):
        where = f"golden.json: case {number}"
        answers = _ask(session, arrays, where)
        for name, expected in case.outputs.items():
            spec = session.signature.output_by_name.get(name)
            if spec is None:
                raise InvalidModel(f"{where}: the model has no output '{name}'")
            wanted = as_array(expected, spec, where=f"{where}: '{name}'")
            got = answers[name]
            if spec.datatype == "BF16":
                got, wanted = bfloat16_values(got), bfloat16_values(wanted)
            _compare_golden(case, name, got, wanted, where)


def _ask(session: Session, inputs: Inputs, where: str) -> Inputs:
    try:
        session.signature.check(inputs, model=where)
    except InvalidInput as exc:
        raise InvalidModel(str(exc)) from exc
    try:
        return dict(zip(session.signature.output_by_name, session.run(inputs, ()), strict=True))
    except GatewayError as exc:
        raise InvalidModel(f"{where}: {exc}") from exc


def _compare_golden(case: GoldenCase, name: str, got: Array, wanted: Array, where: str) -> None:
    if got.shape != wanted.shape:
        raise InvalidModel(f"{where}: output '{name}' has shape {list(got.shape)}, expected {list(wanted.shape)}")
    if got.dtype == object or not np.issubdtype(got.dtype, np.inexact):
        equal = bool(np.array_equal(got, wanted))
    else:
        equal = bool(np.allclose(got, wanted, rtol=case.tolerance, atol=case.tolerance, equal_nan=True))
    if not equal:
        raise InvalidModel(f"{where}: output '{name}' differs by more than {case.tolerance}")


def _check_outputs(signature: Signature, config: ModelConfig) -> None:
    """See that the outputs named in model.toml exist: a setting without effect would not be noticed.

    Raises: InvalidModel: one does not.
    """
    for key, name in (("score", config.outputs.score), ("label", config.outputs.label)):
        if name and name not in signature.output_by_name:
            raise InvalidModel(unknown_name(f"model.toml: key 'outputs.{key}'", name, signature.output_by_name))


def decide_sharing(session: Session, batching: Batching, *, sample: Inputs | None) -> Sharing:
    """Find out whether run(a ⊕ b) = run(a) ⊕ run(b), the only ground on which requests may share a run."""
    signature = session.signature
    if batching.enabled is False:
        return Sharing(shares_runs=False, reason="switched off by batching.enabled")
    if signature.rows is None or not signature.inputs:
        return Sharing(shares_runs=False, reason="inputs and outputs have no first axis in common")
    if signature.rows == FREE_ROWS and not signature.same_rows_axis and not batching.enabled:
        return Sharing(
            shares_runs=False,
            reason="inputs and outputs name their first axis differently; batching.enabled = true says they are rows",
        )
    try:
        independent = rows_are_independent(session, sample)
    except GatewayError as exc:
        return Sharing(shares_runs=False, reason=f"the self-test could not run: {exc}")
    if not independent:
        return Sharing(shares_runs=False, reason="the self-test found that rows influence each other")
    if signature.rows == FREE_ROWS:
        return Sharing(shares_runs=True, reason="the self-test found rows independent")
    return Sharing(
        shares_runs=True,
        reason=f"the self-test found rows independent; batches are padded to {signature.rows} rows",
        fixed_rows=signature.rows,
    )


def warm_up(sessions: list[Session], batching: Batching, sharing: Sharing, *, sample: Inputs | None) -> RunTime:
    """Run every instance at 1, the powers of two and max_rows, and time what a batch of each size takes.

    Raises: LoadFailed: a run fails on the publisher's own sample; made-up inputs may be refused.
    """
    limit = batching.max_rows if sharing.shares_runs and not sharing.fixed_rows else 1
    sizes = sorted({*(2**k for k in range(limit.bit_length())), limit})
    run_time = RunTime(limit)
    random = np.random.default_rng(21)
    for session in sessions:
        for size in sizes:
            rows = sharing.fixed_rows or size
            inputs = _warm_inputs(session, rows, random, sample)
            try:
                seconds = _fastest(session, inputs)
            except GatewayError as exc:
                if sample is not None:
                    raise LoadFailed(f"warm-up with {rows} rows failed: {exc}") from exc
                return run_time
            run_time.start_from(size, seconds, elements=sum(array.size for array in inputs.values()))
    return run_time


def decide_size(
    session: Session, batching: Batching, sharing: Sharing, run_time: RunTime, *, sample: Inputs | None
) -> Sharing:
    """Have every run padded to one size where a device takes longer to change the size than to run the padding.

    cuDNN searches its algorithms anew for every convolution whose input has another shape than the last one had: tens
    of milliseconds, in a batch that would take one.

    Args:
        run_time: What a run of each size takes once the size is the last one's.
    """
    rows = min(batching.max_rows, run_time.efficient_rows())
    if not sharing.shares_runs or sharing.fixed_rows or session.providers[0] == "cpu" or rows == 1:
        return sharing
    random = np.random.default_rng(23)  # the last run was of more rows than one
    one, many = (_warm_inputs(session, size, random, sample) for size in (1, rows))
    try:
        change_s = min(_seconds(session, inputs) for _ in range(3) for inputs in (one, many))
        padded_s = _fastest(session, many)
    except GatewayError:  # made-up values may be refused
        return sharing
    if change_s < _MUCH * padded_s:
        return sharing
    why = f"another size takes {change_s * 1e3:.1f} ms to set up"
    reason = f"{sharing.reason}; batches are padded to {rows} rows: {why}"
    return Sharing(shares_runs=True, reason=reason, fixed_rows=rows)


def _warm_inputs(session: Session, rows: int, random: np.random.Generator, sample: Inputs | None) -> Inputs:
    if sample is None:
        return random_inputs(session.signature, rows, random, scale=1.0)
    return repeated_rows(sample, rows) if session.signature.rows is not None else sample


def _seconds(session: Session, inputs: Inputs) -> float:
    started = time.perf_counter()
    session.run(inputs, ())
    return time.perf_counter() - started


def _fastest(session: Session, inputs: Inputs) -> float:
    """Seconds of the quickest of some runs: the first may still allocate, and others may be disturbed.

    Three are too few where they are over in a moment: a size that seems no better than a smaller one is not run again.
    """
    best = float("inf")
    spent_s = 0.0
    for count in range(1, _MOST_RUNS + 1):
        seconds = _seconds(session, inputs)
        best = min(best, seconds)
        spent_s += seconds
        if best > _SLOW_RUN_S or (count >= _LEAST_RUNS and spent_s > _TIMED_S):
            break
    return best
