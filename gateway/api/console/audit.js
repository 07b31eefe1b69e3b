// Shows who did what, when and why.
// Every word in it is somebody else's, and is shown as a word.

import { changeList } from "./changes.js";
import { ago, time } from "./format.js";
import { quiet } from "./notes.js";
import { h } from "./render.js";

const ACTIONS = {
  automatic: "made the automatic route",
  configured: "seeded from the settings",
  put: "saved",
  shift: "shifted",
  abort: "aborted",
  rollback: "rolled back",
  delete: "deleted",
  adopt: "adopted the store's word on",
  seed: "re-seeded",
};

export function auditView(view) {
  const { audit, now } = view;
  if (!audit) return quiet(view.problems.audit, "Asking for the audit log …");
  if (!audit.length) return h("p", { class: "empty" }, "Nothing was done yet.");
  return h(
    "div",
    { class: "card" },
    h(
      "ol",
      { class: "audit" },
      audit.map((record) => entry(record, now)),
    ),
  );
}

function entry({ at, actor, action, route, revision, reason, request_id: request, changes }, now) {
  const tone = { abort: "bad", rollback: "watch", delete: "bad", adopt: "watch" }[action] ?? "";
  return h(
    "li",
    { key: `${at} ${route} ${revision} ${action}` },
    h("time", { datetime: at, title: `${at}, ${ago(at, now)}` }, time(at)),
    h(
      "div",
      {},
      h(
        "p",
        {},
        h("b", {}, actor || "somebody"),
        " ",
        h("span", { class: `action ${tone}` }, ACTIONS[action] ?? action),
        " ",
        h("b", {}, route),
        h("span", { class: "faint" }, ` r${revision}`),
      ),
      reason ? h("p", { class: "said" }, reason) : null,
      changeList(changes, { most: 6 }),
    ),
    request ? h("code", { class: "faint wide" }, request) : null,
  );
}
