"""Owns docs/performance.md: the gateway beside its peers, the aims it was built for, and what is not claimed.

Never measures; every figure comes from the result file, the words around them are kept here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.cells import BODIES
from loadtests.bench.figures import Spread, paired_ratios, spread
from loadtests.bench.report import (
    CPU,
    P50,
    P99,
    RATE,
    Metric,
    identical_interval,
    median_text,
    ratio_text,
    setting,
    table,
    warnings,
)
from loadtests.bench.results import CellResult, Run
from loadtests.bench.servers import GATEWAY

_MB = 1e6

_HEAD = """\
# Performance

The gateway beside other inference servers: the same models, the same numbers in the requests, the same core, in one
run whose measurements are interleaved. `make bench PEERS=1` makes this page and its figures; no figure is written by
hand."""

_READING = """\
- Figures are medians over the rounds. **gateway is ×** and **gateway's p99 is ×** compare the gateway with that server
  round by round; `[a–b]` is the lowest and the highest round. More than 1 is better for requests/s, less for p99.
- *identical runs* says how far the gateway, measured twice in every round, differed from itself. A ratio inside that
  interval is marked `≈`: it is no difference.
- **CPU** is user and system time of the server's whole process tree, in ms for 1,000 requests; **memory** is what is
  resident in that tree.
- Every server that runs models gave onnxruntime's own probabilities before the clock started, and answered every
  request with 200. Connections are closed-loop: each sends its next request when its last answer is complete. The load
  generator never sleeps between them: the time its core takes to wake up would stand in every server's latency.
- *bare ASGI on uvicorn* runs no model: it reads the body, ignores it and answers with as many bytes as the gateway.

All figures of this run, with the memory at its highest and the times to start, are in [its full report]({details})."""

_AIMS = """\
What the gateway was built to reach, against the best of a peer's configurations in each figure. *Reached* says in how
many rounds it was."""

_CONFIGURATIONS = """\
Every server has one core, and onnxruntime one intra-op thread. Each peer opens only the model that is asked, the
gateway all three. Access logs and metrics of the peers are off, the gateway's metrics are on. `make bench` installs
every peer in an environment of its own; what is not said here is as the peer's package has it by default."""

_SET_UP = {
    "MLServer": (
        "A runtime of our own calls onnxruntime on the event loop. uvloop and httptools, which the package does not "
        "ask for, make it faster and are installed; debug logs and gzip are off. Measured with 0 and with 1 parallel "
        "worker, each without and with adaptive batching (32 rows, 0.1 ms; longer waits were slower). Asked in Open "
        "Inference Protocol v2, as the gateway is; over HTTP it has no binary tensors."
    ),
    "LitServe": (
        "Batches of up to 64 rows and 1 ms, `fast_queue`, one worker. It has no protocol of its own: asked "
        '`{"rows": [[…]]}`, it answers `[[…]]`, the probabilities without the label. It polls while it waits, so it is '
        "stopped (SIGSTOP) while others are measured."
    ),
    "BentoML": (
        "`bentoml serve` with one worker and a batchable API of up to 64 rows, with uvloop and httptools. Asked "
        '`{"rows": [[…]]}`, it answers `[[…]]`, the probabilities without the label.'
    ),
    "Triton": (
        "The tritonserver that nvidia-pytriton bundles, started directly, without pytriton's proxy: its Python backend "
        "calls onnxruntime on what the dynamic batcher gathered (up to 64 rows, no waiting window, one instance). "
        "Asked in Open Inference Protocol v2, JSON and binary, as the gateway is."
    ),
}

_REPEAT = """\
```
make bench PEERS=1            # about nine minutes; the first time it installs the peers under .bench/ (1.4 GB)
make bench PEERS=1 QUICK=1    # two cells, about three minutes, written to loadtests/bench/results/partial/
make bench PEERS=1 ARGS='--servers gateway,bare,triton --cells mlp-json-64'
```

It needs Linux with two cores that have nothing else to do; a GPU is not used. The peers' releases are pinned in
`loadtests/bench/peers/*.txt`, their configurations are the files beside them. A peer that cannot be installed, or that
fails, is named in the report, and the others are measured."""

_NOT_CLAIMED = """\
- **Triton's native onnxruntime backend was not run.** The server that can be installed without a container brings the
  Python backend only. Expect the native one to be faster.
- One core for each server: Triton would use more cores with its threads, the others with more processes, the gateway
  with more replicas. Nothing here says how they compare then.
- No GPU, no TLS, no gRPC, no shared memory, no network between client and server.
- At one connection the gateway polls its socket for up to 0.25 ms before it sleeps, for a lone caller who asks again at
  once; the others sleep each time. Callers who pause longer find it asleep as well.
- Closed-loop connections: latencies at a fixed rate of arrivals are a different question.
- Small models, whose run time does not hide the server. The larger the model, the less the server matters.
- The configurations are ours. Whoever knows a peer better may make it faster; the files to change are named above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """What the gateway was to reach in one cell against one peer at its best."""

    cell: str
    peer: str
    metric: Metric
    measure: str
    bound: float
    at_least: bool
    """Whether the ratio of gateway to peer should be at least `bound`, or at most."""

    def reached(self, ratio: float) -> bool:
        """Say whether a ratio keeps the bound."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


def _rate(cell: str, peer: str, bound: float) -> Aim:
    return Aim(cell=cell, peer=peer, metric=RATE, measure="requests/s", bound=bound, at_least=True)


def _latency(cell: str, peer: str, bound: float) -> Aim:
    return Aim(cell=cell, peer=peer, metric=P99, measure="p99", bound=bound, at_least=False)


AIMS = (
    _rate("tabular-json-64", "MLServer", 7.0),
    _latency("tabular-json-64", "MLServer", 1 / 3),
    _rate("tabular-json-64", "Triton", 1.0),
    _latency("tabular-json-64", "Triton", 1.0),
    _rate("tabular-json-1", "MLServer", 3.5),
    _latency("tabular-json-1", "MLServer", 1 / 3),
    _rate("tabular-json-1", "Triton", 1.0),
    _latency("tabular-json-1", "Triton", 1.0),
    _rate("mlp-json-64", "MLServer", 6.0),
    _rate("mlp-json-64", "Triton", 1.1),
)


def best(run: Run, cell: CellResult, name: str, metric: Metric) -> str | None:
    """Return the key of the configuration of the peer `name` with the best median of `metric` in `cell`.

    Returns: None when no configuration of it was measured there.
    """
    keys = [key for key, peer in run.peers.items() if peer.name == name and key in cell.measurements]
    if not keys:
        return None
    sign = -1 if metric is RATE else 1
    return min(keys, key=lambda key: sign * spread([metric(one) for one in cell.measurements[key]]).median)


def against(cell: CellResult, key: str, metric: Metric) -> Spread:
    """Return the round-by-round ratio of the gateway to another server."""
    return paired_ratios(
        [metric(one) for one in cell.measurements[GATEWAY]], [metric(one) for one in cell.measurements[key]]
    )


def verdict(aim: Aim, ratios: Sequence[float]) -> str:
    """Say in how many rounds the aim was reached."""
    kept = sum(aim.reached(ratio) for ratio in ratios)
    if kept == len(ratios):
        return "yes"
    return f"in {kept} of {len(ratios)} rounds" if kept else "no"


def render(run: Run, *, details: str) -> str:
    """Return the page as Markdown.

    Args:
        run: A run with the gateway and at least one peer.
        details: Where the full report of the same run is, from the page.
    """
    parts = [
        _HEAD,
        "![Requests per second and 99th percentile latency of the gateway and its peers](images/performance.png)",
        setting(run.machine, run.plan),
        *warnings(run),
        _READING.format(details=details),
    ]
    parts += [f"## {title(cell)}\n\n{_cell_table(run, cell)}" for cell in run.cells]
    aims = _aims_table(run)
    if aims:
        parts.append(f"## Aims\n\n{_AIMS}\n\n{aims}")
    parts += [
        f"## Versions and configurations\n\n{_CONFIGURATIONS}\n\n{_versions(run)}",
        f"## How to repeat it\n\n{_REPEAT}",
        f"## What is not claimed\n\n{_NOT_CLAIMED}",
    ]
    return "\n\n".join(parts) + "\n"


def title(cell: CellResult) -> str:
    """Return what a cell is, in words."""
    numbers = 1
    for size in BODIES[cell.body].row_shape:
        numbers *= size
    connections = "1 connection" if cell.connections == 1 else f"{cell.connections} connections"
    return f"{numbers:,} numbers as {'JSON' if cell.encoding == 'json' else 'binary'}, {connections}"


def _cell_table(run: Run, cell: CellResult) -> str:
    bests = {best(run, cell, peer.name, RATE) for peer in run.peers.values()}
    several = {name for name in _names(run) if sum(peer.name == name for peer in run.peers.values()) > 1}
    rows = []
    for key, name in run.titles.items():
        found = cell.measurements.get(key)
        if found is None:
            if key in cell.failures:
                rows.append([name, "failed", *[""] * 6])
            continue
        label = f"**{name}** (its best)" if key in bests and run.peers[key].name in several else name
        rows.append(
            [
                f"**{name}**" if key == GATEWAY else label,
                median_text(found, RATE),
                _compared(cell, key, RATE),
                median_text(found, P50),
                median_text(found, P99),
                _compared(cell, key, P99),
                median_text(found, CPU),
                f"{spread([one.resident_bytes for one in found]).median / _MB:.0f}",
            ]
        )
    rate, p99 = (_interval(cell, metric) for metric in (RATE, P99))
    rows.append(["*identical runs*", "", rate, "", "", p99, "", ""])
    header = ["server", "requests/s", "gateway is ×", "p50 ms", "p99 ms", "gateway's p99 is ×", "CPU", "memory MB"]
    return table(header, rows, left=1)


def _compared(cell: CellResult, key: str, metric: Metric) -> str:
    if key == GATEWAY:
        return ""
    return ratio_text(against(cell, key, metric), identical_interval(cell, metric))


def _interval(cell: CellResult, metric: Metric) -> str:
    lowest, highest = identical_interval(cell, metric)
    return f"{lowest:.2f}–{highest:.2f}"


def _aims_table(run: Run) -> str:
    cells = {cell.cell: cell for cell in run.cells}
    rows = []
    for aim in AIMS:
        cell = cells.get(aim.cell)
        key = best(run, cell, aim.peer, aim.metric) if cell else None
        if cell is None or key is None:
            continue
        ratios = [
            aim.metric(ours) / aim.metric(theirs)
            for ours, theirs in zip(cell.measurements[GATEWAY], cell.measurements[key], strict=True)
        ]
        found = spread(ratios)
        rows.append(
            [
                title(cell),
                aim.measure,
                run.titles[key],
                f"{'≥' if aim.at_least else '≤'} {aim.bound:.3g} ×",
                f"{found.median:.2f} [{found.lowest:.2f}–{found.highest:.2f}]",
                _interval(cell, aim.metric),
                verdict(aim, ratios),
            ]
        )
    if not rows:
        return ""
    header = ["cell", "measure", "against", "aim", "measured", "identical runs", "reached"]
    return table(header, rows, left=3)


def _names(run: Run) -> list[str]:
    return list(dict.fromkeys(peer.name for peer in run.peers.values()))


def _versions(run: Run) -> str:
    lines = []
    for name in _names(run):
        peer = next(peer for peer in run.peers.values() if peer.name == name)
        lines.append(f"- **{name}**: {', '.join(f'{key} {value}' for key, value in peer.versions.items())}.")
        if name in _SET_UP:
            lines[-1] += f" {_SET_UP[name]}"
    lines += [f"- {name} could not be installed: {reason}" for name, reason in run.left_out.items()]
    lines += [
        f"- {run.titles[key]} failed with {title(cell)}: {reason}"
        for cell in run.cells
        for key, reason in cell.failures.items()
    ]
    return "\n".join(lines)
