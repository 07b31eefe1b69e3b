"""Owns what happens in the story and what each phase must show, with the time it has for it.

Starts no process itself: `stage.py` has them.
"""

from __future__ import annotations

import csv
import math
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dashboards import check
from loadtests.datasets import load_dataset
from loadtests.processes import Answer, LoadTestFailure, ask, until
from loadtests.story.answers import DriftReport, History, RouteAnswer, Validation, read
from loadtests.story.candidate import fragile_copy
from loadtests.story.stage import MODEL, NARROW, NARROW_ROWS, REPLICAS, Stage
from loadtests.story.telling import Chapter

STABLE, CANDIDATE, SHADOW = 2, 3, 1
CANDIDATE_PERCENT = 10.0
SHIFTED, BROKEN = "worst_texture", "mean_area"
SHIFT = f"shift:{MODEL}/{SHIFTED}:1.5"
UNIT_ERROR = f"unit:{MODEL}/{BROKEN}:1000"
EXPECTED_AREA = 10_000.0  # four times the largest there is
STEADY_WINDOWS = 3
PROBES = 200
CROWD = 16

_Figures = dict[str, str]


class Story:
    """The phases, in order; each is a method that returns its figures."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._requests = 0
        self._began = time.monotonic()

    def chapters(self) -> list[Chapter]:
        """List the phases with what each promises."""
        told: list[tuple[str, str, Callable[[], _Figures]]] = [
            ("Start", "Two replicas, Redis and Prometheus run; both replicas serve and are scraped.", self.start),
            ("Publish a candidate", "A new version is READY on both replicas and takes no traffic.", self.publish),
            ("Split 90/10", "The change is judged first, reaches both replicas, and moves its share.", self.split),
            ("Shadow", "An older version answers beside the callers' variant, compared and unseen.", self.shadow),
            ("Steady traffic", "With real rows nothing drifts, for three windows in a row.", self.steady),
            (
                "Drift in one feature",
                f"A shift of {SHIFTED} raises an alarm for that input alone, and for the predictions that follow it.",
                self.drift,
            ),
            ("The candidate fails", "Its runs fail on a unit error; callers notice nothing.", self.fail),
            ("Abort", "One call, and every answer on both replicas is the stable variant's.", self.abort),
            ("All back", "The alarm clears by itself when the traffic is as it was.", self.recover),
            ("Overload", "A queue that is full says so at once; nobody else notices.", self.overload),
            ("Dashboards and rules", "Each of their selectors matched a series, each panel had a value.", self.look),
            ("Stop", "Traffic ends without one failed request; on SIGTERM the replicas drain.", self.stop),
        ]
        return [Chapter(title=title, promise=promise, tell=tell) for title, promise, tell in told]

    # --- the phases ---------------------------------------------------------------------------------

    def start(self) -> _Figures:
        """Wait until both replicas are scraped and the automatic route leads to the highest version."""
        stage = self._stage
        until(lambda: stage.value('sum(up{job="gateway"})') == REPLICAS, within_s=20, what="both replicas scraped")
        route, _ = stage.route()
        hold(len(route.variants) == 1 and route.variants[0].version == STABLE, f"the route leads to {STABLE}", route)
        return {
            "replicas": ", ".join(stage.gateway.admin_urls),
            "route": f"{MODEL}:{STABLE}, revision {route.revision}",
        }

    def publish(self) -> _Figures:
        """Publish the candidate with its reference into the repository that is being served."""
        stage = self._stage
        column = load_dataset(MODEL).inputs[0].features.index(BROKEN)
        model, data = stage.folder / "candidate.onnx", stage.folder / "rows.csv"
        predecessor = stage.repository / MODEL / str(STABLE) / "model.onnx"
        model.write_bytes(fragile_copy(predecessor, input_name="features", column=column, limit=EXPECTED_AREA))
        write_rows(data)
        printed = stage.publish(model, data)
        began = time.monotonic()
        what = f"{MODEL}:{CANDIDATE} READY on both replicas"
        until(lambda: stage.is_ready_everywhere(CANDIDATE), within_s=20, what=what)
        took_s = time.monotonic() - began
        route, _ = stage.route()
        hold(CANDIDATE not in {one.version for one in route.variants}, "it takes no traffic by itself", route)
        return {
            "said by gateway publish": printed.splitlines()[-1].partition(" in ")[0],
            "READY on both replicas after": f"{took_s:.1f} s",
        }

    def split(self) -> _Figures:
        """Give the candidate a tenth, and hold the observed share to its binomial band."""
        stage = self._stage
        document = split_document(shadows=[])
        judged = read(stage.change("/validate", document).content, Validation)
        hold(judged.valid and judged.moved_percent == CANDIDATE_PERCENT, "a tenth of the keys would move", judged)
        route, reached_s = self._put(document)
        stage.send_traffic()
        keys = 10_000

        def shares() -> tuple[float, float] | None:
            stable, candidate = (self._answered(name) for name in ("stable", "challenger"))
            return (stable + candidate, candidate / (stable + candidate)) if candidate and stable > 900 else None

        total, share = until(shares, within_s=40, what="1,000 answers of both variants")
        expected = CANDIDATE_PERCENT / 100
        # Keys are a sample of all keys, and requests a sample of the keys.
        band = 4 * math.sqrt(expected * (1 - expected) * (1 / total + 1 / keys))
        hold(abs(share - expected) <= band, f"the share is within {band:.2%} of {expected:.0%}", f"{share:.2%}")
        return {
            "would move": f"{judged.moved_percent:g}% of the keys",
            "on both replicas after": f"{reached_s:.2f} s, revision {route.revision}",
            "observed share of the candidate": f"{share:.2%} of {total:.0f} answers",
            "expected": f"{expected:.0%} ± {band:.2%}",
        }

    def shadow(self) -> _Figures:
        """Mirror everything to another version and see it compared, while callers get what they got before."""
        stage = self._stage
        route, reached_s = self._put(split_document(shadows=[shadow_document()]))
        results = f'gateway_shadow_requests_total{{route="{MODEL}",shadow="next"}}'
        until(lambda: stage.value(f"sum({results})") >= 300, within_s=40, what="300 shadow answers")
        compared = stage.value(f"sum({results})")
        agreed = stage.value(f'sum(gateway_shadow_requests_total{{route="{MODEL}",shadow="next",result="match"}})')
        failed = stage.value(f'sum(gateway_shadow_requests_total{{route="{MODEL}",shadow="next",result="error"}})')
        hold(failed == 0, "no shadow run fails", failed)
        answered = {self._probe(number)[0] for number in range(50)}
        hold(answered <= {f"{MODEL}:{STABLE}", f"{MODEL}:{CANDIDATE}"}, "no caller is answered by the shadow", answered)
        return {
            "on both replicas after": f"{reached_s:.2f} s, revision {route.revision}",
            "compared": f"{compared:.0f} answers, {agreed / compared:.1%} agree within the tolerance",
        }

    def steady(self) -> _Figures:
        """See windows decided with rows enough, and nothing found in them."""
        stage = self._stage
        ends: dict[str, DriftReport] = {}

        def enough() -> bool:
            report = stage.drift(STABLE)
            hold(report.state != "drift", "steady traffic does not drift", drifting(report))
            if report.window is not None and report.state in {"ok", "watch"}:
                ends[report.window.end] = report
            return len(ends) >= STEADY_WINDOWS

        until(enough, within_s=90, what=f"{STEADY_WINDOWS} decided windows", seen=self._verdict)
        alarms = stage.value('sum(gateway_drift_state{state="drift"})')
        hold(alarms == 0, "Prometheus sees no drift", alarms)
        last = list(ends.values())[-1]
        return {
            "decided windows": ", ".join(f"{one.window.rows} rows {one.state}" for one in ends.values() if one.window),
            "features and predictions": str(len(last.features)),
        }

    def drift(self) -> _Figures:
        """Shift one feature; see it named by the admin plane, as a series, and by a firing alert."""
        stage = self._stage
        self._send(SHIFT)
        began = time.monotonic()

        def drifted() -> DriftReport | None:
            found = stage.drift(STABLE)
            return found if found.state == "drift" else None

        report = until(drifted, within_s=60, what=f"drift of {MODEL}:{STABLE}", seen=self._verdict)
        seen_s = time.monotonic() - began
        found = drifting(report)
        inputs = {one.name for one in report.features if one.state == "drift" and one.role == "input"}
        hold(inputs == {SHIFTED}, f"{SHIFTED} is the only input that drifts", found)
        of_version = f'model="{MODEL}",version="{STABLE}"'
        until(
            lambda: stage.value(f'max(gateway_drift_state{{{of_version},feature="{SHIFTED}",state="drift"}})') == 1,
            within_s=15,
            what="the state in Prometheus",
        )
        until(
            lambda: stage.value(f'count(ALERTS{{alertname="GatewayDrift",alertstate="firing",{of_version}}})') == 1,
            within_s=30,
            what="a firing alert",
        )
        ks = next(one.statistics.get("ks") for one in report.features if one.name == SHIFTED)
        return {
            "injected": f"{SHIFTED} + 1.5 standard deviations",
            "seen in /admin/v1/drift after": f"{seen_s:.1f} s ({', '.join(found)})",
            "statistic": f"KS {ks:.2f}" if ks is not None else "",
            "alert GatewayDrift firing after": f"{time.monotonic() - began:.1f} s",
        }

    def fail(self) -> _Figures:
        """Send areas in another unit: the candidate's runs fail, and the stable variant answers in its place."""
        stage = self._stage
        self._send(UNIT_ERROR)
        of_candidate = f'route="{MODEL}",variant="challenger"'
        failures = f'sum(gateway_variant_attempts_total{{{of_candidate},code=~"5.."}})'
        until(lambda: stage.value(failures) >= 5, within_s=30, what="failed runs of the candidate")
        until(
            lambda: stage.value(f"max(gateway_variant_breaker_open{{{of_candidate}}})") == 1,
            within_s=30,
            what="the candidate's breaker open",
        )
        watched = 'ALERTS{alertname=~"GatewayVariantFailsMore|GatewayBreakerOpen",variant="challenger"}'
        alerts = until(
            lambda: sorted({f"{one.metric['alertname']} {one.metric['alertstate']}" for one in stage.query(watched)}),
            within_s=30,
            what="an alert about the candidate",
        )
        fallen_back = stage.value(f'sum(gateway_assignments_total{{route="{MODEL}",by="fallback"}})')
        errors = stage.value(f'sum(gateway_requests_total{{route="{MODEL}",code=~"5.."}})')
        hold(errors == 0, "no caller gets an error", errors)
        hold(fallen_back > 0, "callers of the candidate fall back", fallen_back)
        return {
            "failed runs of the candidate": f"{stage.value(failures):.0f}",
            "answered by the stable variant instead": f"{fallen_back:.0f}",
            "errors that callers saw": f"{errors:.0f}",
            "alerts": ", ".join(alerts),
        }

    def abort(self) -> _Figures:
        """Take everything back with one call; see it on both replicas and in every answer."""
        stage = self._stage
        began = time.monotonic()
        stage.change("/abort", {"shadows": True, "reason": "the candidate fails on areas in other units"})
        answered_s = time.monotonic() - began
        route, _ = stage.route()
        hold(route.weights.get("stable") == 100 and not route.shadows, "the stable variant has everything", route)
        until(lambda: stage.has_everywhere(route.revision), within_s=5, what="the abort on both replicas")
        reached_s = time.monotonic() - began
        asked = [self._probe(number) for number in range(PROBES)]
        hold({variant for _, variant in asked} == {"stable"}, "every answer is the stable variant's", asked[:5])
        newest = read(stage.admin(f"/admin/v1/routes/{MODEL}/history").content, History).revisions[0]
        hold(newest.revision == route.revision and "areas" in newest.reason, "history says why", newest)
        return {
            "answered after": f"{answered_s * 1000:.0f} ms",
            "on both replicas after": f"{reached_s:.2f} s, revision {route.revision}",
            "asked afterwards": f"{PROBES} requests, each on a connection of its own, all answered by stable",
            "history": f"revision {newest.revision} by {newest.actor}: {newest.reason}",
        }

    def recover(self) -> _Figures:
        """Send real rows again and wait for the alarm to clear."""
        stage = self._stage
        self._send()
        began = time.monotonic()
        until(
            lambda: stage.drift(STABLE).state not in {"drift", "insufficient"},
            within_s=75,
            what=f"{MODEL}:{STABLE} quiet again",
            seen=self._verdict,
        )
        clear_s = time.monotonic() - began
        until(
            lambda: not stage.query(f'ALERTS{{alertname="GatewayDrift",model="{MODEL}",version="{STABLE}"}}'),
            within_s=30,
            what="the alert gone",
        )
        return {"state ok after": f"{clear_s:.1f} s", "alert gone after": f"{time.monotonic() - began:.1f} s"}

    def overload(self) -> _Figures:
        """Send a model more than its queue holds, while the traffic of the other goes on."""
        stage = self._stage
        statuses: Counter[int] = Counter()
        refusals: list[Answer] = []

        def is_seen() -> bool:
            with ThreadPoolExecutor(CROWD) as crowd:
                answers = list(crowd.map(lambda _: self._ask_narrow(), range(CROWD)))
            statuses.update(answer.status for answer in answers)
            refusals.extend(answer for answer in answers if answer.status == 503)
            return stage.value('sum(rate(gateway_rejected_total{reason="overloaded"}[1m]))') > 0

        until(is_seen, within_s=30, what="refusals in Prometheus", seen=lambda: statuses)
        hold(set(statuses) == {200, 503}, "some are answered, the rest is refused", statuses)
        hold(all("retry-after" in one.headers for one in refusals), "every refusal says when to retry", refusals[:1])
        errors = stage.value(f'sum(gateway_requests_total{{route="{MODEL}",code=~"5.."}})')
        hold(errors == 0, f"no caller of {MODEL} gets an error", errors)
        return {
            "answered": str(statuses[200]),
            "refused with 503 and Retry-After": str(statuses[503]),
            "says": str(refusals[0].document().get("error")),
        }

    def look(self) -> _Figures:
        """Hold every expression of dashboards and rules against what Prometheus has seen of the story."""
        missing: list[str] = []
        empty: list[str] = []

        def is_whole() -> bool:
            seen = check.Prometheus(self._stage.prometheus, minutes=(time.monotonic() - self._began) / 60)
            missing[:] = check.unmatched(seen)
            empty[:] = map(str, check.empty_panels(seen))
            return not missing and not empty

        # What has just happened is in the next step of a panel's range.
        until(
            is_whole,
            within_s=30,
            what="a series for every selector, a value for every panel",
            seen=lambda: f"without a series: {'; '.join(missing)}; without a value: {'; '.join(empty)}",
        )
        expressions = [*check.dashboard_expressions(), *check.rule_expressions()]
        kinds = Counter(one.kind for one in expressions)
        return {"expressions": ", ".join(f"{count} of {kind}s" for kind, count in kinds.items())}

    def stop(self) -> _Figures:
        """End the traffic and hold every locust run to not one failed request, then the gateway to a clean end."""
        stage = self._stage
        self._requests += stage.end_traffic()
        began = time.monotonic()
        code = stage.gateway.child.stop(signal.SIGTERM)
        ended_s = time.monotonic() - began
        hold(code == 0, "the gateway ends with exit code 0", code)
        hold("Traceback" not in stage.gateway.child.written(), "its log has no traceback", stage.gateway.child.log)
        return {"requests sent": str(self._requests), "failed": "0", "exit code 0 after": f"{ended_s:.1f} s"}

    # --- steps they share ---------------------------------------------------------------------------

    def _send(self, *drift: str) -> None:
        self._requests += self._stage.send_traffic(*drift)

    def _put(self, document: dict[str, object]) -> tuple[RouteAnswer, float]:
        stage = self._stage
        _, tag = stage.route()
        began = time.monotonic()
        put = read(stage.change("", document, method="PUT", tag=tag).content, RouteAnswer)
        until(lambda: stage.has_everywhere(put.revision), within_s=5, what=f"revision {put.revision} on both replicas")
        return put, time.monotonic() - began

    def _verdict(self) -> str:
        report = self._stage.drift(STABLE)
        told = [f"{one.name} {one.state} {one.reason or ''}".strip() for one in report.features if one.state != "ok"]
        return f"{report.state} ({report.reason or 'no reason'}) of {report.window}: {', '.join(told)}"

    def _answered(self, variant: str) -> float:
        by_key = f'gateway_assignments_total{{route="{MODEL}",variant="{variant}",by="sticky"}}'
        return self._stage.value(f"sum({by_key})")

    def _ask_narrow(self) -> Answer:
        shape = [NARROW_ROWS, 1, 8, 8]
        image = {"name": "image", "shape": shape, "datatype": "FP32", "data": [0.0] * math.prod(shape)}
        return ask(f"{self._stage.gateway.data_url}/v2/models/{NARROW}/infer", "POST", {"inputs": [image]})

    def _probe(self, number: int) -> tuple[str, str]:
        """Ask once on a connection of its own; the model version and the variant that answered."""
        row = [float(column[number]) for column in load_dataset(MODEL).columns.values()]
        tensor = {"name": "features", "shape": [1, len(row)], "datatype": "FP32", "data": row}
        answer = ask(
            f"{self._stage.gateway.data_url}/v2/models/{MODEL}/infer",
            "POST",
            {"inputs": [tensor]},
            {"x-routing-key": f"probe-{number}"},
        )
        hold(answer.status == 200, "a probe is answered", answer)
        return answer.headers["x-gateway-model"], answer.headers["x-gateway-variant"]


def hold(is_held: bool, promise: str, seen: object) -> None:  # noqa: FBT001 - reads as a sentence
    """Go on only if a promise is kept.

    Raises: LoadTestFailure: it is not, with what was seen instead.
    """
    if not is_held:
        raise LoadTestFailure(f"not so: {promise}; seen: {str(seen)[:400]}")


def drifting(report: DriftReport) -> list[str]:
    """Name what drifts."""
    return [f"{one.name} {one.reason or ''}".strip() for one in report.features if one.state == "drift"]


def split_document(*, shadows: list[object]) -> dict[str, object]:
    """Write the route of the story."""
    weights = (("stable", STABLE, 100 - CANDIDATE_PERCENT), ("challenger", CANDIDATE, CANDIDATE_PERCENT))
    return {
        "name": MODEL,
        "variants": [
            {"name": name, "model": MODEL, "version": version, "weight": weight} for name, version, weight in weights
        ],
        "shadows": shadows,
        "reason": "a tenth for the candidate",
    }


def shadow_document() -> dict[str, object]:
    """Write the shadow of the story: a linear model beside the trees."""
    return {"name": "next", "model": MODEL, "version": SHADOW, "sample": 100, "tolerance": 0.1}


def write_rows(file: Path) -> None:
    """Write the model's data set as CSV, for the candidate's reference."""
    columns = load_dataset(MODEL).columns
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
