// Shows the routes: shares, live rates and latency of every variant, and the buttons that open a panel.
// Changes nothing itself: every button speaks to the desk.

import { h } from "./render.js";
import { duration, rate, ratio, weight } from "./format.js";
import { valueOf } from "./metrics.js";
import { comparisonView } from "./comparison.js";
import { badge, sparkline, splitBar } from "./shapes.js";
import { panel } from "./route_panels.js";
import { quiet } from "./notes.js";

const SECONDS = 10;

export function routesView(view) {
  const { routes, desk } = view;
  if (!routes) return quiet(view.problems.routes, "Asking for the routes …");
  if (!routes.length)
    return h(
      "p",
      { class: "empty" },
      "No routes yet. A model gets one of its own name as soon as a version of it is READY.",
    );
  const isPlain = (route) => route.variants.length === 1 && !route.shadows?.length;
  const plain = routes.filter(isPlain);
  const split = routes.filter((route) => !isPlain(route));
  return [
    split.map((route) => card(view, desk, route)),
    plain.length ? plainRoutes(view, desk, plain, split.length > 0) : null,
  ];
}

function card(view, desk, route) {
  const { name, variants, shadows = [] } = route;
  const work = desk.at(name);
  return h(
    "article",
    { key: name, class: "card route", id: `route-${name}`, "aria-labelledby": `name-${name}`, tabindex: "-1" },
    h(
      "div",
      { class: "card-head" },
      h("h3", { id: `name-${name}` }, name),
      h("span", { class: "faint" }, `revision ${route.revision}`),
      alarms(view, route),
      h(
        "div",
        { class: "actions" },
        variants.length > 1 ? opener(desk, work, name, "shift", "Shift weights") : null,
        opener(desk, work, name, "history", "History"),
        opener(desk, work, name, "edit", "Edit"),
        opener(desk, work, name, "abort", "Abort", "danger"),
      ),
    ),
    regression(view, desk, name),
    panel(view, desk, route, work),
    notice(desk, name),
    splitBar(variants),
    variantTable(view, route),
    variants.length > 1 ? comparisonView(view, route) : null,
    shadows.length
      ? h(
          "p",
          { class: "faint line" },
          "Shadowed by ",
          shadows.map((shadow, index) => [
            index ? ", " : "",
            h("a", { href: "#shadows" }, shadow.name),
            ` (${shadow.model}:${shadow.version}, ${weight(shadow.sample)} of requests)`,
          ]),
        )
      : null,
    route.reason ? h("p", { class: "faint line" }, "Last reason: ", h("span", { class: "said" }, route.reason)) : null,
  );
}

function alarms({ metrics }, { name }) {
  const isOff = valueOf(metrics, "gateway_sample_ratio_mismatch", { route: name }) > 0;
  return isOff ? badge("watch", "shares off") : null;
}

/** The store went backwards: it is not obeyed, and nothing can be changed, until somebody says that it is right. */
function regression({ metrics }, desk, name) {
  if (!(valueOf(metrics, "gateway_route_store_regressed", { route: name }) > 0)) return null;
  return h(
    "p",
    { class: "notice bad" },
    badge(
      "bad",
      "The store holds an older or another revision than the one in force, so it is not obeyed and nothing can be changed.",
    ),
    " ",
    h(
      "button",
      { type: "button", onclick: () => desk.adopt(name) },
      "Adopt what the store says",
      h("span", { class: "unseen" }, ` about ${name}`),
    ),
  );
}

function variantTable(view, route) {
  const { traffic, metrics } = view;
  const recent = route.variants.map(({ name }) => traffic.over(SECONDS, route.name, name));
  const total = recent.reduce((sum, cell) => sum + (cell?.requests ?? 0), 0);
  return h(
    "table",
    { class: "numbers" },
    h("caption", { class: "unseen" }, `Variants of ${route.name}, last ${SECONDS} seconds on this replica`),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        head("Variant"),
        head("Weight", "number"),
        head("Observed", "number wide"),
        head("Req/s", "number"),
        head("Errors", "number"),
        head("p50", "number wide"),
        head("p99", "number"),
        head("Requests, up to 2 min", "wide chart"),
      ),
    ),
    h(
      "tbody",
      {},
      route.variants.map((variant, index) => {
        const cell = recent[index];
        const status = route.status?.variants?.find(({ name }) => name === variant.name);
        const isOpen =
          valueOf(metrics, "gateway_variant_breaker_open", { route: route.name, variant: variant.name }) > 0;
        return h(
          "tr",
          { key: variant.name },
          h(
            "th",
            { scope: "row" },
            h("span", { class: `swatch tone-${index % 6}`, "aria-hidden": "true" }),
            h("span", { class: "name" }, variant.name),
            h("span", { class: "faint under" }, `${variant.model}:${variant.version}`),
            isOpen ? badge("bad", status?.breaker?.reason ? `cut off: ${status.breaker.reason}` : "cut off") : null,
            status?.ready === false ? badge("bad", "not READY here") : null,
          ),
          number(weight(variant.weight)),
          number(total ? ratio((cell?.requests ?? 0) / total) : null, "wide"),
          ...figures(cell),
          h(
            "td",
            { class: "wide chart" },
            sparkline(
              traffic.series(route.name, variant.name).map((step) => step.rate),
              { tone: `tone-${index % 6}` },
            ),
          ),
        );
      }),
    ),
  );
}

function plainRoutes(view, desk, routes, hasSplit) {
  return h(
    "div",
    { class: "card", key: "plain routes" },
    hasSplit ? h("h3", { class: "small-head" }, "Everything to one version") : null,
    h(
      "table",
      { class: "numbers" },
      h("caption", { class: "unseen" }, `Routes with one variant, last ${SECONDS} seconds on this replica`),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head("Route"),
          head("Req/s", "number"),
          head("Errors", "number"),
          head("p50", "number wide"),
          head("p99", "number"),
          head("Requests, up to 2 min", "wide chart"),
          h("td", {}),
        ),
      ),
      h(
        "tbody",
        {},
        routes.map((route) => plainRoute(view, desk, route)),
      ),
    ),
  );
}

function plainRoute(view, desk, route) {
  const [variant] = route.variants;
  const work = desk.at(route.name);
  const said = [regression(view, desk, route.name), notice(desk, route.name)].filter(Boolean);
  return [
    h(
      "tr",
      { key: route.name, id: `route-${route.name}` },
      h(
        "th",
        { scope: "row" },
        h("span", { class: "name" }, route.name),
        h("span", { class: "faint under" }, `${variant.model}:${variant.version} · revision ${route.revision}`),
      ),
      ...figures(view.traffic.over(SECONDS, route.name, variant.name)),
      h(
        "td",
        { class: "wide chart" },
        sparkline(
          view.traffic.series(route.name, variant.name).map((step) => step.rate),
          { tone: "tone-0" },
        ),
      ),
      h(
        "td",
        { class: "ends" },
        h(
          "div",
          { class: "actions" },
          opener(desk, work, route.name, "history", "History"),
          opener(desk, work, route.name, "edit", "Edit", "wide"),
        ),
      ),
    ),
    work || said.length
      ? h("tr", { key: `${route.name} panel` }, h("td", { colspan: 7 }, panel(view, desk, route, work), said))
      : null,
  ];
}

function figures(cell) {
  const isBad = cell && cell.errorRatio > 0.01;
  return [
    number(cell ? rate(cell.rate) : null),
    h(
      "td",
      { class: `number ${isBad ? "is-bad" : ""}` },
      cell && cell.errorRatio !== null ? ratio(cell.errorRatio) : "–",
    ),
    number(cell ? duration(cell.p50) : null, "wide"),
    number(cell ? duration(cell.p99) : null),
  ];
}

const head = (text, kind = "") => h("th", { scope: "col", class: kind }, text);
const number = (text, kind = "") => h("td", { class: `number ${kind}` }, text ?? "–");

function opener(desk, work, name, kind, text, tone = "") {
  const isOpen = work?.kind === kind;
  return h(
    "button",
    {
      type: "button",
      key: kind,
      id: `${kind}-${name}`,
      class: tone,
      "aria-expanded": String(isOpen),
      "aria-label": `${text}: ${name}`,
      onclick: () => (isOpen ? desk.close(name) : desk.open(name, kind)),
      onkeydown: (event) => {
        if (event.key === "Escape") desk.close(name); // the panel may not be there yet, nor have the focus
      },
    },
    text,
  );
}

function notice(desk, name) {
  const said = desk.notice(name);
  return said ? h("p", { class: `notice ${said.level}` }, badge(said.level, said.text)) : null;
}
