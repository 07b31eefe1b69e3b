// Owns the words, marks and order of drift's states, and how large an effect is in units of what a decision needs.
// Decides nothing: states come from the monitor.

import { DASH } from "./format.js";

export const LEVELS = { ok: "good", watch: "watch", drift: "bad", insufficient: "unknown" };
export const RANK = { drift: 0, watch: 1, ok: 2, insufficient: 3 };
export const GLYPHS = { ok: "·", watch: "▲", drift: "◆", insufficient: "–" };
export const WORDS = { ok: "ok", watch: "watch", drift: "drift", insufficient: "too few rows" };

/** Name, meaning and floor: an effect below its floor is no drift, however certain it is. */
export const STATISTICS = [
  ["ks", "KS, largest gap of the distributions", 0.1],
  ["w1", "W1, distance moved in σ", 0.2],
  ["tvd", "TVD, share of rows moved", 0.1],
  ["psi", "PSI, shown only", 0.25],
  ["js", "Jensen–Shannon distance, shown only", null],
  ["ad", "Anderson–Darling", null],
  ["chi2", "χ²", null],
];

/** How much moved, in units of the floor that a decision needs. */
export function effect({ kind, statistics }) {
  const over = ([name, , floor]) => (floor && statistics[name] ? statistics[name] / floor : 0);
  return Math.max(
    ...STATISTICS.slice(0, 3)
      .filter(([name]) => (kind === "categorical" ? name === "tvd" : name !== "tvd"))
      .map(over),
    0,
  );
}

/** The effect in words: KS 0.21. */
export function effectText(feature) {
  const name = feature.kind === "categorical" ? "tvd" : "ks";
  const value = feature.statistics[name];
  return `${name.toUpperCase()} ${Number.isFinite(value) ? value.toFixed(2) : DASH}`;
}
