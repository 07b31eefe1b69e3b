// Shows drift as a map of features and windows, and behind each feature what it was and what it is.
// Decides nothing: states, statistics and reasons are the monitor's.

import { drillDown } from "./distribution.js";
import { effect, LEVELS, RANK, WORDS } from "./drift_states.js";
import { count, plural, shortTime } from "./format.js";
import { heatMap, legend, windowsOf } from "./heat_map.js";
import { quiet } from "./notes.js";
import { h } from "./render.js";
import { badge } from "./shapes.js";

const idOf = ({ model, version, role }) => `${model}:${version}:${role ?? "primary"}`;
const nameOf = ({ model, version, role }) => `${model}:${version}${role === "shadow" ? " (shadow)" : ""}`;

/** What the operator looks at: a version, a feature of it, and one cell for the arrow keys. */
export class DriftDesk {
  #changed;
  chosen = null;
  feature = null;
  cell = null;
  showsAll = false;
  showsUnjudged = false;

  constructor(changed) {
    this.#changed = changed;
  }

  set(values) {
    Object.assign(this, values);
    this.#changed();
  }

  /** The report to show: the chosen one, else the worst. */
  pick(reports) {
    if (!reports?.length) return null;
    return reports.find((report) => idOf(report) === this.chosen) ?? sorted(reports)[0];
  }

  pathOf({ model, version, role }, windows) {
    const query = new URLSearchParams({ history: String(windows), counts: "true" });
    if (role === "shadow") query.set("role", "shadow");
    return `admin/v1/drift/${encodeURIComponent(model)}/${version}?${query}`;
  }

  close() {
    const { feature } = this;
    this.set({ feature: null });
    document.querySelector(`[data-cell="${CSS.escape(`${feature} 0`)}"]`)?.focus();
  }
}

const sorted = (reports) =>
  [...reports].sort((a, b) => RANK[a.state] - RANK[b.state] || idOf(a).localeCompare(idOf(b)));

export function driftView(view) {
  const { reports, driftDesk: desk } = view;
  if (!reports) return quiet(view.problems.drift, "Asking for the drift reports …");
  if (!reports.length)
    return h(
      "p",
      { class: "empty" },
      "No version is watched yet. A version needs a reference: ",
      h("code", {}, "gateway reference MODEL VERSION --data FILE"),
      ".",
    );
  const report = desk.pick(reports);
  return [tabs(desk, sorted(reports), report), detail(view, desk, report)];
}

/** Versions that were judged stand in front; the others come on demand, unless there are no others. */
function tabs(desk, reports, shown) {
  const judged = reports.filter(({ state }) => state !== "insufficient");
  const others = reports.filter(({ state }) => state === "insufficient");
  const showsOthers = !judged.length || desk.showsUnjudged;
  const tab = (entry) =>
    h(
      "button",
      {
        type: "button",
        key: idOf(entry),
        "aria-pressed": String(entry === shown),
        onclick: () => desk.set({ chosen: idOf(entry), feature: null, cell: null, showsAll: false }),
      },
      badge(LEVELS[entry.state], nameOf(entry)),
      h("span", { class: "faint" }, entry.reason || WORDS[entry.state]),
    );
  return h(
    "div",
    { class: "tabs", role: "group", "aria-label": "Model versions that are watched" },
    judged.map(tab),
    showsOthers || others.includes(shown) ? others.filter((entry) => showsOthers || entry === shown).map(tab) : null,
    judged.length && others.length
      ? h(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-expanded": String(showsOthers),
            onclick: () => desk.set({ showsUnjudged: !desk.showsUnjudged }),
          },
          showsOthers ? "Hide those not judged" : `${count(others.length)} not judged`,
        )
      : null,
  );
}

function detail(view, desk, report) {
  const { data, problem } = view.driftDetail(report);
  if (!data || idOf(data) !== idOf(report)) return quiet(problem, "Reading the windows …");
  if (!data.window)
    return h(
      "p",
      { class: "empty" },
      data.reason === "no reference"
        ? [
            "This version has no reference to be compared with. Make one: ",
            h("code", {}, `gateway reference ${data.model} ${data.version} --data FILE`),
            ".",
          ]
        : "No window has been decided yet: the first one is decided a few seconds after its end.",
    );
  const windows = windowsOf(data, view.columns);
  // Those that need a look come first, the largest effect on top; the others keep their places from window to window.
  const weightOf = (feature) => (feature.state === "drift" || feature.state === "watch" ? effect(feature) : 0);
  const features = [...data.features].sort((a, b) => RANK[a.state] - RANK[b.state] || weightOf(b) - weightOf(a));
  const open = features.find(({ name }) => name === desk.feature);
  return h(
    "div",
    { class: open ? "drift-body split-view" : "drift-body" },
    h(
      "div",
      { class: "card" },
      h(
        "div",
        { class: "card-head" },
        h("h3", {}, nameOf(data)),
        badge(LEVELS[data.state], WORDS[data.state]),
        h(
          "span",
          { class: "faint" },
          `${plural(data.window.rows, "row")} from ${shortTime(data.window.start)} to ${shortTime(data.window.end)} · ${data.mode === "calibrated" ? "calibrated on windows in control" : "assumes independent rows"}`,
        ),
      ),
      heatMap(view, desk, windows, features, idOf(report)),
      legend(),
      data.warnings?.length
        ? h(
            "ul",
            { class: "faint plain" },
            data.warnings.map((text) => h("li", {}, text)),
          )
        : null,
    ),
    open ? drillDown(desk, data, open) : null,
  );
}
