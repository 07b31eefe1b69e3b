// Writes the difference between two documents, as validation and the audit log give it, in lines people read.
// Pure: descriptions only.

import { weight } from "./format.js";
import { h } from "./render.js";

const LONGEST = 72;

/**
 * A list of changes; null without one.
 * `document` gives the names of the variants whose weights changed; without it pointers stand for themselves.
 */
export function changeList(changes, { document = null, most = Infinity } = {}) {
  if (!changes?.length) return null;
  const left = changes.length - most;
  return h(
    "ul",
    { class: "changes" },
    changes.slice(0, most).map((change) => line(change, document)),
    left > 0 ? h("li", { class: "faint" }, `and ${left} more`) : null,
  );
}

function line({ pointer, from, to }, document) {
  const variant = variantOf(document, pointer);
  if (variant) return h("li", {}, variant, " ", h("del", {}, weight(from)), " → ", h("ins", {}, weight(to)));
  return h("li", {}, h("code", {}, pointer || "/"), " ", h("del", {}, shown(from)), " → ", h("ins", {}, shown(to)));
}

/** Whose weight a pointer means, by name; null for everything else. */
function variantOf(document, pointer) {
  const index = /^\/variants\/(\d+)\/weight$/.exec(pointer)?.[1];
  return index === undefined ? null : (document?.variants[Number(index)]?.name ?? null);
}

function shown(value) {
  if (value === null || value === undefined) return "nothing";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text;
}
