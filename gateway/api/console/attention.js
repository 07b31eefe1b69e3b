// Decides what needs a look, worst first, and how the whole stands: from answers alone.
// Pure: no document, no request.

import { count, plural, ratio } from "./format.js";
import { samplesOf, valueOf } from "./metrics.js";

const ERRORS_WORTH_A_LOOK = 0.01;
const REQUESTS_WORTH_JUDGING = 20;
const SILENT_AFTER_MS = 10_000;

/** Everything that needs a look: [{ level, text, href }], the worst first. */
export function needsALook(view) {
  const found = [
    ...process(view),
    ...store(view),
    ...versions(view),
    ...routes(view),
    ...drift(view),
    ...replicas(view),
  ];
  return found.sort((a, b) => (a.level === b.level ? 0 : a.level === "bad" ? -1 : 1));
}

function process({ isReachable, isReady }) {
  if (!isReachable)
    return [
      { level: "bad", text: "The gateway does not answer. What you see is what it said last.", href: "#state-heading" },
    ];
  return isReady === false
    ? [{ level: "bad", text: "Not ready: load balancers send no traffic here.", href: "#models" }]
    : [];
}

export const isStoreDown = ({ metrics }) => valueOf(metrics, "gateway_store_up") === 0;

function store(view) {
  if (!isStoreDown(view)) return [];
  return [
    {
      level: "bad",
      text: "The store does not answer. Predictions go on; changes of routes are refused until it is back. Abort works on this replica.",
      href: "#routes",
    },
  ];
}

function versions({ models }) {
  return (models ?? []).flatMap(({ name, versions: list }) =>
    list
      .filter(({ state }) => state === "FAILED")
      .map(({ version, reason }) => ({
        level: "watch",
        text: `${name}:${version} failed to load: ${reason}`,
        href: "#models",
      })),
  );
}

function routes({ metrics, traffic, routes: list }) {
  const found = [];
  for (const { labels } of samplesOf(metrics, "gateway_variant_breaker_open").filter(({ value }) => value > 0)) {
    found.push({
      level: "bad",
      text: `${labels.route}: ${labels.variant} keeps failing and is cut off; its callers get the first variant`,
      href: `#route-${labels.route}`,
    });
  }
  for (const { labels } of samplesOf(metrics, "gateway_route_store_regressed").filter(({ value }) => value > 0)) {
    found.push({
      level: "bad",
      text: `${labels.route}: the store went backwards and is not obeyed; nothing can be changed until somebody adopts what it says`,
      href: `#route-${labels.route}`,
    });
  }
  for (const { labels } of samplesOf(metrics, "gateway_sample_ratio_mismatch").filter(({ value }) => value > 0)) {
    found.push({
      level: "watch",
      text: `${labels.route}: the variants do not get the shares their weights promise`,
      href: `#route-${labels.route}`,
    });
  }
  for (const route of list ?? []) {
    for (const { name } of route.variants) {
      const recent = traffic.over(30, route.name, name);
      if (recent && recent.requests >= REQUESTS_WORTH_JUDGING && recent.errorRatio > ERRORS_WORTH_A_LOOK) {
        found.push({
          level: "bad",
          text: `${route.name}: ${ratio(recent.errorRatio)} of what ${name} answers are errors`,
          href: `#route-${route.name}`,
        });
      }
    }
  }
  return found;
}

function drift({ reports }) {
  return (reports ?? [])
    .filter(({ state }) => state === "drift" || state === "watch")
    .map(({ model, version, role, state }) => ({
      level: state === "drift" ? "bad" : "watch",
      text: `${model}:${version}${role === "shadow" ? " as a shadow" : ""} ${state === "drift" ? "has drifted from its reference" : "may be drifting"}`,
      href: "#drift",
    }));
}

/** Whether a replica has not been heard of; the one that answers us is there. */
const isSilent = ({ admin, last_seen: seen }, { here, now }) =>
  !String(admin).endsWith(`//${here}`) && now - new Date(seen).getTime() > SILENT_AFTER_MS;

function replicas(view) {
  const found = [];
  for (const replica of view.replicas ?? []) {
    const { id, routes: applied } = replica;
    if (isSilent(replica, view))
      found.push({ level: "watch", text: `Replica ${id} has not been heard of lately`, href: "#replicas" });
    for (const [route, { applied: isApplied, revision, reason }] of Object.entries(applied ?? {})) {
      if (!isApplied)
        found.push({
          level: "bad",
          text: `Replica ${id} serves revision ${revision} of ${route}, not the newest: ${reason || "no reason given"}`,
          href: "#replicas",
        });
    }
  }
  return found;
}

/** The tiles of the head: [{ name, level, value, detail, href }]. */
export function glance(view) {
  return [readiness(view), versionsTile(view), driftTile(view), storeTile(view), replicasTile(view)];
}

function readiness({ isReachable, isReady }) {
  const [level, value] = !isReachable
    ? ["bad", "No answer"]
    : isReady
      ? ["good", "Ready"]
      : isReady === false
        ? ["bad", "Not ready"]
        : ["unknown", "…"];
  return { name: "This replica", level, value, detail: level === "good" ? "takes traffic" : "", href: "#traffic" };
}

function versionsTile({ models }) {
  if (!models) return { name: "Model versions", level: "unknown", value: "–", detail: "", href: "#models" };
  const all = models.flatMap(({ versions: list }) => list);
  const of = (state) => all.filter((version) => version.state === state).length;
  const others = ["LOADING", "DRAINING", "FAILED"].filter(of).map((state) => `${of(state)} ${state}`);
  return {
    name: "Model versions",
    level: of("FAILED") ? "watch" : "good",
    value: `${of("READY")} ready`,
    detail: others.join(", ") || `of ${plural(models.length, "model")}`,
    href: "#models",
  };
}

function driftTile({ reports }) {
  const tile = { name: "Drift", href: "#drift" };
  if (!reports) return { ...tile, level: "unknown", value: "–", detail: "" };
  const of = (state) => reports.filter((report) => report.state === state).length;
  const judged = reports.length - of("insufficient");
  if (of("drift"))
    return {
      ...tile,
      level: "bad",
      value: `${of("drift")} drifting`,
      detail: of("watch") ? `${of("watch")} to watch` : `of ${plural(judged, "version")} judged`,
    };
  if (of("watch"))
    return {
      ...tile,
      level: "watch",
      value: `${of("watch")} to watch`,
      detail: `of ${plural(judged, "version")} judged`,
    };
  if (judged) return { ...tile, level: "good", value: "None", detail: `${plural(judged, "version")} judged` };
  return { ...tile, level: "unknown", value: "Not judged", detail: "too few rows yet" };
}

function storeTile(view) {
  const up = valueOf(view.metrics, "gateway_store_up");
  const tile = { name: "Store", href: "#audit" };
  if (up === 0) return { ...tile, level: "bad", value: "Down", detail: "changes are refused" };
  return up === 1
    ? { ...tile, level: "good", value: "Up", detail: "" }
    : { ...tile, level: "unknown", value: "–", detail: "nothing heard yet" };
}

function replicasTile(view) {
  const list = view.replicas;
  const tile = { name: "Replicas", href: "#replicas" };
  if (!list) return { ...tile, level: "unknown", value: "–", detail: "" };
  const alive = list.filter((replica) => !isSilent(replica, view));
  const behind = list.filter(({ routes }) => Object.values(routes ?? {}).some(({ applied }) => !applied)).length;
  if (behind) return { ...tile, level: "bad", value: `${alive.length} alive`, detail: `${behind} behind` };
  return {
    ...tile,
    level: alive.length === list.length ? "good" : "watch",
    value: `${count(alive.length)} alive`,
    detail: alive.length > 1 ? "all serve the same revisions" : "",
  };
}
