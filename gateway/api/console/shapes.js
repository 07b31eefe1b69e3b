// Draws: marks of states, sparklines, split bars and histograms, as SVG or plain elements.
// Never the only bearer of a fact: what a drawing shows stands beside it in words, or in its label.

import { h } from "./render.js";
import { ratio, statistic, trim, weight } from "./format.js";

/** Marks differ in shape, not only in colour. */
const MARKS = {
  good: [h("circle", { cx: 8, cy: 8, r: 7 }), h("path", { class: "ink", d: "M4.8 8.3l2.2 2.2 4.2-4.6" })],
  watch: [h("path", { d: "M8 1.2 15.2 14.4H.8z" }), h("path", { class: "ink", d: "M8 6v4M8 12.2v.1" })],
  bad: [
    h("path", { d: "M5.1.9h5.8l4.2 4.2v5.8l-4.2 4.2H5.1L.9 10.9V5.1z" }),
    h("path", { class: "ink", d: "M8 4.2v4.6M8 11.6v.1" }),
  ],
  unknown: [h("circle", { class: "hollow", cx: 8, cy: 8, r: 6 })],
};

export const mark = (level) =>
  h("svg", { class: `mark ${level}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, MARKS[level] ?? MARKS.unknown);

/** A state as mark and word. */
export const badge = (level, ...text) => h("span", { class: `badge ${level}` }, mark(level), h("span", {}, text));

const WIDTH = 120;
const HEIGHT = 32;
const FEWEST_STEPS = 15; // a line of three readings is no full width

/** A line of the last readings, filled below; gaps where a value is missing. */
export function sparkline(values, { tone = "", ceiling = 0 } = {}) {
  const steps = Math.max(values.length, FEWEST_STEPS) - 1;
  const known = values.filter((value) => value !== null);
  const top = Math.max(ceiling, ...known, 0) || 1;
  const x = (index) => trim(WIDTH - (values.length - 1 - index) * (WIDTH / steps), 1);
  const y = (value) => trim(HEIGHT - 2 - (Math.min(value, top) / top) * (HEIGHT - 5), 1);
  const lines = [];
  let line = [];
  values.forEach((value, index) => {
    if (value !== null) return line.push([x(index), y(value)]);
    if (line.length) lines.push(line);
    line = [];
    return null;
  });
  if (line.length) lines.push(line);
  const last = lines.at(-1)?.at(-1);
  return h(
    "svg",
    { class: `spark ${tone}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    h("path", { class: "base", d: `M0 ${HEIGHT - 2}H${WIDTH}` }),
    lines
      .filter((points) => points.length > 1)
      .map((points) => [
        h("path", {
          class: "area",
          d: `M${points[0][0]} ${HEIGHT - 2}L${points.map((point) => point.join(" ")).join("L")}L${points.at(-1)[0]} ${HEIGHT - 2}Z`,
        }),
        h("path", { class: "line", d: `M${points.map((point) => point.join(" ")).join("L")}` }),
      ]),
    last ? h("circle", { class: "dot", cx: Math.min(Number(last[0]), WIDTH - 2), cy: last[1], r: 2 }) : null,
  );
}

/** The weights of a route as one bar. Names stand in the table beside it; the label says them, too. */
export function splitBar(variants, { isSmall = false } = {}) {
  const label = variants.map(({ name, weight: share }) => `${name} ${weight(share)}`).join(", ");
  return h(
    "div",
    { class: isSmall ? "split small" : "split", role: "img", "aria-label": label },
    variants.map(({ name, weight: share }, index) =>
      h(
        "span",
        {
          key: name,
          class: `part tone-${index % 6}`,
          style: { "flex-grow": String(share), display: share > 0 ? "flex" : "none" },
        },
        !isSmall && share >= 12 ? h("span", {}, h("b", {}, name), " ", weight(share)) : null,
      ),
    ),
  );
}

/** Shares of several results as one bar. */
export function shareBar(parts, label) {
  return h(
    "div",
    { class: "split small", role: "img", "aria-label": label },
    parts.map(([kind, value]) =>
      h("span", { class: `part ${kind}`, style: { "flex-grow": String(value), display: value > 0 ? "flex" : "none" } }),
    ),
  );
}

/** Reference and current shares of a feature's bins, side by side. */
export function histogram(bins, { categorical, reference = "reference" }) {
  const top = Math.max(...bins.flatMap((bin) => [bin.reference, bin.current]), 0.0001);
  return categorical ? rows(bins, top, reference) : columns(bins, top, reference);
}

function columns(bins, top, name) {
  const width = 100 / bins.length;
  const tall = (share) => trim((share / top) * 90, 2);
  const ticks = [0.25, 0.5, 0.75]
    .map((share) => Math.round(bins.length * share))
    .filter((index) => index > 0 && index < bins.length);
  return h(
    "figure",
    { class: "histogram" },
    h(
      "div",
      { class: "plot" },
      h("span", { class: "top", "aria-hidden": "true" }, ratio(top)),
      h(
        "svg",
        { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
        bins.map(({ label, reference, current }, index) => {
          const left = index * width;
          const [before, now] = [Number(tall(reference)), Number(tall(current))];
          return h(
            "g",
            {},
            h("title", {}, `${label}: ${ratio(current)}, ${name} ${ratio(reference)}`),
            h("rect", { class: "hit", x: trim(left, 3), y: 0, width: trim(width, 3), height: 100 }),
            h("rect", {
              class: "current",
              x: trim(left + width * 0.12, 3),
              y: trim(98 - now, 2),
              width: trim(width * 0.76, 3),
              height: now,
            }),
            h("path", {
              class: "reference",
              d: `M${trim(left + width * 0.04, 3)} ${trim(98 - before, 2)}h${trim(width * 0.92, 3)}`,
            }),
          );
        }),
        h("path", { class: "axis", d: "M0 98.5H100" }),
      ),
    ),
    h(
      "div",
      { class: "ticks", "aria-hidden": "true" },
      ticks.map((index) => h("span", { style: { left: `${trim(index * width, 2)}%` } }, statistic(bins[index].lower))),
    ),
  );
}

function rows(bins, top, name) {
  return h(
    "ul",
    { class: "categories" },
    bins.map(({ label, reference, current }) =>
      h(
        "li",
        {},
        h("span", { class: "name" }, label),
        h(
          "span",
          { class: "track", "aria-hidden": "true" },
          h("span", { class: "current", style: { width: `${trim((current / top) * 100, 2)}%` } }),
          h("span", { class: "reference", style: { left: `${trim((reference / top) * 100, 2)}%` } }),
        ),
        h("span", { class: "number" }, ratio(current)),
        h("span", { class: "number faint" }, h("span", { class: "unseen" }, `${name} `), ratio(reference)),
      ),
    ),
  );
}

/** Counts by decade or octave, one bar each. */
export function smallBars(counts, edges, label, write) {
  const top = Math.max(...counts, 1);
  return h(
    "div",
    { class: "small-bars", role: "img", "aria-label": label },
    h(
      "div",
      { class: "bars" },
      counts.map((value, index) =>
        h("span", {
          title: `${index < edges.length ? `up to ${write(edges[index])}` : `above ${write(edges.at(-1))}`}: ${value}`,
          style: { height: `${trim(Math.max(value ? 4 : 1, (value / top) * 100), 1)}%` },
        }),
      ),
    ),
    h(
      "div",
      { class: "ends", "aria-hidden": "true" },
      h("span", {}, `≤ ${write(edges[0])}`),
      h("span", {}, `> ${write(edges.at(-1))}`),
    ),
  );
}
