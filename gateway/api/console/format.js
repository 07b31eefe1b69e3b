// Writes numbers, times and names for people.
// Pure; a missing number is a dash, never a zero.

export const DASH = "–";
const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const isMissing = (value) => value === null || value === undefined || !Number.isFinite(value);

/** A count: 1,234. */
export const count = (value) => (isMissing(value) ? DASH : grouped.format(value));

/** Something per second: 0.4, 12, 1,234, 12.3k. */
export function rate(value) {
  if (isMissing(value)) return DASH;
  if (value === 0) return "0";
  if (value < 0.05) return "<0.1";
  if (value < 10) return value.toFixed(1);
  return value < 10_000 ? grouped.format(value) : `${(value / 1000).toFixed(1)}k`;
}

/** A ratio as percent: 0 %, <0.1 %, 2.5 %, 34 %. */
export function ratio(value) {
  if (isMissing(value)) return DASH;
  const percent = value * 100;
  if (percent === 0) return "0 %";
  if (percent < 0.1) return "<0.1 %";
  if (percent > 99.9 && percent < 100) return ">99.9 %";
  return `${percent < 10 ? trim(percent, 1) : Math.round(percent) === 100 || percent % 1 === 0 ? Math.round(percent) : trim(percent, 1)} %`;
}

/** Percent as a route holds it: at most two decimals. */
export const weight = (value) => (isMissing(value) ? DASH : `${trim(value, 2)} %`);

export const trim = (value, digits) => String(Number(value.toFixed(digits)));

/** A duration in seconds as ms or s. */
export function duration(seconds) {
  if (isMissing(seconds)) return DASH;
  if (seconds >= 1) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const ms = seconds * 1000;
  return `${ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/** A statistic: three significant digits, without exponents where people read them. */
export function statistic(value) {
  if (isMissing(value)) return DASH;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.0005) return value.toExponential(0);
  return size >= 1000 ? grouped.format(value) : String(Number(value.toPrecision(3)));
}

export function bytes(value) {
  if (isMissing(value)) return DASH;
  for (const unit of ["B", "KB", "MB"]) {
    if (value < 1024) return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} GB`;
}

/** A time of today as a clock, an earlier one with its day. */
export function time(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return DASH;
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? clock.format(at) : `${day.format(at)}, ${minute.format(at)}`;
}

export function shortTime(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? DASH : clock.format(at);
}

/** How long ago: now, 12 s ago, 4 min ago, 2 h ago. */
export function ago(text, now = Date.now()) {
  const seconds = Math.round((now - new Date(text).getTime()) / 1000);
  if (Number.isNaN(seconds)) return DASH;
  if (seconds < 2) return "now";
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 129_600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} days ago`;
}

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
