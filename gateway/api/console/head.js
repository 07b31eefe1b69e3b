// Shows the head of the page: where we are, how everything stands at a glance, what needs a look, and the traffic of all routes.
// Decides nothing: `attention.js` does.

import { glance } from "./attention.js";
import { duration, plural, rate, ratio } from "./format.js";
import { samplesOf } from "./metrics.js";
import { h } from "./render.js";
import { badge, mark, sparkline } from "./shapes.js";

export function whereView({ here, metrics }) {
  const version = samplesOf(metrics, "gateway_build_info")[0]?.labels.version;
  return [h("code", {}, here), version ? ` ${version}` : ""];
}

export function pulseView({ isPaused, isReachable, isHeard }) {
  if (isPaused) return badge("watch", "paused");
  if (!isReachable) return badge("bad", "no answer");
  return isHeard ? badge("good", "live") : badge("unknown", "connecting");
}

export function bannerView({ session }) {
  if (!session.isLocked) return null;
  return h(
    "p",
    { class: "notice watch" },
    badge("watch", "This gateway asks for a token. Metrics and readiness are open, everything else is locked. "),
    h("button", { type: "button", onclick: () => session.ask() }, "Enter a token"),
  );
}

export const stateView = (view) =>
  glance(view).map(({ name, level, value, detail, href }) =>
    h(
      "li",
      { key: name },
      h(
        "a",
        { class: `tile ${level}`, href },
        h("span", { class: "label" }, name),
        h("span", { class: "value" }, mark(level), value),
        h("span", { class: "detail" }, detail),
      ),
    ),
  );

/** What needs a look; calm is said only where everything could be seen. */
export function attentionView({ session, traffic, routes }, found) {
  if (!found.length) {
    const isSeen = traffic.isReady && routes && !session.isLocked;
    return isSeen ? h("p", { class: "calm" }, "Nothing needs a look.") : null;
  }
  return h(
    "div",
    { class: `attention ${found[0].level === "watch" ? "only-watch" : ""}` },
    h("h3", {}, "Needs a look"),
    h(
      "ul",
      {},
      found.map(({ level, text, href }) => h("li", { key: kindOf(text) }, mark(level), h("a", { href }, text))),
    ),
  );
}

/** The same finding with other numbers is no new one. */
export const kindOf = (text) => text.replace(/[<>]?[\d.]+ %/g, "some");

/** What all routes together do, in four numbers. */
export function figuresView({ traffic, metrics }) {
  const recent = traffic.over(10);
  const series = traffic.series();
  const waiting = samplesOf(metrics, "gateway_queue_rows").reduce((sum, { value }) => sum + value, 0);
  const figure = (name, value, values, detail, options) =>
    h(
      "div",
      { class: "figure", key: name },
      h("p", { class: "label" }, name),
      h("p", { class: "value" }, value),
      sparkline(values, options),
      h("p", { class: "detail" }, detail),
    );
  const isBad = recent && recent.errorRatio > 0.01;
  return [
    figure(
      "Requests per second",
      recent ? rate(recent.rate) : "–",
      series.map((step) => step.rate),
      recent && !recent.requests ? "no requests in the last 10 s" : plural(waiting, "row waiting", "rows waiting"),
      { tone: "tone-0" },
    ),
    figure(
      "Errors",
      recent ? ratio(recent.errorRatio ?? 0) : "–",
      series.map((step) => step.errorRatio ?? 0),
      "answers with 5xx",
      { tone: isBad ? "tone-bad" : "tone-0", ceiling: 0.02 },
    ),
    figure(
      "Median latency",
      recent ? duration(recent.p50) : "–",
      series.map((step) => step.p50),
      "p50, estimated from buckets",
      { tone: "tone-0" },
    ),
    figure(
      "Slowest 1 %",
      recent ? duration(recent.p99) : "–",
      series.map((step) => step.p99),
      "p99, estimated from buckets",
      { tone: "tone-0" },
    ),
  ];
}
