// Shows the routes: shares, live rates and latency per variant, and the panels in which they are changed.
// Changes nothing itself: every button speaks to the desk.

import { h } from "./render.js";
import { ago, duration, rate, ratio, weight } from "./format.js";
import { valueOf } from "./metrics.js";
import { comparisonView } from "./comparison.js";
import { badge, sparkline, splitBar } from "./shapes.js";
import { summary } from "./route_desk.js";
import { quiet } from "./notes.js";

const SECONDS = 10;

export function routesView(view) {
  const { routes, desk } = view;
  if (!routes) return quiet(view.problems.routes, "Asking for the routes …");
  if (!routes.length) return h("p", { class: "empty" }, "No routes yet. A model gets one of its own name as soon as a version of it is READY.");
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
    shadows.length ? h("p", { class: "faint line" }, "Shadowed by ", shadows.map((shadow, index) => [index ? ", " : "", h("a", { href: "#shadows" }, shadow.name), ` (${shadow.model}:${shadow.version}, ${weight(shadow.sample)} of requests)`])) : null,
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
  return h("p", { class: "notice bad" }, badge("bad", "The store holds an older or another revision than the one in force, so it is not obeyed and nothing can be changed."), " ", h("button", { type: "button", onclick: () => desk.adopt(name) }, "Adopt what the store says", h("span", { class: "unseen" }, ` about ${name}`)));
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
      h("tr", {}, head("Variant"), head("Weight", "number"), head("Observed", "number wide"), head("Req/s", "number"), head("Errors", "number"), head("p50", "number wide"), head("p99", "number"), head("Requests, up to 2 min", "wide chart")),
    ),
    h(
      "tbody",
      {},
      route.variants.map((variant, index) => {
        const cell = recent[index];
        const status = route.status?.variants?.find(({ name }) => name === variant.name);
        const isOpen = valueOf(metrics, "gateway_variant_breaker_open", { route: route.name, variant: variant.name }) > 0;
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
          h("td", { class: "wide chart" }, sparkline(traffic.series(route.name, variant.name).map((step) => step.rate), { tone: `tone-${index % 6}` })),
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
      h("thead", {}, h("tr", {}, head("Route"), head("Req/s", "number"), head("Errors", "number"), head("p50", "number wide"), head("p99", "number"), head("Requests, up to 2 min", "wide chart"), h("td", {}))),
      h("tbody", {}, routes.map((route) => plainRoute(view, desk, route))),
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
      h("th", { scope: "row" }, h("span", { class: "name" }, route.name), h("span", { class: "faint under" }, `${variant.model}:${variant.version} · revision ${route.revision}`)),
      ...figures(view.traffic.over(SECONDS, route.name, variant.name)),
      h("td", { class: "wide chart" }, sparkline(view.traffic.series(route.name, variant.name).map((step) => step.rate), { tone: "tone-0" })),
      h("td", { class: "ends" }, h("div", { class: "actions" }, opener(desk, work, route.name, "history", "History"), opener(desk, work, route.name, "edit", "Edit", "wide"))),
    ),
    work || said.length ? h("tr", { key: `${route.name} panel` }, h("td", { colspan: 7 }, panel(view, desk, route, work), said)) : null,
  ];
}

function figures(cell) {
  const isBad = cell && cell.errorRatio > 0.01;
  return [
    number(cell ? rate(cell.rate) : null),
    h("td", { class: `number ${isBad ? "is-bad" : ""}` }, cell && cell.errorRatio !== null ? ratio(cell.errorRatio) : "–"),
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
    { type: "button", key: kind, id: `${kind}-${name}`, class: tone, "aria-expanded": String(isOpen), "aria-label": `${text}: ${name}`, onclick: () => (isOpen ? desk.close(name) : desk.open(name, kind)) },
    text,
  );
}

function notice(desk, name) {
  const said = desk.notice(name);
  return said ? h("p", { class: `notice ${said.level}` }, badge(said.level, said.text)) : null;
}

function panel(view, desk, route, work) {
  if (!work) return null;
  const body = { shift: shiftPanel, abort: abortPanel, history: historyPanel, edit: editPanel }[work.kind];
  return h(
    "form",
    {
      key: work.kind,
      class: `panel ${work.kind}`,
      novalidate: true, // the gateway says what is wrong, and to everybody in the same words
      "aria-label": `${PANEL_NAMES[work.kind]} ${route.name}`,
      onsubmit: (event) => {
        event.preventDefault();
        if (!work.isBusy) desk.apply(work);
      },
      onkeydown: (event) => {
        if (event.key === "Escape") desk.close(route.name); // a handler that returned false would eat every other key
      },
    },
    body(view, desk, route, work),
  );
}

const PANEL_NAMES = { shift: "Shift the weights of", abort: "Abort", history: "History of", edit: "Edit" };
const focus = (node) => node.focus({ preventScroll: true });

function shiftPanel(view, desk, route, work) {
  if (!work.document) return work.problem ? [refusal(desk, work), endings(desk, work, null)] : h("p", { class: "faint" }, "Reading the route …");
  const planned = desk.planned(work);
  const rest = planned[0][1];
  return [
    view.isStoreDown ? storeNote("A shift is refused until it is back.") : null,
    moved(desk, route, work),
    h(
      "div",
      { class: "weights" },
      planned.map(([variant, share], index) =>
        h(
          "div",
          { class: "weight", key: variant },
          h("label", { for: `weight-${route.name}-${variant}` }, h("span", { class: `swatch tone-${index % 6}`, "aria-hidden": "true" }), variant, h("span", { class: "unseen" }, " weight in percent")),
          index === 0
            ? h("div", { class: "rest" }, h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill tone-0", style: { width: `${Math.max(0, rest)}%` } })))
            : h("input", { type: "range", min: 0, max: 100, step: 1, class: `tone-${index % 6}`, "aria-label": `${variant} weight`, "aria-valuetext": weight(share), value: Number.isFinite(share) ? share : 0, oninput: (event) => desk.setWeight(work, variant, event.target.valueAsNumber), made: index === 1 ? focus : undefined }),
          index === 0
            ? h("output", { id: `weight-${route.name}-${variant}`, class: rest < 0 ? "number is-bad" : "number" }, weight(rest), h("span", { class: "faint" }, " the rest"))
            : h("span", { class: "with-unit" }, h("input", { id: `weight-${route.name}-${variant}`, type: "number", min: 0, max: 100, step: "any", inputmode: "decimal", value: Number.isFinite(share) ? share : "", oninput: (event) => desk.setWeight(work, variant, event.target.valueAsNumber) }), " %"),
        ),
      ),
    ),
    checkView(work, desk.hasChanged(work), (pointer) => variantOf(work.document, pointer)),
    reasonField(desk, work, route),
    refusal(desk, work),
    endings(desk, work, "Shift", { isDisabled: !desk.hasChanged(work) }),
  ];
}

function abortPanel(view, desk, route, work) {
  const [first] = route.variants;
  return [
    h("p", {}, "Send every request of ", h("b", {}, route.name), " to ", h("b", {}, first.name), ` (${first.model}:${first.version}), at once.`),
    view.isStoreDown ? storeNote("The abort works on this replica now, and on all of them when the store is back.") : null,
    route.shadows?.length
      ? h("label", { class: "check" }, h("input", { type: "checkbox", checked: work.removesShadows, onchange: (event) => desk.set(work, { removesShadows: event.target.checked }) }), " Remove its shadows, too")
      : null,
    refusal(desk, work),
    h(
      "div",
      { class: "actions" },
      h("button", { type: "submit", class: "danger strong", made: focus, disabled: work.isBusy }, work.isBusy ? "Aborting …" : "Abort now"),
      h("button", { type: "button", onclick: () => desk.close(route.name) }, "Keep the weights"),
    ),
    reasonField(desk, work, route, "Reason, if there is time"),
  ];
}

function historyPanel(view, desk, route, work) {
  const { data, problem } = view.history(route.name);
  const revisions = data?.revisions ?? null;
  if (!revisions) return [quiet(problem, "Reading the history …"), endings(desk, work, null)];
  return [
    view.isStoreDown ? storeNote("A rollback is refused until it is back.") : null,
    h(
      "ol",
      { class: "revisions" },
      revisions.map((entry, index) => {
        const isCurrent = entry.revision === route.revision;
        const variants = entry.document?.variants;
        return h(
          "li",
          { key: `${entry.revision} ${entry.at}`, class: work.revision === entry.revision ? "chosen" : "" },
          h("span", { class: "revision" }, `r${entry.revision}`),
          variants ? splitBar(variants, { isSmall: true }) : h("span", { class: "faint" }, "deleted"),
          h("span", { class: "what" }, variants?.map(({ name, weight: share }) => `${name} ${weight(share)}`).join(" · ") ?? "", h("span", { class: "faint under" }, entry.actor || "somebody", ", ", h("time", { datetime: entry.at, title: entry.at }, ago(entry.at, view.now)), entry.reason ? [": ", h("span", { class: "said" }, entry.reason)] : null)),
          isCurrent
            ? h("span", { class: "faint" }, "in force")
            : variants
              ? h("button", { type: "button", "aria-pressed": String(work.revision === entry.revision), "aria-label": `Roll back to this: revision ${entry.revision}`, made: index === 1 ? focus : undefined, onclick: () => desk.set(work, { revision: entry.revision, problem: null }) }, "Roll back to this")
              : null,
        );
      }),
    ),
    work.revision !== null ? [reasonField(desk, work, route), refusal(desk, work), endings(desk, work, `Roll back to revision ${work.revision}`)] : endings(desk, work, null),
  ];
}

function editPanel(view, desk, route, work) {
  if (!work.document) return work.problem ? [refusal(desk, work), endings(desk, work, null)] : h("p", { class: "faint" }, "Reading the route …");
  return [
    view.isStoreDown ? storeNote("A change is refused until it is back.") : null,
    moved(desk, route, work),
    h("label", { for: `document-${route.name}` }, "Document: variants with weights that sum to 100, and shadows"),
    h("textarea", { id: `document-${route.name}`, rows: Math.min(24, work.text.split("\n").length + 1), spellcheck: "false", value: work.text, oninput: (event) => desk.setText(work, event.target.value), made: focus }),
    checkView(work, true),
    reasonField(desk, work, route),
    refusal(desk, work),
    endings(desk, work, "Save"),
  ];
}

function moved(desk, route, work) {
  if (route.revision === work.document.revision) return null;
  return h("p", { class: "notice watch" }, badge("watch", `Somebody made revision ${route.revision} meanwhile; what you see here began at ${work.document.revision}.`), " ", h("button", { type: "button", onclick: () => desk.refresh(route.name) }, "Go on from the new one"));
}

/** Whose weight a pointer means, by name; null for everything else. */
function variantOf({ variants }, pointer) {
  const index = /^\/variants\/(\d+)\/weight$/.exec(pointer)?.[1];
  return index === undefined ? null : (variants[Number(index)]?.name ?? null);
}

function checkView(work, hasChanged, nameOf = () => null) {
  const { check } = work;
  if (!hasChanged || !check?.result) return h("div", { class: "check-result faint" }, check?.isPending ? "Asking what would move …" : "Move a weight to see what would change.");
  const { result } = check;
  return h(
    "div",
    { class: `check-result ${check.isPending ? "pending" : ""}` },
    result.valid ? [h("p", {}, h("b", { class: "big" }, result.moved_percent === null || result.moved_percent === undefined ? "–" : weight(result.moved_percent)), " of the keys would move", result.changes?.length ? "" : ": nothing changes")] : h("p", {}, badge("bad", summary(result))),
    result.changes?.length ? h("ul", { class: "changes" }, result.changes.map(({ pointer, from, to }) => change(nameOf(pointer), pointer, from, to))) : null,
  );
}

function change(name, pointer, from, to) {
  if (name !== null) return h("li", {}, name, " ", h("del", {}, weight(from)), " → ", h("ins", {}, weight(to)));
  return h("li", {}, h("code", {}, pointer || "/"), " ", h("del", {}, shown(from)), " → ", h("ins", {}, shown(to)));
}

const shown = (value) => {
  const text = value === null || value === undefined ? "nothing" : typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
};

function reasonField(desk, work, route, text = "Reason") {
  const id = `reason-${work.kind}-${route.name}`;
  return h("div", { class: "reason" }, h("label", { for: id }, text), h("input", { id, type: "text", maxlength: 500, autocomplete: "off", placeholder: "why, for the history and the audit log", value: work.reason, oninput: (event) => desk.set(work, { reason: event.target.value }) }));
}

function refusal(desk, work) {
  if (!work.problem) return null;
  return h(
    "div",
    { class: "notice bad refused" },
    badge("bad", work.problem.text),
    work.problem.errors?.length ? h("ul", {}, work.problem.errors.map(({ pointer, detail }) => h("li", {}, pointer ? [h("code", {}, pointer), " "] : null, detail))) : null,
    work.problem.status === 412 ? h("button", { type: "button", onclick: () => desk.refresh(work.name) }, "Go on from what it is now") : null,
  );
}

function endings(desk, work, verb, { isDisabled = false } = {}) {
  return h(
    "div",
    { class: "actions" },
    verb ? h("button", { type: "submit", class: "strong", disabled: work.isBusy || isDisabled }, work.isBusy ? "Asking …" : verb) : null,
    h("button", { type: "button", onclick: () => desk.close(work.name) }, verb ? "Cancel" : "Close"),
  );
}

const storeNote = (text) => h("p", { class: "notice watch" }, badge("watch", `The store does not answer. ${text}`));
