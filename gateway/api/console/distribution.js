// Shows one feature of one window: its distribution beside the reference's, its statistics and its quality.
// The outer bins are open, so their labels say "below" and "from".

import { LEVELS, STATISTICS, WORDS } from "./drift_states.js";
import { plural, ratio, shortTime, statistic } from "./format.js";
import { h } from "./render.js";
import { badge, histogram } from "./shapes.js";

const CHECKS = [
  ["null", "Null"],
  ["non_finite", "Not finite"],
  ["out_of_range", "Out of range"],
  ["unseen", "Unseen category"],
];

/** The panel behind a cell of the map. */
export function drillDown(desk, data, feature) {
  const bins = binsOf(feature);
  return h(
    "section",
    {
      class: "card drill",
      key: feature.name,
      "aria-labelledby": "drill-heading",
      onkeydown: (event) => void (event.key === "Escape" && desk.close()),
    },
    h(
      "div",
      { class: "card-head" },
      h("h3", { id: "drill-heading", tabindex: "-1", made: (node) => node.focus() }, feature.name),
      badge(LEVELS[feature.state], WORDS[feature.state]),
      h("div", { class: "actions" }, h("button", { type: "button", onclick: () => desk.close() }, "Close")),
    ),
    h(
      "p",
      { class: "faint" },
      `${feature.role === "prediction" ? "Prediction" : "Input"}, ${feature.kind}, ${plural(feature.rows, "usable row")} in the window from ${shortTime(data.window.start)} to ${shortTime(data.window.end)}`,
    ),
    feature.reason ? h("p", {}, "Why: ", h("b", {}, feature.reason.replaceAll("_", " "))) : null,
    bins
      ? [
          h(
            "p",
            { class: "key" },
            h("span", { class: "swatch current", "aria-hidden": "true" }),
            "now ",
            h("span", { class: "swatch reference", "aria-hidden": "true" }),
            "reference, share of rows per bin",
          ),
          histogram(bins, { categorical: feature.kind === "categorical" }),
          binTable(bins),
        ]
      : h("p", { class: "empty" }, "No counts for this window."),
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
  const labels =
    kind === "categorical"
      ? reference.map((_, index) => (index < (bins.values?.length ?? 0) ? String(bins.values[index]) : "all others"))
      : reference.map((_, index) => interval(bins.edges ?? [], index));
  const found = labels.map((label, index) => ({
    label,
    lower: bins.edges?.[index - 1] ?? null,
    reference: reference[index],
    current: current[index] ?? 0,
  }));
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
    h(
      "table",
      { class: "numbers" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Bin"),
          h("th", { scope: "col", class: "number" }, "Reference"),
          h("th", { scope: "col", class: "number" }, "Now"),
        ),
      ),
      h(
        "tbody",
        {},
        bins.map(({ label, reference, current }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, label),
            h("td", { class: "number" }, ratio(reference)),
            h("td", { class: "number" }, ratio(current)),
          ),
        ),
      ),
    ),
  );
}

function statisticsTable({ statistics, p_value: p }) {
  const known = STATISTICS.filter(([name]) => statistics[name] !== null && statistics[name] !== undefined);
  return h(
    "table",
    { class: "numbers" },
    h("caption", {}, "Statistics"),
    h(
      "thead",
      { class: "unseen" },
      h("tr", {}, h("th", { scope: "col" }, "Statistic"), h("th", { scope: "col" }, "Value")),
    ),
    h(
      "tbody",
      {},
      known.map(([name, says, floor]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, says),
          h(
            "td",
            { class: `number ${floor && statistics[name] >= floor ? "is-bad" : ""}` },
            statistic(statistics[name]),
          ),
        ),
      ),
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
    h(
      "thead",
      { class: "unseen" },
      h("tr", {}, h("th", { scope: "col" }, "Check"), h("th", { scope: "col" }, "Share")),
    ),
    h(
      "tbody",
      {},
      known.map(([name, says]) =>
        h("tr", {}, h("th", { scope: "row" }, says), h("td", { class: "number" }, ratio(quality[name]))),
      ),
    ),
  );
}
