"""The dashboard Batching and capacity: where requests wait, how runs are filled, and what the processes use."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from dashboards.boards import SHARED, VERSION, Section, compose
from dashboards.panels import ORANGE, RED, VERSION_STATES, Column, Panel, Query, Words, grid, heat, lines, timeline
from dashboards.queries import mean, quantile, rate, worst

MODEL = ("model", "version")
NAME = "{{model}}:{{version}}"
REPLICA = 'job="gateway", instance=~"$replica"'


def capacity() -> dashboard.Dashboard:
    """Make the dashboard."""
    return compose(
        "gateway-capacity",
        "Gateway: Batching and capacity",
        "Do requests wait, are runs filled, and is there room left?",
        [
            Section("Queue", _queue()),
            Section("Batches", _batches()),
            Section("Sessions", _sessions()),
            Section("Processes", _processes()),
            Section("Versions", _versions()),
        ],
    )


def _queue() -> list[Panel]:
    return [
        lines(
            Words(
                title="Queue delay",
                says=(
                    "From arrival to the start of the run: the median and one in a hundred. It "
                    "grows before anything fails: near the objective, add replicas."
                ),
                alert="GatewayQueueDelayHigh",
            ),
            *(
                Query(quantile(share, "gateway_queue_delay_seconds", VERSION, MODEL), f"{NAME} {share:.0%}")
                for share in (0.5, 0.99)
            ),
            unit="s",
            steps=[(0.1, RED)],
        ),
        lines(
            Words(
                title="Queue, share of max_queue_rows",
                says="Rows that wait on the fullest replica. At 100 % requests get 503; a longer queue only hides it.",
                alert="GatewayQueueNearlyFull",
            ),
            Query(
                f"max by (model, version) (gateway_queue_rows{{{VERSION}}} "
                f"/ on (instance, model, version) gateway_max_queue_rows{{{VERSION}}})",
                NAME,
            ),
            unit="percentunit",
            most=1,
            steps=[(0.8, ORANGE)],
        ),
        lines(
            Words(
                title="Refused or given up",
                says=(
                    "overloaded: no room. deadline: waited too long. cancelled: the caller left. "
                    "invalid: the caller's fault. failed: a run failed. not_ready, shutting_down: "
                    "asked the wrong moment."
                ),
                alert="GatewayOverloaded",
            ),
            Query(
                rate("gateway_rejected_total", 'model=~"$model", instance=~"$replica"', ["model", "reason"]),
                "{{model}} {{reason}}",
            ),
            unit="reqps",
        ),
        heat(
            Words(
                title="Queue delay, all requests",
                says="How the waits are spread. Two bands: a long run holds up those behind it; see batch rows.",
                alert="GatewayQueueDelayHigh",
            ),
            Query(rate("gateway_queue_delay_seconds_bucket", VERSION, ["le"]), "{{le}}"),
            unit="s",
            width=12,
        ),
        heat(
            Words(
                title="Run time, all runs",
                says="How long runs take. A new band after a release: a slower version, or larger batches.",
                alert="GatewayLatencyBurnFast",
            ),
            Query(rate("gateway_inference_duration_seconds_bucket", VERSION, ["le"]), "{{le}}"),
            unit="s",
            width=12,
        ),
    ]


def _batches() -> list[Panel]:
    return [
        lines(
            Words(
                title="Rows of a run",
                says=(
                    "Mean and 95 %. 1 while the queue grows: these requests do not share runs; "
                    "/admin/v1/models says why."
                ),
                alert="GatewayQueueDelayHigh",
            ),
            Query(mean("gateway_batch_rows", VERSION, MODEL), f"{NAME} mean"),
            Query(quantile(0.95, "gateway_batch_rows", VERSION, MODEL), f"{NAME} 95 %"),
            unit="short",
        ),
        lines(
            Words(
                title="Why runs began",
                says=(
                    "drained: took all that waited. full, preferred: a whole batch. delay: waited for company. "
                    "shape, oversize, single: cannot share. isolated: ran again alone after a failure. "
                    "shadow: in spare time. Mostly full: at capacity."
                ),
                alert="GatewayQueueNearlyFull",
            ),
            Query(rate("gateway_batches_total", VERSION, ["reason"]), "{{reason}}"),
            unit="percentunit",
            stack="percent",
        ),
        lines(
            Words(
                title="Rows run",
                says="The work done. Flat while requests rise: the sessions are the limit.",
                alert="GatewayOverloaded",
            ),
            Query(rate("gateway_batch_rows_sum", VERSION, MODEL), NAME),
            unit="rowsps",
            stack="normal",
        ),
    ]


def _sessions() -> list[Panel]:
    return [
        lines(
            Words(
                title="Utilisation",
                says=(
                    "Seconds of runs a second on each replica. 100 % of one instance is all it can "
                    "do; from 80 % on waits grow quickly. Add replicas, or instances if there are "
                    "processors."
                ),
                alert="GatewayOverloaded",
            ),
            Query(
                rate("gateway_inference_duration_seconds_sum", VERSION, ["instance", *MODEL]), NAME + " {{instance}}"
            ),
            unit="percentunit",
            steps=[(0.8, ORANGE)],
            width=12,
        ),
        lines(
            Words(
                title="Run time",
                says=(
                    "One onnxruntime run: the median and one in a hundred. Slower without larger "
                    "batches: other work on the CPU."
                ),
                alert="GatewayLatencyBurnFast",
            ),
            *(
                Query(quantile(share, "gateway_inference_duration_seconds", VERSION, MODEL), f"{NAME} {share:.0%}")
                for share in (0.5, 0.99)
            ),
            unit="s",
            width=12,
        ),
    ]


def _processes() -> list[Panel]:
    return [
        lines(
            Words(
                title="Event loop lag",
                says="How late timers run, and with them every request. Over 50 ms: too little CPU, or a blocked loop.",
                alert="GatewayEventLoopLag",
            ),
            Query(f"max by (instance) (gateway_event_loop_lag_seconds{{{REPLICA}}})", "{{instance}}"),
            unit="s",
            steps=[(0.05, ORANGE)],
            width=6,
        ),
        lines(
            Words(
                title="CPU",
                says=(
                    "Processors used. Flat at what the container may use: it is throttled; give it "
                    "more, or add replicas."
                ),
                alert="GatewayEventLoopLag",
            ),
            Query(
                f"sum by (instance) (rate(process_cpu_seconds_total{{{REPLICA}}}[$__rate_interval]))", "{{instance}}"
            ),
            unit="none",
            width=6,
        ),
        lines(
            Words(
                title="Memory",
                says="Resident memory. Steps are loads and unloads; a slope over days is a leak worth reporting.",
                alert="GatewayReplicaDown",
            ),
            Query(f"max by (instance) (process_resident_memory_bytes{{{REPLICA}}})", "{{instance}}"),
            unit="bytes",
            width=6,
        ),
        lines(
            Words(
                title="File descriptors, share of the limit",
                says="Connections mostly. Near 100 %: raise the process's limit, or lower max_connections below it.",
                alert="GatewayOverloaded",
            ),
            Query(
                f"max by (instance) (process_open_fds{{{REPLICA}}} / process_max_fds{{{REPLICA}}})",
                "{{instance}}",
            ),
            unit="percentunit",
            most=1,
            steps=[(0.8, ORANGE)],
            width=6,
        ),
    ]


def _versions() -> list[Panel]:
    return [
        timeline(
            Words(
                title="Versions",
                says=(
                    "The gravest state over the replicas. FAILED: the reason is in /admin/v1/models "
                    "and `gateway models`."
                ),
                alert="GatewayModelVersionFailed",
            ),
            Query(f"model_version:gateway_model_version_state:max{{{SHARED}}}", NAME),
            names=VERSION_STATES,
            width=12,
        ),
        lines(
            Words(
                title="Load time",
                says="From reading the file to READY, on the slowest replica. It bounds how fast you can roll back.",
                alert="GatewayModelVersionFailed",
            ),
            Query(worst("gateway_model_load_duration_seconds", VERSION, MODEL), NAME),
            unit="s",
            width=6,
        ),
        grid(
            Words(
                title="Replicas",
                says="Which release each runs and for how long. Short, again and again: it crashes; read its log.",
                alert="GatewayReplicaDown",
            ),
            Column(
                title="up for",
                expression=f"time() - max by (instance) (process_start_time_seconds{{{REPLICA}}})"
                f" + on (instance) group_left (version) 0 * gateway_build_info{{{REPLICA}}}",
                unit="s",
            ),
            rows=("instance", "version"),
            sort="up for",
            width=6,
            height=8,
        ),
    ]
