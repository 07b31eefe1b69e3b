"""Owns bench.md: the tables, with every ratio beside the interval that identical measurements gave.

Never measures, and never rounds a figure before it has been compared.
"""

import operator
from collections.abc import Callable, Sequence

from loadtests.bench.client import Measurement
from loadtests.bench.figures import Spread, differs, paired_ratios, same_interval, spread
from loadtests.bench.machine import Machine
from loadtests.bench.results import AGAIN, CellResult, Plan, Run, StartResult
from loadtests.bench.servers import YARDSTICK

_MB = 1e6
_GENERATOR_LIMIT = 0.9
_DISTURBED_CORES = 0.1

Metric = Callable[[Measurement], float]
RATE, P50, P99, CPU = (operator.attrgetter(name) for name in ("requests_per_s", "p50_ms", "p99_ms", "server_cpu_ms"))


def render(run: Run) -> str:
    """Return the whole report as Markdown."""
    parts = [
        "# Side-by-side benchmark",
        setting(run.machine, run.plan),
        *warnings(run),
        "![Requests per second, latency and CPU of every server in every cell](bench.png)",
        _reading(run),
    ]
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for cell in run.cells:
        groups.setdefault((cell.body, cell.encoding), []).append(cell)
    for (body, encoding), cells in groups.items():
        rows = "1 row" if cells[0].rows == 1 else f"{cells[0].rows} rows"
        parts.append(
            f"## {body}, {encoding}, {rows} a request\n\n"
            f"{cells[0].request_bytes:,} bytes a request, {cells[0].answer_bytes:,} bytes an answer.\n\n"
            + _cell_table(cells, run.titles)
        )
    if any(cell.ceiling_rows_per_s for cell in run.cells):
        parts.append(
            "## Images against onnxruntime alone\n\n"
            "Rows a second of onnxruntime in a loop, one thread, same core, at its best batch size;\n"
            "a server's share of it is taken round by round.\n\n" + _ceiling_table(run)
        )
    if run.peers or run.left_out:
        parts.append("## Peers\n\n" + _peers(run))
    if run.starts:
        parts.append(
            "## Start and memory\n\n"
            "From the start of the process to the first 200 of the readiness probe; resident memory at that moment.\n\n"
            + _start_table(run.starts, run.titles)
        )
    return "\n\n".join(parts) + "\n"


def cell_ratio(cell: CellResult, server: str, metric: Metric) -> Spread | None:
    """Return the round-by-round ratio of `server` to the yardstick; None for the yardstick or without one."""
    if server == YARDSTICK or YARDSTICK not in cell.measurements:
        return None
    return paired_ratios(
        [metric(found) for found in cell.measurements[server]],
        [metric(found) for found in cell.measurements[YARDSTICK]],
    )


def identical_interval(cell: CellResult, metric: Metric) -> tuple[float, float]:
    """Return the A/A interval of `metric` in a cell: what the server that was measured twice differs from itself."""
    again = next(key for key in cell.measurements if key.endswith(AGAIN))
    return same_interval(
        [metric(found) for found in cell.measurements[again.removesuffix(AGAIN)]],
        [metric(found) for found in cell.measurements[again]],
    )


def best_ceiling(cell: CellResult) -> tuple[int, list[float]]:
    """Return the batch size at which onnxruntime alone had the highest median of rows a second, and its rounds."""
    return max(cell.ceiling_rows_per_s.items(), key=lambda item: spread(item[1]).median)


def ratio_text(ratio: Spread, same: tuple[float, float]) -> str:
    """Write a ratio with its extremes, marked when identical measurements could have given it."""
    doubt = "" if differs(ratio, same) else " ≈"
    return f"{ratio.median:.2f} [{ratio.lowest:.2f}–{ratio.highest:.2f}]{doubt}"


def median_text(found: Sequence[Measurement], metric: Metric) -> str:
    """Write the median of `metric` over the rounds."""
    value = spread([metric(one) for one in found]).median
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Lay out a Markdown table whose first `left` columns are texts, the rest figures."""
    marks = [":---" if column < left else "---:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, marks, *rows))


def setting(machine: Machine, plan: Plan) -> str:
    """Return where, when, with what and how a run was made."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    if plan.server_cores == plan.client_cores:
        cores = "Server and load generator share one core."
    else:
        cores = (
            f"Each server is pinned to {_cores(plan.server_cores)}, the load generator to {_cores(plan.client_cores)}"
            f"{' (two hardware threads per physical core)' if machine.threads_per_core > 1 else ''}."
        )
    return (
        f"Made {machine.at} at commit `{machine.commit}`, on {machine.processor}, {machine.cores} cores, "
        f"{machine.memory_gib:.0f} GiB, {machine.kernel}; {versions}.\n\n"
        f"{cores} {plan.rounds} rounds; in each, every server is measured for {plan.measure_s:g} s after "
        f"{plan.warmup_s:g} s of warm-up, in rotating order, the first one twice. onnxruntime has one intra-op thread "
        "everywhere."
    )


def _cores(cores: Sequence[int]) -> str:
    return f"core{'s' if len(cores) > 1 else ''} {', '.join(map(str, cores))}"


def warnings(run: Run) -> list[str]:
    """Return what a reader must know before any figure: others were at work, or the load generator was at its limit."""
    found = [measured for cell in run.cells for rounds in cell.measurements.values() for measured in rounds]
    lines = []
    others = spread([measured.other_cpu_s / measured.measured_s for measured in found])
    if others.median > _DISTURBED_CORES:
        lines.append(
            f"> **Disturbed run.** Other processes used {others.median:.2f} cores (median; up to {others.highest:.2f}) "
            "while it measured. Read requests/s and latencies as lower and upper bounds."
        )
    limited = sorted(
        {
            f"{run.titles[key.removesuffix(AGAIN)]} in {cell.cell}"
            for cell in run.cells
            for key, rounds in cell.measurements.items()
            if spread([measured.client_busy_share for measured in rounds]).median > _GENERATOR_LIMIT
        }
    )
    if limited:
        lines.append(
            f"> **Load generator at its limit** (over {_GENERATOR_LIMIT:.0%} of its core): {', '.join(limited)}. "
            "These servers could answer more; their CPU figures stand."
        )
    return lines


def _reading(run: Run) -> str:
    return f"""\
How to read it:

- Figures are medians over the rounds; `[a–b]` is the lowest and the highest round.
- **CPU** is the server's own user and system time (its whole process tree), in ms for 1,000 requests.
- **× bare** is the ratio to the bare ASGI app, which reads the body, ignores it and answers with as many bytes. Each
  round is compared with itself; `≈` marks a ratio that identical measurements could have given.
- *identical runs* says what those are: how far one server ({next(iter(run.titles.values()))}), measured twice in each
  round, differed from itself.
- **memory** is resident after the measurement, in brackets the highest until then; **generator** is the share of the
  time that the load generator was busy: it never sleeps, or its waking would stand in every server's latency.
- Connections are closed-loop: each sends its next request when its last answer is complete. Every request was answered
  200, and every server that runs models gave onnxruntime's own probabilities before it was measured.
- A JSON body holds float32 values printed as doubles, up to 18 digits each, as Python clients send them."""


def _cell_table(cells: Sequence[CellResult], titles: dict[str, str]) -> str:
    header = [
        "connections",
        "server",
        "requests/s",
        "× bare",
        "p50 ms",
        "p99 ms",
        "× bare",
        "CPU",
        "× bare",
        "memory MB",
        "generator",
    ]
    rows = []
    for cell in cells:
        for key, title in titles.items():
            if key in cell.failures:
                rows.append([str(cell.connections), title, "failed", *[""] * (len(header) - 3)])
            found = cell.measurements.get(key)
            if not found:
                continue
            rows.append(
                [
                    str(cell.connections),
                    title,
                    median_text(found, RATE),
                    _ratio(cell, key, RATE),
                    median_text(found, P50),
                    median_text(found, P99),
                    _ratio(cell, key, P99),
                    median_text(found, CPU),
                    _ratio(cell, key, CPU),
                    _memory(found),
                    f"{spread([one.client_busy_share for one in found]).median:.0%}",
                ]
            )
        rate, p50, p99, cpu = (_interval(cell, metric) for metric in (RATE, P50, P99, CPU))
        rows.append([str(cell.connections), "*identical runs*", "", rate, p50, "", p99, "", cpu, "", ""])
    return table(header, rows, left=2)


def _ceiling_table(run: Run) -> str:
    rows = []
    for cell in run.cells:
        if not cell.ceiling_rows_per_s:
            continue
        batch_rows, alone = best_ceiling(cell)
        for key, title in run.titles.items():
            if key == YARDSTICK or key not in cell.measurements:
                continue
            served = [found.requests_per_s * cell.rows for found in cell.measurements[key]]
            share = paired_ratios(served, alone)
            rows.append(
                [
                    cell.cell,
                    title,
                    f"{spread(served).median:,.0f}",
                    f"{spread(alone).median:,.0f} (batches of {batch_rows})",
                    f"{share.median:.0%} [{share.lowest:.0%}–{share.highest:.0%}]",
                ]
            )
    return table(["cell", "server", "rows/s", "onnxruntime alone", "share"], rows, left=2)


def _peers(run: Run) -> str:
    lines = []
    for name in dict.fromkeys(peer.name for peer in run.peers.values()):
        peer = next(peer for peer in run.peers.values() if peer.name == name)
        asked = "" if peer.dialect == "v2" else ' Asked in its own JSON, `{"rows": [[…]]}`, answered `[[…]]`.'
        lines.append(f"- {name}: {', '.join(f'{key} {value}' for key, value in peer.versions.items())}.{asked}")
    lines += [f"- {title} was left out: {reason}" for title, reason in run.left_out.items()]
    lines += [
        f"- {run.titles[key]} failed in {cell.cell}: {reason}"
        for cell in run.cells
        for key, reason in cell.failures.items()
    ]
    return "\n".join(lines)


def _start_table(starts: Sequence[StartResult], titles: dict[str, str]) -> str:
    rows = []
    for result in starts:
        ready, resident = spread(result.ready_s), spread(result.resident_bytes)
        rows.append(
            [
                titles[result.server],
                result.repository,
                f"{ready.median:.2f} [{ready.lowest:.2f}–{ready.highest:.2f}]",
                f"{resident.median / _MB:.0f}",
                str(len(result.ready_s)),
            ]
        )
    return table(["server", "repository", "ready after s", "resident MB", "starts"], rows, left=2)


def _memory(found: Sequence[Measurement]) -> str:
    resident, peak = spread([one.resident_bytes for one in found]), max(one.peak_resident_bytes for one in found)
    return f"{resident.median / _MB:.0f} ({peak / _MB:.0f})"


def _ratio(cell: CellResult, server: str, metric: Metric) -> str:
    ratio = cell_ratio(cell, server, metric)
    if ratio is None:
        return ""
    return ratio_text(ratio, identical_interval(cell, metric))


def _interval(cell: CellResult, metric: Metric) -> str:
    lowest, highest = identical_interval(cell, metric)
    return f"{lowest:.2f}–{highest:.2f}"
