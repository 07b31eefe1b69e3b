// Shows what the variants of a route predict, each beside the first one, on the bins of the first one's reference.
// Judges nothing: a different prediction may be the better one.

import { h } from "./render.js";
import { binsOf } from "./distribution.js";
import { count, plural, shortTime, statistic } from "./format.js";
import { histogram } from "./shapes.js";
import { quiet } from "./notes.js";

export function comparisonView(view, route) {
  const { desk } = view;
  const isOpen = desk.isComparing(route.name);
  return h(
    "details",
    { class: "comparison", open: isOpen, ontoggle: (event) => desk.compare(route.name, event.target.open) },
    h("summary", {}, "What the variants predict"),
    isOpen ? body(view.comparison(route.name), route) : null,
  );
}

function body({ data, problem }, route) {
  if (!data) return quiet(problem, "Counting the predictions …");
  if (data.reason) return h("p", { class: "empty" }, `Nothing to compare: ${data.reason}.`);
  return [
    data.window
      ? h(
          "p",
          { class: "faint" },
          `From ${shortTime(data.window.start)} to ${shortTime(data.window.end)}, on all replicas.`,
        )
      : null,
    h(
      "div",
      { class: "pair" },
      data.predictions.map((prediction) => others(prediction).map((other) => pairOf(prediction, other, route))),
    ),
  ];
}

const others = ({ variants }) => variants.slice(1);

function pairOf({ name, kind, edges, values, variants: [first] }, other, route) {
  const tone = route.variants.findIndex((variant) => variant.name === other.variant);
  const bins =
    other.rows && first.rows
      ? binsOf({ kind, bins: { edges, values, reference: first.counts, current: other.counts } })
      : null;
  const measure = kind === "categorical" ? "tvd" : "ks";
  return h(
    "div",
    { key: `${name} ${other.variant}`, class: `tone-${Math.max(0, tone) % 6}` },
    h("h4", {}, name),
    h(
      "p",
      { class: "key" },
      h("span", { class: "swatch", "aria-hidden": "true" }),
      `${other.variant}, ${plural(other.rows, "row")} `,
      h("span", { class: "swatch reference", "aria-hidden": "true" }),
      `${first.variant}, ${count(first.rows)}`,
    ),
    bins
      ? [
          histogram(bins, { categorical: kind === "categorical", reference: first.variant }),
          h(
            "p",
            { class: "faint" },
            `${measure.toUpperCase()} ${statistic(other.statistics[measure])}, p-value ${statistic(other.p_value)}`,
          ),
        ]
      : h("p", { class: "empty" }, "No rows of both yet."),
  );
}
