// Shows drift as a map of features and windows, and behind each feature what it was and what it is.
// Decides nothing: states, statistics and reasons are the monitor's.

import { h } from "./render.js";
import { count, DASH, plural, ratio, shortTime, statistic } from "./format.js";
import { badge, histogram } from "./shapes.js";
import { quiet } from "./notes.js";

export const LEVELS = { ok: "good", watch: "watch", drift: "bad", insufficient: "unknown" };
const RANK = { drift: 0, watch: 1, ok: 2, insufficient: 3 };
const GLYPHS = { ok: "·", watch: "▲", drift: "◆", insufficient: "–" };
const WORDS = { ok: "ok", watch: "watch", drift: "drift", insufficient: "too few rows" };
const SHOWN_FEATURES = 14;
const STATISTICS = [
  ["ks", "KS, largest gap of the distributions", 0.1],
  ["w1", "W1, distance moved in σ", 0.2],
  ["tvd", "TVD, share of rows moved", 0.1],
  ["psi", "PSI, shown only", 0.25],
  ["js", "Jensen–Shannon distance, shown only", null],
  ["ad", "Anderson–Darling", null],
  ["chi2", "χ²", null],
];
const CHECKS = [
  ["null", "Null"],
  ["non_finite", "Not finite"],
  ["out_of_range", "Out of range"],
  ["unseen", "Unseen category"],
];

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

const sorted = (reports) => [...reports].sort((a, b) => RANK[a.state] - RANK[b.state] || idOf(a).localeCompare(idOf(b)));

export function driftView(view) {
  const { reports, driftDesk: desk } = view;
  if (!reports) return quiet(view.problems.drift, "Asking for the drift reports …");
  if (!reports.length) return h("p", { class: "empty" }, "No version is watched yet. A version needs a reference: ", h("code", {}, "gateway reference MODEL VERSION --data FILE"), ".");
  const report = desk.pick(reports);
  return [tabs(desk, sorted(reports), report), detail(view, desk, report)];
}

/** Versions that were judged stand in front; the others come on demand, unless there are no others. */
function tabs(desk, reports, shown) {
  const judged = reports.filter(({ state }) => state !== "insufficient");
  const others = reports.filter(({ state }) => state === "insufficient");
  const showsOthers = !judged.length || desk.showsUnjudged;
  const tab = (entry) =>
    h("button", { type: "button", key: idOf(entry), "aria-pressed": String(entry === shown), onclick: () => desk.set({ chosen: idOf(entry), feature: null, cell: null, showsAll: false }) }, badge(LEVELS[entry.state], nameOf(entry)), h("span", { class: "faint" }, entry.reason || WORDS[entry.state]));
  return h(
    "div",
    { class: "tabs", role: "group", "aria-label": "Model versions that are watched" },
    judged.map(tab),
    showsOthers || others.includes(shown) ? others.filter((entry) => showsOthers || entry === shown).map(tab) : null,
    judged.length && others.length ? h("button", { type: "button", class: "quiet", "aria-expanded": String(showsOthers), onclick: () => desk.set({ showsUnjudged: !desk.showsUnjudged }) }, showsOthers ? "Hide those not judged" : `${count(others.length)} not judged`) : null,
  );
}

function detail(view, desk, report) {
  const { data, problem } = view.driftDetail(report);
  if (!data || idOf(data) !== idOf(report)) return quiet(problem, "Reading the windows …");
  if (!data.window) return h("p", { class: "empty" }, data.reason === "no reference" ? ["This version has no reference to be compared with. Make one: ", h("code", {}, `gateway reference ${data.model} ${data.version} --data FILE`), "."] : "No window has been decided yet: the first one is decided a few seconds after its end.");
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
        h("span", { class: "faint" }, `${plural(data.window.rows, "row")} from ${shortTime(data.window.start)} to ${shortTime(data.window.end)} · ${data.mode === "calibrated" ? "calibrated on windows in control" : "assumes independent rows"}`),
      ),
      heatMap(view, desk, windows, features, idOf(report)),
      legend(),
      data.warnings?.length ? h("ul", { class: "faint plain" }, data.warnings.map((text) => h("li", {}, text))) : null,
    ),
    open ? drillDown(desk, data, open) : null,
  );
}

/** The decided windows, oldest first, the current one last. */
function windowsOf(data, columns) {
  const found = new Map([[data.window.start, data]]);
  for (const entry of data.history ?? []) if (!found.has(entry.window.start)) found.set(entry.window.start, entry);
  return [...found.values()].sort((a, b) => a.window.start.localeCompare(b.window.start)).slice(-columns);
}

/** How much moved, in units of the floor that a decision needs. */
function effect({ kind, statistics }) {
  const over = ([name, , floor]) => (floor && statistics[name] ? statistics[name] / floor : 0);
  return Math.max(...STATISTICS.slice(0, 3).filter(([name]) => (kind === "categorical" ? name === "tvd" : name !== "tvd")).map(over), 0);
}

const heat = (feature) => Math.min(4, Math.floor(effect(feature) * 2));

function heatMap(view, desk, windows, features, chosen) {
  const shown = desk.showsAll ? features : features.slice(0, SHOWN_FEATURES);
  const byName = windows.map(({ features: list }) => new Map(list.map((feature) => [feature.name, feature])));
  const ticks = Math.max(1, Math.ceil(windows.length / Math.max(1, Math.floor(view.columns / 4))));
  const isTick = (index) => index > 1 && (windows.length - 1 - index) % ticks === 0;
  const active = desk.cell ?? `${shown[0]?.name} 0`;
  const hasActive = shown.some((feature) => windows.some((_, index) => `${feature.name} ${windows.length - 1 - index}` === active));
  return [
    h(
      "table",
      { class: "heat", key: chosen, role: "grid", "aria-label": "States of features by window, the newest last. Arrow keys move, Enter shows the distribution.", onkeydown: walk },
      h("thead", {}, h("tr", {}, h("td", {}), windows.map(({ window: { start } }, index) => h("th", { scope: "col", key: start }, h("span", { class: isTick(index) ? "tick" : "unseen" }, shortTime(start)))), h("td", {}))),
      h(
        "tbody",
        {},
        shown.map((feature, row) =>
          h(
            "tr",
            { key: feature.name, class: desk.feature === feature.name ? "chosen" : "" },
            h("th", { scope: "row", title: feature.name }, h("span", { class: "name" }, feature.name), feature.role === "prediction" ? h("span", { class: "tag wide" }, "prediction") : null),
            windows.map(({ window }, index) => {
              const found = byName[index].get(feature.name);
              const id = `${feature.name} ${windows.length - 1 - index}`;
              const state = found?.state ?? "insufficient";
              const isActive = hasActive ? id === active : row === 0 && index === windows.length - 1;
              return h(
                "td",
                { key: window.start, role: "gridcell", class: `cell ${state} heat-${found ? heat(found) : 0}`, tabindex: isActive ? "0" : "-1", "data-cell": id, "aria-label": cellLabel(feature, found, window), title: cellLabel(feature, found, window), onclick: () => desk.set({ chosen, feature: feature.name, cell: id }), onfocus: () => void (desk.cell !== id && desk.set({ chosen, cell: id })) },
                GLYPHS[state],
              );
            }),
            h("td", { class: "effect number" }, why(feature)),
          ),
        ),
      ),
    ),
    features.length > SHOWN_FEATURES ? h("button", { type: "button", class: "quiet", "aria-expanded": String(desk.showsAll), onclick: () => desk.set({ showsAll: !desk.showsAll }) }, desk.showsAll ? "Show the worst only" : `Show all ${count(features.length)}`) : null,
  ];
}

function why(feature) {
  const name = feature.kind === "categorical" ? "tvd" : "ks";
  const value = feature.statistics[name];
  return `${name.toUpperCase()} ${Number.isFinite(value) ? value.toFixed(2) : DASH}`;
}

function cellLabel(feature, found, { start, end }) {
  const times = `${shortTime(start)} to ${shortTime(end)}`;
  if (!found) return `${feature.name}, ${times}: not reported`;
  return `${feature.name}, ${times}: ${WORDS[found.state]}, ${why(found)}${found.reason ? `, ${found.reason}` : ""}`;
}

/** Arrow keys walk over the cells, Home and End along a row, Enter and Space open. */
function walk(event) {
  const cell = event.target.closest("[data-cell]");
  if (!cell) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    cell.click();
    return;
  }
  const row = cell.parentElement;
  const cells = [...row.querySelectorAll("[data-cell]")];
  const column = cells.indexOf(cell);
  const target = {
    ArrowLeft: () => cells[column - 1],
    ArrowRight: () => cells[column + 1],
    ArrowUp: () => row.previousElementSibling?.querySelectorAll("[data-cell]")[column],
    ArrowDown: () => row.nextElementSibling?.querySelectorAll("[data-cell]")[column],
    Home: () => cells[0],
    End: () => cells.at(-1),
  }[event.key]?.();
  if (!target) return;
  event.preventDefault();
  target.focus();
}

const legend = () => h("ul", { class: "legend" }, Object.keys(GLYPHS).map((state) => h("li", {}, h("span", { class: `cell ${state} heat-2`, "aria-hidden": "true" }, GLYPHS[state]), WORDS[state])), h("li", { class: "faint" }, "the stronger the colour, the larger the effect"));

function drillDown(desk, data, feature) {
  const bins = binsOf(feature);
  return h(
    "section",
    { class: "card drill", key: feature.name, "aria-labelledby": "drill-heading", onkeydown: (event) => void (event.key === "Escape" && desk.close()) },
    h("div", { class: "card-head" }, h("h3", { id: "drill-heading", tabindex: "-1", made: (node) => node.focus() }, feature.name), badge(LEVELS[feature.state], WORDS[feature.state]), h("div", { class: "actions" }, h("button", { type: "button", onclick: () => desk.close() }, "Close"))),
    h("p", { class: "faint" }, `${feature.role === "prediction" ? "Prediction" : "Input"}, ${feature.kind}, ${plural(feature.rows, "usable row")} in the window from ${shortTime(data.window.start)} to ${shortTime(data.window.end)}`),
    feature.reason ? h("p", {}, "Why: ", h("b", {}, feature.reason.replaceAll("_", " "))) : null,
    bins ? [h("p", { class: "key" }, h("span", { class: "swatch current", "aria-hidden": "true" }), "now ", h("span", { class: "swatch reference", "aria-hidden": "true" }), "reference, share of rows per bin"), histogram(bins, { categorical: feature.kind === "categorical" }), binTable(bins)] : h("p", { class: "empty" }, "No counts for this window."),
    h("div", { class: "pair" }, statisticsTable(feature), qualityTable(feature)),
  );
}

/** Bins with their shares. The outer bins are open, so their labels say "below" and "above". */
export function binsOf({ kind, bins }) {
  if (!bins?.reference?.length) return null;
  const share = (counts) => {
    const total = counts.reduce((sum, value) => sum + value, 0);
    return counts.map((value) => (total ? value / total : 0));
  };
  const [reference, current] = [share(bins.reference), share(bins.current)];
  const labels = kind === "categorical" ? reference.map((_, index) => (index < (bins.values?.length ?? 0) ? String(bins.values[index]) : "all others")) : reference.map((_, index) => interval(bins.edges ?? [], index));
  const found = labels.map((label, index) => ({ label, lower: bins.edges?.[index - 1] ?? null, reference: reference[index], current: current[index] ?? 0 }));
  const rest = found.at(-1);
  return kind === "categorical" && rest.reference === 0 && rest.current === 0 ? found.slice(0, -1) : found;
}

function interval(edges, index) {
  if (!edges.length) return "all";
  if (index === 0) return `below ${statistic(edges[0])}`;
  if (index >= edges.length) return `from ${statistic(edges.at(-1))}`;
  return `${statistic(edges[index - 1])} to ${statistic(edges[index])}`;
}

function binTable(bins) {
  return h(
    "details",
    {},
    h("summary", {}, "The same as a table"),
    h("table", { class: "numbers" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Bin"), h("th", { scope: "col", class: "number" }, "Reference"), h("th", { scope: "col", class: "number" }, "Now"))), h("tbody", {}, bins.map(({ label, reference, current }) => h("tr", {}, h("th", { scope: "row" }, label), h("td", { class: "number" }, ratio(reference)), h("td", { class: "number" }, ratio(current)))))),
  );
}

function statisticsTable({ statistics, p_value: p }) {
  const known = STATISTICS.filter(([name]) => statistics[name] !== null && statistics[name] !== undefined);
  return h(
    "table",
    { class: "numbers" },
    h("caption", {}, "Statistics"),
    h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, "Statistic"), h("th", { scope: "col" }, "Value"))),
    h(
      "tbody",
      {},
      known.map(([name, says, floor]) => h("tr", {}, h("th", { scope: "row" }, says), h("td", { class: `number ${floor && statistics[name] >= floor ? "is-bad" : ""}` }, statistic(statistics[name])))),
      h("tr", {}, h("th", { scope: "row" }, "p-value"), h("td", { class: "number" }, statistic(p))),
    ),
  );
}

function qualityTable({ quality }) {
  const known = CHECKS.filter(([name]) => quality?.[name] !== null && quality?.[name] !== undefined);
  return h(
    "table",
    { class: "numbers" },
    h("caption", {}, "Quality, share of rows"),
    h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, "Check"), h("th", { scope: "col" }, "Share"))),
    h("tbody", {}, known.map(([name, says]) => h("tr", {}, h("th", { scope: "row" }, says), h("td", { class: "number" }, ratio(quality[name]))))),
  );
}
