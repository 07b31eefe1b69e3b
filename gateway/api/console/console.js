// Wires the page: what is asked and how often, what the answers mean together, and who draws which part.
// Holds no rule of its own about routes, drift or rates.

import { Api } from "./api.js";
import { isStoreDown, needsALook } from "./attention.js";
import { driftView, DriftDesk } from "./drift.js";
import { Feeds } from "./feeds.js";
import { auditView } from "./audit.js";
import { attentionView, bannerView, figuresView, kindOf, pulseView, stateView, whereView } from "./head.js";
import { modelsView, replicasView } from "./inventory.js";
import { parseMetrics, Traffic } from "./metrics.js";
import { patch } from "./render.js";
import { RouteDesk } from "./route_desk.js";
import { routesView } from "./routes.js";
import { Session } from "./session.js";
import { shadowsView } from "./shadows.js";

const TICK_MS = 250;
const LOST_AFTER = 2; // failed readings of /metrics
const UNCHANGED_S = 60;
const AUDIT = "admin/v1/audit?limit=50";
const element = (id) => document.getElementById(id);

const api = new Api();
const feeds = new Feeds(api, answered);
const session = new Session(api, () => (feeds.forgetAll(), draw()));
const traffic = new Traffic();
const driftDesk = new DriftDesk(draw);
const desk = new RouteDesk(api, { changed: draw, announce, written });

let metrics = new Map();
let failures = 0;
let heardAt = 0;
let isPaused = false;
let isDrawing = false;
let known = new Set();

/** What is asked, in seconds between two answers. */
function wanted() {
  const paths = new Map([
    ["metrics", 2],
    ["readyz", 2],
  ]);
  if (session.isLocked) return paths;
  paths.set("admin/v1/routes", 2);
  if (!feeds.get("admin/v1/routes").status) return paths; // where a token is needed, one refusal says so
  paths.set("admin/v1/models", 5).set("admin/v1/replicas", 3).set("admin/v1/drift", 3).set(AUDIT, 5);
  for (const { name, shadows } of routes() ?? []) {
    if (shadows?.length) paths.set(`admin/v1/routes/${encodeURIComponent(name)}/shadows`, 4);
    if (desk.isComparing(name)) paths.set(comparisonOf(name), 5);
    if (desk.at(name)?.kind === "history") paths.set(historyOf(name), 4);
  }
  const report = driftDesk.pick(reports());
  if (report) {
    const path = driftDesk.pathOf(report, columns());
    paths.set(path, isSameWindow(feeds.get(path).data, report) ? UNCHANGED_S : 2);
  }
  return paths;
}

/** Windows with their history are much to read, and change once in a window. */
const isSameWindow = (known, { window: current }) =>
  known !== null && known.window?.start === current?.start && known.window?.attempt === current?.attempt;

const routes = () => feeds.get("admin/v1/routes").data?.routes ?? null;
const reports = () => feeds.get("admin/v1/drift").data?.reports ?? null;
const historyOf = (name) => `admin/v1/routes/${encodeURIComponent(name)}/history`;
const comparisonOf = (name) => `admin/v1/routes/${encodeURIComponent(name)}/comparison`;
const columns = () => (window.innerWidth < 560 ? 8 : window.innerWidth < 1000 ? 16 : 30);

function answered(path) {
  const { status, data, problem } = feeds.get(path);
  if (path === "metrics") {
    failures = problem ? failures + 1 : 0;
    if (!problem) {
      heardAt = performance.now();
      metrics = parseMetrics(data);
      traffic.add(metrics, heardAt / 1000);
    }
  } else if (status === 401) {
    session.lock();
  }
  draw();
}

/** After a write: what it changes is asked for again at once. */
function written(name) {
  for (const path of ["admin/v1/routes", "admin/v1/replicas", AUDIT, historyOf(name)]) feeds.forget(path);
}

function announce(text) {
  element("announcer").textContent = text;
}

/** Everything that is known now, for those who draw. */
function look() {
  const ready = feeds.get("readyz");
  const view = {
    now: Date.now(),
    here: window.location.host,
    session,
    isPaused,
    isHeard: heardAt > 0,
    metrics,
    traffic,
    desk,
    driftDesk,
    columns: columns(),
    isReachable: failures < LOST_AFTER,
    isReady: ready.data?.ready ?? null,
    routes: routes(),
    reports: reports(),
    models: feeds.get("admin/v1/models").data?.models ?? null,
    replicas: feeds.get("admin/v1/replicas").data?.replicas ?? null,
    audit: feeds.get(AUDIT).data?.records ?? null,
    problems: {
      routes: feeds.get("admin/v1/routes").problem,
      models: feeds.get("admin/v1/models").problem,
      replicas: feeds.get("admin/v1/replicas").problem,
      drift: feeds.get("admin/v1/drift").problem,
      audit: feeds.get(AUDIT).problem,
    },
    shadows: (name) => feeds.get(`admin/v1/routes/${encodeURIComponent(name)}/shadows`),
    comparison: (name) => feeds.get(comparisonOf(name)),
    history: (name) => feeds.get(historyOf(name)),
    driftDetail: (report) => feeds.get(driftDesk.pathOf(report, columns())),
  };
  return Object.assign(view, { isStoreDown: isStoreDown(view) });
}

function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    const view = look();
    drawHead(view);
    patch(element("route-list"), routesView(view));
    patch(element("shadow-list"), shadowsView(view));
    patch(element("drift-view"), driftView(view));
    patch(element("model-list"), modelsView(view));
    patch(element("replica-list"), replicasView(view));
    patch(element("audit-list"), auditView(view));
  });
}

function drawHead(view) {
  const found = needsALook(view);
  patch(element("where"), whereView(view));
  patch(element("pulse"), pulseView(view));
  patch(element("banner"), bannerView(view));
  patch(element("state"), stateView(view));
  patch(element("attention"), attentionView(view, found));
  patch(element("figures"), figuresView(view));
  document.title = `${found.length ? `(${found.length}) ` : ""}Console · onnx-gateway`;
  const kinds = found.map(({ text }) => kindOf(text));
  const fresh = kinds.filter((kind) => !known.has(kind));
  if (fresh.length) announce(`Needs a look: ${fresh.join(". ")}`);
  known = new Set(kinds);
}

const THEMES = ["auto", "light", "dark"];
let theme = "auto";
element("theme").onclick = () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  document.documentElement.style.colorScheme = theme === "auto" ? "light dark" : theme;
  element("theme").textContent = `Theme: ${theme}`;
};

element("pause").onclick = () => {
  isPaused = !isPaused;
  element("pause").textContent = isPaused ? "Go on" : "Pause";
  element("pause").setAttribute("aria-pressed", String(isPaused));
  draw();
};

setInterval(() => {
  if (!document.hidden && !isPaused) feeds.ask(wanted(), performance.now());
}, TICK_MS);
window.addEventListener("resize", draw);
feeds.ask(wanted(), performance.now());
draw();
