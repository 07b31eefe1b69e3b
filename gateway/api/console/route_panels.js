// Shows the panel in which a route is about to be changed: shift, abort, history, edit.
// Changes nothing itself: every field and button speaks to the desk.

import { changeList } from "./changes.js";
import { ago, weight } from "./format.js";
import { quiet } from "./notes.js";
import { h } from "./render.js";
import { summary } from "./route_desk.js";
import { badge, splitBar } from "./shapes.js";

/** The open panel of a route, null without one. */
export function panel(view, desk, route, work) {
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
  if (!work.document)
    return work.problem
      ? [refusal(desk, work), endings(desk, work, null)]
      : h("p", { class: "faint" }, "Reading the route …");
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
          h(
            "label",
            { for: `weight-${route.name}-${variant}` },
            h("span", { class: `swatch tone-${index % 6}`, "aria-hidden": "true" }),
            variant,
            h("span", { class: "unseen" }, " weight in percent"),
          ),
          index === 0
            ? h(
                "div",
                { class: "rest" },
                h(
                  "span",
                  { class: "track", "aria-hidden": "true" },
                  h("span", { class: "fill tone-0", style: { width: `${Math.max(0, rest)}%` } }),
                ),
              )
            : h("input", {
                type: "range",
                min: 0,
                max: 100,
                step: 1,
                class: `tone-${index % 6}`,
                "aria-label": `${variant} weight`,
                "aria-valuetext": weight(share),
                value: Number.isFinite(share) ? share : 0,
                oninput: (event) => desk.setWeight(work, variant, event.target.valueAsNumber),
                made: index === 1 ? focus : undefined,
              }),
          index === 0
            ? h(
                "output",
                { id: `weight-${route.name}-${variant}`, class: rest < 0 ? "number is-bad" : "number" },
                weight(rest),
                h("span", { class: "faint" }, " the rest"),
              )
            : h(
                "span",
                { class: "with-unit" },
                h("input", {
                  id: `weight-${route.name}-${variant}`,
                  type: "number",
                  min: 0,
                  max: 100,
                  step: "any",
                  inputmode: "decimal",
                  value: Number.isFinite(share) ? share : "",
                  oninput: (event) => desk.setWeight(work, variant, event.target.valueAsNumber),
                }),
                " %",
              ),
        ),
      ),
    ),
    checkView(work, desk.hasChanged(work)),
    reasonField(desk, work, route),
    refusal(desk, work),
    endings(desk, work, "Shift", { isDisabled: !desk.hasChanged(work) }),
  ];
}

function abortPanel(view, desk, route, work) {
  const [first] = route.variants;
  return [
    h(
      "p",
      {},
      "Send every request of ",
      h("b", {}, route.name),
      " to ",
      h("b", {}, first.name),
      ` (${first.model}:${first.version}), at once.`,
    ),
    view.isStoreDown
      ? storeNote("The abort works on this replica now, and on all of them when the store is back.")
      : null,
    route.shadows?.length
      ? h(
          "label",
          { class: "check" },
          h("input", {
            type: "checkbox",
            checked: work.removesShadows,
            onchange: (event) => desk.set(work, { removesShadows: event.target.checked }),
          }),
          " Remove its shadows, too",
        )
      : null,
    refusal(desk, work),
    h(
      "div",
      { class: "actions" },
      h(
        "button",
        { type: "submit", class: "danger strong", made: focus, disabled: work.isBusy },
        work.isBusy ? "Aborting …" : "Abort now",
      ),
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
          h(
            "span",
            { class: "what" },
            variants?.map(({ name, weight: share }) => `${name} ${weight(share)}`).join(" · ") ?? "",
            h(
              "span",
              { class: "faint under" },
              entry.actor || "somebody",
              ", ",
              h("time", { datetime: entry.at, title: entry.at }, ago(entry.at, view.now)),
              entry.reason ? [": ", h("span", { class: "said" }, entry.reason)] : null,
            ),
          ),
          isCurrent
            ? h("span", { class: "faint" }, "in force")
            : variants
              ? h(
                  "button",
                  {
                    type: "button",
                    "aria-pressed": String(work.revision === entry.revision),
                    "aria-label": `Roll back to this: revision ${entry.revision}`,
                    made: index === 1 ? focus : undefined,
                    onclick: () => desk.set(work, { revision: entry.revision, problem: null }),
                  },
                  "Roll back to this",
                )
              : null,
        );
      }),
    ),
    work.revision !== null
      ? [
          reasonField(desk, work, route),
          refusal(desk, work),
          endings(desk, work, `Roll back to revision ${work.revision}`),
        ]
      : endings(desk, work, null),
  ];
}

function editPanel(view, desk, route, work) {
  if (!work.document)
    return work.problem
      ? [refusal(desk, work), endings(desk, work, null)]
      : h("p", { class: "faint" }, "Reading the route …");
  return [
    view.isStoreDown ? storeNote("A change is refused until it is back.") : null,
    moved(desk, route, work),
    h("label", { for: `document-${route.name}` }, "Document: variants with weights that sum to 100, and shadows"),
    h("textarea", {
      id: `document-${route.name}`,
      rows: Math.min(24, work.text.split("\n").length + 1),
      spellcheck: "false",
      value: work.text,
      oninput: (event) => desk.setText(work, event.target.value),
      made: focus,
    }),
    checkView(work, true),
    reasonField(desk, work, route),
    refusal(desk, work),
    endings(desk, work, "Save"),
  ];
}

function moved(desk, route, work) {
  if (route.revision === work.document.revision) return null;
  return h(
    "p",
    { class: "notice watch" },
    badge(
      "watch",
      `Somebody made revision ${route.revision} meanwhile; what you see here began at ${work.document.revision}.`,
    ),
    " ",
    h("button", { type: "button", onclick: () => desk.refresh(route.name) }, "Go on from the new one"),
  );
}

/** What the gateway says would change, or what is wrong with it. */
function checkView(work, hasChanged) {
  const { check } = work;
  if (!hasChanged || !check?.result) {
    const text = check?.isPending ? "Asking what would move …" : "Move a weight to see what would change.";
    return h("div", { class: "check-result faint" }, text);
  }
  const { valid, moved_percent: moved, changes } = check.result;
  const verdict = valid
    ? [h("b", { class: "big" }, weight(moved)), " of the keys would move", changes?.length ? "" : ": nothing changes"]
    : badge("bad", summary(check.result));
  return h(
    "div",
    { class: `check-result ${check.isPending ? "pending" : ""}` },
    h("p", {}, verdict),
    changeList(changes, { document: work.kind === "shift" ? work.document : null }),
  );
}

function reasonField(desk, work, route, text = "Reason") {
  const id = `reason-${work.kind}-${route.name}`;
  return h(
    "div",
    { class: "reason" },
    h("label", { for: id }, text),
    h("input", {
      id,
      type: "text",
      maxlength: 500,
      autocomplete: "off",
      placeholder: "why, for the history and the audit log",
      value: work.reason,
      oninput: (event) => desk.set(work, { reason: event.target.value }),
    }),
  );
}

function refusal(desk, work) {
  if (!work.problem) return null;
  return h(
    "div",
    { class: "notice bad refused" },
    badge("bad", work.problem.text),
    work.problem.errors?.length
      ? h(
          "ul",
          {},
          work.problem.errors.map(({ pointer, detail }) =>
            h("li", {}, pointer ? [h("code", {}, pointer), " "] : null, detail),
          ),
        )
      : null,
    work.problem.status === 412
      ? h("button", { type: "button", onclick: () => desk.refresh(work.name) }, "Go on from what it is now")
      : null,
  );
}

function endings(desk, work, verb, { isDisabled = false } = {}) {
  return h(
    "div",
    { class: "actions" },
    verb
      ? h(
          "button",
          { type: "submit", class: "strong", disabled: work.isBusy || isDisabled },
          work.isBusy ? "Asking …" : verb,
        )
      : null,
    h("button", { type: "button", onclick: () => desk.close(work.name) }, verb ? "Cancel" : "Close"),
  );
}

const storeNote = (text) => h("p", { class: "notice watch" }, badge("watch", `The store does not answer. ${text}`));
