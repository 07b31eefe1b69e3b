"""Owns the processes of the story and what can be asked of them: two replicas, Redis, Prometheus, locust.

Never judges what it hears.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.processes import (
    ROOT,
    Answer,
    Child,
    LoadTestFailure,
    RunningGateway,
    ask,
    gateway,
    locust,
    prometheus,
    redis_server,
    until,
)
from loadtests.story.answers import DriftReport, Models, Replicas, RouteAnswer, Sample, query, read

MODEL = "breast_cancer"
REPLICAS = 2
DASHBOARDS = ROOT / "dashboards"

_SETTINGS = """\
[server]
drain_delay_s = 0.5
drain_timeout_s = 10

[monitoring]
bucket_s = {bucket_s}
window_buckets = 5
min_rows = 50
"""


NARROW = "digits"
NARROW_ROWS = 64
_NARROW_QUEUE = f"[batching]\nmax_queue_rows = {NARROW_ROWS}\n"
"""One request fills it: while another runs, and one more waits, the next is refused."""


@dataclass(slots=True)
class Stage:
    """Everything that runs.

    Attributes:
        folder: Where logs, the repository and Prometheus' data are.
        repository: A copy of the example models that the story may change.
        traffic: The locust process that is running, if any.
    """

    folder: Path
    repository: Path
    gateway: RunningGateway
    prometheus: str
    traffic_options: Sequence[str]
    traffic: Child | None = None
    _stack: ExitStack = field(default_factory=ExitStack)
    _runs: int = 0

    def send_traffic(self, *drift: str) -> int:
        """Start a locust run with these faults, and end the one before when it is under way.

        Returns: How many requests the one before sent.

        Raises: LoadTestFailure: it does not start, or the one before had a failed request.
        """
        self._runs += 1
        title = f"locust-{self._runs}"
        options = [*self.traffic_options, "--seed", str(self._runs)]
        for fault in drift:
            options += ["--drift", fault]
        begun = self._stack.enter_context(locust(self.gateway.data_url, options, folder=self.folder, title=title))

        def is_under_way() -> bool:
            if begun.exit_code is not None:
                raise LoadTestFailure(f"{title} ended with exit code {begun.exit_code}: {begun.last_lines()}")
            return "All users spawned" in begun.written()

        until(is_under_way, within_s=60, what=f"{title}: users")
        sent = self.end_traffic()
        self.traffic = begun
        return sent

    def end_traffic(self) -> int:
        """End the locust run, if there is one, and return how many requests it sent.

        Raises: LoadTestFailure: its thresholds were broken: a caller did not get an answer.
        """
        ended, self.traffic = self.traffic, None
        if ended is None:
            return 0
        code = ended.stop(signal.SIGINT)  # with a shape and without a web page locust does not hear SIGTERM
        if code != 0:
            said = [line for line in ended.written().splitlines() if "not passed" in line or " POST " in line]
            raise LoadTestFailure(f"{ended.title} ended with exit code {code}: {' | '.join(said[-4:])}")
        total = re.search(r"Aggregated +(\d+)", ended.written())
        return int(total[1]) if total else 0

    def publish(self, file: Path, data: Path) -> str:
        """Run `gateway publish` for the story's model and return what it printed.

        Raises: LoadTestFailure: it refused.
        """
        command = [sys.executable, "-m", "gateway", "publish", MODEL, str(file), "--data", str(data)]
        done = subprocess.run(
            [*command, "--repository", str(self.repository)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LoadTestFailure(f"gateway publish: {done.stderr.strip()}")
        return done.stdout.strip()

    # --- what the gateway says ---------------------------------------------------------------------

    def is_ready_everywhere(self, version: int) -> bool:
        """Tell whether a version of the model is READY on every replica.

        Raises: LoadTestFailure: it is FAILED on one, with the reason.
        """
        states = []
        for url in self.gateway.admin_urls:
            models = read(ask(f"{url}/admin/v1/models").content, Models).models
            found = [one for model in models if model.name == MODEL for one in model.versions if one.version == version]
            if found and found[0].state == "FAILED":
                raise LoadTestFailure(f"{MODEL}:{version} on {url}: {found[0].reason}")
            states += [one.state for one in found]
        return states == ["READY"] * REPLICAS

    def route(self, replica: int = 0) -> tuple[RouteAnswer, str]:
        """Return the route as one replica shows it, and its entity tag."""
        answer = ask(f"{self.gateway.admin_urls[replica]}/admin/v1/routes/{MODEL}")
        return read(self._accepted(answer).content, RouteAnswer), answer.headers["etag"]

    def change(self, path: str, body: object, *, method: str = "POST", tag: str | None = None) -> Answer:
        """Change or judge the route.

        Raises: LoadTestFailure: it was refused.
        """
        headers = {"content-type": "application/json"} | ({} if tag is None else {"if-match": tag})
        return self._accepted(self.gateway.admin(f"/admin/v1/routes/{MODEL}{path}", method, body, headers))

    def admin(self, path: str) -> Answer:
        """Ask the admin plane of the first replica.

        Raises: LoadTestFailure: it refuses.
        """
        return self._accepted(self.gateway.admin(path))

    def has_everywhere(self, revision: int) -> bool:
        """Tell whether every replica serves a revision, by what each says itself."""
        return all(self.route(number)[0].revision == revision for number in range(REPLICAS)) and all(
            MODEL in replica.routes and replica.routes[MODEL].applied and replica.routes[MODEL].revision == revision
            for replica in read(self.admin("/admin/v1/replicas").content, Replicas).replicas
        )

    def drift(self, version: int, *, role: str = "primary") -> DriftReport:
        """Return the report on the last decided window of a version."""
        return read(self.admin(f"/admin/v1/drift/{MODEL}/{version}?role={role}").content, DriftReport)

    def query(self, expression: str) -> tuple[Sample, ...]:
        """Ask Prometheus."""
        return query(self.prometheus, expression)

    def value(self, expression: str) -> float:
        """Ask Prometheus for one number; 0 when there is no series."""
        return sum(sample.number for sample in self.query(expression))

    @staticmethod
    def _accepted(answer: Answer) -> Answer:
        if answer.status >= 300:
            raise LoadTestFailure(f"the gateway answers {answer.status}: {answer.content[:400]!r}")
        return answer


@contextmanager
def stage(
    folder: Path, *, bucket_s: int = 1, scrape_s: int = 1, traffic_options: Sequence[str] = ()
) -> Iterator[Stage]:
    """Start Redis, two replicas on a copy of the example models, and a Prometheus with our rules; stop all at the end.

    Args:
        bucket_s: Length of a monitoring bucket; a window is five.
        traffic_options: Of loadtests/locustfile.py, for every run.
    Raises: LoadTestFailure: something does not start, or the gateway does not stop well.
    """
    repository = folder / "models"
    shutil.copytree(ROOT / "models", repository, ignore=shutil.ignore_patterns("build.py", "README.md", ".gateway"))
    (repository / NARROW / "model.toml").write_text(_NARROW_QUEUE)
    with ExitStack() as running:
        redis_url = running.enter_context(redis_server(folder / "redis"))
        served = running.enter_context(
            gateway(
                repository,
                folder=folder,
                config=_SETTINGS.format(bucket_s=bucket_s),
                arguments=["--redis", redis_url, "--state-dir", str(folder / "state")],
                replicas=REPLICAS,
            )
        )
        watched = running.enter_context(
            prometheus(prometheus_settings(served.admin_urls, scrape_s), folder=folder / "prometheus")
        )
        on_stage = Stage(folder, repository, served, watched, traffic_options)
        running.callback(on_stage._stack.close)  # noqa: SLF001 - made here
        yield on_stage


def prometheus_settings(admin_urls: Sequence[str], scrape_s: int) -> str:
    """Write a prometheus.yml with the rules of `dashboards/` that scrapes these admin planes every `scrape_s` seconds.

    The job's name is that of dashboards/prometheus.yml: rules and dashboards rely on it.
    """
    targets = json.dumps([url.removeprefix("http://") for url in admin_urls])
    rules = json.dumps([str(DASHBOARDS / "rules" / "*.yml")])
    return (
        f"global: {{scrape_interval: {scrape_s}s, scrape_timeout: {scrape_s}s, evaluation_interval: {scrape_s}s}}\n"
        f"rule_files: {rules}\n"
        f"scrape_configs: [{{job_name: gateway, static_configs: [{{targets: {targets}}}]}}]\n"
    )
