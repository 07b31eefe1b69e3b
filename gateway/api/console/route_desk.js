// Owns what an operator is about to do to a route: weights being moved, an abort to confirm, a revision to go back to.
// Decides nothing about routes: the gateway validates, and its answer is shown.

import { explain } from "./api.js";
import { plural, weight } from "./format.js";

const CHECK_AFTER_MS = 250;
const NOTICE_MS = 20_000;
const at = (name, action = "") => `admin/v1/routes/${encodeURIComponent(name)}${action && `/${action}`}`;

export class RouteDesk {
  #api;
  #hooks;
  #open = new Map(); // route -> what is being done
  #notices = new Map(); // route -> { level, text }
  #comparing = new Set(); // routes whose predictions are shown

  /** hooks: changed(), announce(text), written(route). */
  constructor(api, hooks) {
    this.#api = api;
    this.#hooks = hooks;
  }

  at(name) {
    return this.#open.get(name) ?? null;
  }

  notice(name) {
    return this.#notices.get(name) ?? null;
  }

  isComparing(name) {
    return this.#comparing.has(name);
  }

  compare(name, isOpen) {
    if (isOpen === this.#comparing.has(name)) return;
    if (isOpen) this.#comparing.add(name);
    else this.#comparing.delete(name);
    this.#hooks.changed();
  }

  /** Begin: kind is shift, edit, abort or history. The route is read anew, so that its entity tag is the one of what is shown. */
  async open(name, kind) {
    const work = {
      kind,
      name,
      document: null,
      etag: null,
      weights: {},
      text: "",
      reason: "",
      removesShadows: false,
      revision: null,
      check: null,
      isBusy: false,
      problem: null,
    };
    this.#open.set(name, work);
    this.#notices.delete(name);
    this.#hooks.changed();
    if (kind === "abort") return;
    await this.#read(work);
  }

  /** Take the route as it is now, keeping what the operator typed. */
  async refresh(name) {
    const work = this.at(name);
    if (work) await this.#read(work);
  }

  close(name) {
    const work = this.at(name);
    this.#open.delete(name);
    this.#hooks.changed();
    if (work) document.getElementById(`${work.kind}-${name}`)?.focus();
  }

  setWeight(work, variant, value) {
    work.weights = { ...work.weights, [variant]: value };
    this.#checkSoon(work);
  }

  setText(work, text) {
    work.text = text;
    this.#checkSoon(work);
  }

  set(work, values) {
    Object.assign(work, values);
    this.#hooks.changed();
  }

  /** The weights as they would be: the first variant takes the rest. */
  planned(work) {
    const [first, ...others] = work.document.variants;
    const shares = others.map((variant) => [variant.name, work.weights[variant.name] ?? variant.weight]);
    const rest = 100 - shares.reduce((sum, [, share]) => sum + (Number.isFinite(share) ? share : 0), 0);
    return [[first.name, Number(rest.toFixed(2))], ...shares];
  }

  hasChanged(work) {
    return work.document?.variants.some((variant, index) => this.planned(work)[index][1] !== variant.weight) ?? false;
  }

  async apply(work) {
    const { name, reason } = work;
    const because = reason.trim() ? { reason: reason.trim() } : {};
    const ifMatch = work.etag ? { "if-match": work.etag } : {};
    if (work.kind === "shift") {
      const weights = Object.fromEntries(
        this.planned(work)
          .slice(1)
          .filter(([, share]) => Number.isFinite(share)),
      );
      await this.#write(work, "POST", at(name, "shift"), { weights, ...because }, ifMatch);
    } else if (work.kind === "abort") {
      await this.#write(work, "POST", at(name, "abort"), { shadows: work.removesShadows, ...because });
    } else if (work.kind === "history") {
      await this.#write(work, "POST", at(name, "rollback"), { revision: work.revision, ...because }, ifMatch);
    } else {
      const document = parse(work.text);
      if (document === null) return this.set(work, { problem: { text: "This is not JSON.", errors: [] } });
      await this.#write(work, "PUT", at(name), { ...document, ...because }, ifMatch);
    }
    return undefined;
  }

  async adopt(name) {
    const { data, problem } = await this.#api.send("POST", at(name, "adopt"), {});
    this.#settle(name, data, problem, "adopt");
  }

  async #read(work) {
    const { data, etag, problem } = await this.#api.get(at(work.name));
    if (this.at(work.name) !== work) return;
    if (problem) {
      this.set(work, { problem: { text: explain(problem), errors: problem.errors } });
      return;
    }
    work.document = data;
    work.etag = etag;
    work.problem = null;
    if (work.kind === "edit" && !work.text) work.text = JSON.stringify(content(data), null, 2);
    this.#hooks.changed();
    if (work.kind === "edit" || this.hasChanged(work)) this.#checkSoon(work);
  }

  #checkSoon(work) {
    clearTimeout(work.timer);
    work.check = { isPending: true, result: work.check?.result ?? null };
    work.problem = null;
    work.timer = setTimeout(() => this.#check(work), CHECK_AFTER_MS);
    this.#hooks.changed();
  }

  async #check(work) {
    const document = work.kind === "edit" ? parse(work.text) : this.#plannedDocument(work);
    if (document === null)
      return this.set(work, {
        check: {
          isPending: false,
          result: { valid: false, errors: [{ pointer: "", detail: "This is not JSON." }], changes: [] },
        },
      });
    const asked = work.timer;
    const { data, problem } = await this.#api.send("POST", at(work.name, "validate"), document);
    if (asked !== work.timer || this.at(work.name) !== work) return undefined; // typed on meanwhile
    const result = problem
      ? {
          valid: false,
          errors: problem.errors.length ? problem.errors : [{ pointer: "", detail: explain(problem) }],
          changes: [],
        }
      : data;
    this.set(work, { check: { isPending: false, result } });
    this.#hooks.announce(summary(result));
    return undefined;
  }

  #plannedDocument(work) {
    const shares = new Map(this.planned(work));
    const document = content(work.document);
    return {
      ...document,
      variants: document.variants.map((variant) => ({ ...variant, weight: shares.get(variant.name) })),
    };
  }

  async #write(work, method, path, body, headers) {
    this.set(work, { isBusy: true, problem: null });
    const { data, problem } = await this.#api.send(method, path, body, headers);
    if (problem) {
      this.set(work, {
        isBusy: false,
        problem: { status: problem.status, text: explain(problem), errors: problem.errors },
      });
      this.#hooks.announce(`Refused. ${explain(problem)}`);
      this.#hooks.written(work.name);
      return;
    }
    this.close(work.name);
    this.#settle(work.name, data, null, work.kind);
  }

  #settle(name, route, problem, kind) {
    const text = problem ? explain(problem) : done(route, kind);
    this.#notices.set(name, { level: problem ? "bad" : "good", text });
    setTimeout(() => {
      this.#notices.delete(name);
      this.#hooks.changed();
    }, NOTICE_MS);
    this.#hooks.announce(text);
    this.#hooks.written(name);
    this.#hooks.changed();
  }
}

/** What of an answer is the document: the rest says how it goes. */
function content({ variants, shadows, routing_key_header: header }) {
  return { variants, ...(shadows?.length ? { shadows } : {}), ...(header ? { routing_key_header: header } : {}) };
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function done(route, kind) {
  const shares = route?.variants?.map(({ name, weight: share }) => `${name} ${weight(share)}`).join(", ") ?? "";
  const verbs = { shift: "Shifted", abort: "Aborted", history: "Rolled back", edit: "Saved", adopt: "Adopted" };
  return `${verbs[kind]}. Revision ${route?.revision ?? "?"} is in force: ${shares}.`;
}

/** What a validation found, in one sentence. */
export function summary(result) {
  if (!result.valid) return `Not valid: ${result.errors.map(({ detail }) => detail).join("; ")}`;
  if (!result.changes?.length) return "Nothing would change.";
  const moved = result.moved_percent;
  return `${weight(moved)} of the keys would move, ${plural(result.changes.length, "change")}.`;
}
