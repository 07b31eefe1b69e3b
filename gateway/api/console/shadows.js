// Shows how far each shadow agrees with the answers that callers got, and which requests differed most.
// Judges nothing: the gateway compared.

import { h } from "./render.js";
import { ago, count, plural, ratio, statistic, weight } from "./format.js";
import { samplesOf } from "./metrics.js";
import { shareBar, smallBars } from "./shapes.js";
import { quiet } from "./notes.js";

export function shadowsView(view) {
  if (!view.routes) return quiet(view.problems.routes, "Asking for the shadows …");
  const routes = view.routes.filter((route) => route.shadows?.length);
  if (!routes.length)
    return h(
      "p",
      { class: "empty" },
      "No route has a shadow. A shadow gets copies of requests, and no caller sees its answers.",
    );
  return h(
    "div",
    { class: "cards" },
    routes.map((route) => route.shadows.map((shadow) => card(view, route, shadow))),
  );
}

function card(view, route, shadow) {
  const { data, problem } = view.shadows(route.name);
  const found = data?.shadows?.find(({ name }) => name === shadow.name) ?? null;
  const id = `shadow-${route.name}-${shadow.name}`;
  return h(
    "article",
    { class: "card", key: id, "aria-labelledby": id },
    h(
      "div",
      { class: "card-head" },
      h("h3", { id }, shadow.name),
      h(
        "span",
        { class: "faint" },
        `${shadow.model}:${shadow.version} beside ${route.name}, ${weight(shadow.sample)} of requests`,
      ),
    ),
    found ? agreement(view, route, shadow, found) : quiet(problem, "Asking how far it agrees …"),
  );
}

function agreement(
  view,
  route,
  shadow,
  { matches, mismatches, errors, rows, class_flips: flips, absolute, latency_ratio: pace, worst },
) {
  const total = matches + mismatches + errors;
  if (!total) return h("p", { class: "empty" }, "Nothing compared yet.");
  const dropped = samplesOf(view.metrics, "gateway_shadow_dropped_total", { route: route.name, shadow: shadow.name });
  const lost = dropped.reduce((sum, { value }) => sum + value, 0);
  return [
    h(
      "p",
      { class: "agree" },
      h("b", { class: "big" }, ratio(matches / total)),
      " of ",
      plural(total, "comparison"),
      total === 1 ? " agrees" : " agree",
    ),
    shareBar(
      [
        ["good", matches],
        ["watch", mismatches],
        ["bad", errors],
      ],
      `${matches} match, ${mismatches} mismatch, ${errors} errors`,
    ),
    h(
      "dl",
      { class: "facts" },
      fact("Mismatches", count(mismatches)),
      fact("Errors", count(errors)),
      fact("Other class", rows ? `${count(flips)} of ${count(rows)} rows` : count(flips)),
      fact(
        "Dropped",
        lost
          ? `${count(lost)}: ${dropped
              .filter(({ value }) => value)
              .map(({ labels, value }) => `${labels.reason} ${count(value)}`)
              .join(", ")}`
          : "0",
      ),
    ),
    h(
      "div",
      { class: "pair" },
      absolute
        ? h(
            "figure",
            {},
            h("figcaption", {}, "Largest difference of a row"),
            smallBars(absolute.rows, absolute.edges, "Rows by absolute difference, a bar for each decade", (edge) =>
              statistic(edge),
            ),
          )
        : null,
      pace
        ? h(
            "figure",
            {},
            h("figcaption", {}, "Run time against the primary's"),
            smallBars(
              pace.requests,
              pace.edges,
              "Requests by run time of the shadow over that of the primary",
              (edge) => `${statistic(edge)}×`,
            ),
          )
        : null,
    ),
    worst?.length ? worstRequests(view, worst) : null,
  ];
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function worstRequests({ now }, worst) {
  return h(
    "details",
    {},
    h("summary", {}, `Requests that differed most (${worst.length})`),
    h(
      "table",
      { class: "numbers" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Request id"),
          h("th", { scope: "col", class: "number" }, "Difference"),
          h("th", { scope: "col" }, "Why"),
          h("th", { scope: "col", class: "number wide" }, "Seen"),
        ),
      ),
      h(
        "tbody",
        {},
        worst.map((request) =>
          h(
            "tr",
            { key: `${request.request_id} ${request.at}` },
            h("th", { scope: "row" }, h("code", {}, request.request_id)),
            h("td", { class: "number" }, statistic(request.difference)),
            h(
              "td",
              {},
              request.reason,
              request.class_flips ? ` (${count(request.class_flips)} rows of another class)` : "",
            ),
            h(
              "td",
              { class: "number wide" },
              ago(typeof request.at === "number" ? request.at * 1000 : request.at, now),
            ),
          ),
        ),
      ),
    ),
  );
}
