// Reads the Prometheus text and turns two readings into rates, error ratios and quantiles.
// Pure: no clock, no document; the time of a reading is given.

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const KEPT = 61; // two minutes at one reading in two seconds
const ESCAPES = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };

/** Parse the exposition: a map from name to [{ labels, value }]. */
export function parseMetrics(text) {
  const families = new Map();
  for (const line of text.split("\n")) {
    const match = line && line[0] !== "#" ? SAMPLE.exec(line) : null;
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(LABEL))
      labels[name] = value.replace(/\\[n"\\]/g, (found) => ESCAPES[found]);
    if (!families.has(match[1])) families.set(match[1], []);
    families.get(match[1]).push({ labels, value: number(match[3]) });
  }
  return families;
}

const number = (text) => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));

/** The value of the first sample whose labels include these; null without one. */
export function valueOf(families, name, labels = {}) {
  return samplesOf(families, name, labels)[0]?.value ?? null;
}

export function samplesOf(families, name, labels = {}) {
  const wanted = Object.entries(labels);
  return (families.get(name) ?? []).filter((sample) => wanted.every(([key, value]) => sample.labels[key] === value));
}

const keyOf = (route, variant) => JSON.stringify([route, variant]);
export const EVERYTHING = keyOf(null, null);
const empty = () => ({ requests: 0, errors: 0, attempts: 0, failures: 0, buckets: new Map() });

/** What counts of one reading are needed for rates, by variant and for everything together. */
function read(families) {
  const cells = new Map([[EVERYTHING, empty()]]);
  const cell = (labels) => {
    const key = keyOf(labels.route, labels.variant);
    if (!cells.has(key)) cells.set(key, empty());
    return cells.get(key);
  };
  const all = cells.get(EVERYTHING);
  for (const { labels, value } of families.get("gateway_requests_total") ?? []) {
    const failed = labels.code >= "500" ? value : 0;
    for (const target of [cell(labels), all]) {
      target.requests += value;
      target.errors += failed;
    }
  }
  for (const { labels, value } of families.get("gateway_variant_attempts_total") ?? []) {
    const target = cell(labels);
    target.attempts += value;
    if (labels.code >= "500") target.failures += value;
  }
  for (const { labels, value } of families.get("gateway_request_duration_seconds_bucket") ?? []) {
    const bound = number(labels.le);
    for (const target of [cell(labels), all]) target.buckets.set(bound, (target.buckets.get(bound) ?? 0) + value);
  }
  return cells;
}

/** The last two minutes of readings. */
export class Traffic {
  #readings = [];

  add(families, at) {
    const cells = read(families);
    const last = this.#readings.at(-1);
    if (last && cells.get(EVERYTHING).requests < last.cells.get(EVERYTHING).requests) this.#readings = []; // it was restarted
    this.#readings.push({ at, cells });
    if (this.#readings.length > KEPT) this.#readings.shift();
  }

  get isReady() {
    return this.#readings.length > 1;
  }

  /** What one variant, or everything, did over the last seconds; null before the second reading. */
  over(seconds, route = null, variant = null) {
    const newest = this.#readings.at(-1);
    if (!this.isReady) return null;
    let index = this.#readings.length - 2;
    while (index > 0 && newest.at - this.#readings[index].at < seconds) index -= 1;
    return difference(this.#readings[index], newest, keyOf(route, variant));
  }

  /** The same between each two readings, oldest first. */
  series(route = null, variant = null) {
    const key = keyOf(route, variant);
    return this.#readings.slice(1).map((reading, index) => difference(this.#readings[index], reading, key));
  }
}

function difference(before, after, key) {
  const old = before.cells.get(key) ?? empty();
  const now = after.cells.get(key) ?? empty();
  const seconds = after.at - before.at;
  const requests = Math.max(0, now.requests - old.requests);
  const attempts = Math.max(0, now.attempts - old.attempts);
  const failures = attempts ? now.failures - old.failures : now.errors - old.errors;
  const buckets = [...now.buckets]
    .sort(([a], [b]) => a - b)
    .map(([bound, value]) => [bound, Math.max(0, value - (old.buckets.get(bound) ?? 0))]);
  return {
    requests,
    rate: seconds > 0 ? requests / seconds : null,
    errorRatio: attempts || requests ? Math.max(0, failures) / (attempts || requests) : null,
    p50: quantile(buckets, 0.5),
    p99: quantile(buckets, 0.99),
  };
}

/** A quantile of cumulative buckets, interpolated within one as Prometheus does; null without observations. */
export function quantile(buckets, share) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!total) return null;
  const rank = share * total;
  let below = 0;
  let lower = 0;
  for (const [bound, value] of buckets) {
    if (value >= rank) {
      if (bound === Infinity) return lower;
      return lower + ((bound - lower) * (rank - below)) / Math.max(1e-12, value - below);
    }
    below = value;
    lower = bound;
  }
  return lower;
}
