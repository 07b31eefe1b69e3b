// Says why there is nothing to see: still asking, not allowed, not built in, or failed.
// Never hides a problem behind an empty list.

import { h } from "./render.js";
import { explain } from "./api.js";
import { badge } from "./shapes.js";

/** A quiet line in the place of a list. */
export function quiet(problem, waiting) {
  if (!problem) return h("p", { class: "empty" }, waiting);
  if (problem.status === 401) return h("p", { class: "empty" }, "Locked: this gateway asks for a token.");
  if (problem.status === 404) return h("p", { class: "empty" }, "This gateway has no answer to that.");
  return h("p", { class: "empty" }, badge("watch", explain(problem)));
}
