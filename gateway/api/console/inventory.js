// Shows what is loaded and who is alive: model versions and replicas.
// Read only: load, unload and the rest are the command line's.

import { h } from "./render.js";
import { ago, bytes, count, plural } from "./format.js";
import { badge } from "./shapes.js";
import { quiet } from "./notes.js";

const LEVELS = { READY: "good", LOADING: "watch", DRAINING: "watch", FAILED: "bad" };

export function modelsView(view) {
  const { models, routes } = view;
  if (!models) return quiet(view.problems.models, "Asking for the models …");
  if (!models.length)
    return h(
      "p",
      { class: "empty" },
      "The repository is empty. ",
      h("code", {}, "gateway publish NAME FILE.onnx"),
      " puts a model into it.",
    );
  const users = new Map();
  for (const route of routes ?? []) {
    for (const { model, version } of [...route.variants, ...(route.shadows ?? [])]) {
      const key = `${model}:${version}`;
      users.set(key, [...(users.get(key) ?? []), route.name]);
    }
  }
  return h(
    "div",
    { class: "card" },
    h(
      "table",
      { class: "numbers" },
      h("caption", { class: "unseen" }, "Model versions"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Version"),
          h("th", { scope: "col" }, "State"),
          h("th", { scope: "col" }, "Routes"),
          h("th", { scope: "col", class: "number wide" }, "Memory"),
        ),
      ),
      h(
        "tbody",
        {},
        models.flatMap(({ name, versions }) =>
          [...versions]
            .sort((a, b) => b.version - a.version)
            .map((version) => row(name, version, users.get(`${name}:${version.version}`) ?? [])),
        ),
      ),
    ),
  );
}

function row(name, { version, state, reason, providers, batching, memory, sha256 }, routes) {
  const facts = [
    providers?.map((provider) => provider.replace("ExecutionProvider", "")).join(", "),
    batching && (batching.shares_runs ? `batches up to ${count(batching.max_rows)} rows` : "runs requests one by one"),
  ].filter(Boolean);
  return h(
    "tr",
    { key: `${name}:${version}` },
    h(
      "th",
      { scope: "row", title: sha256 ? `sha256 ${sha256}` : null },
      h("span", { class: "name" }, `${name}:${version}`),
      facts.length ? h("span", { class: "faint under" }, facts.join(" · ")) : null,
    ),
    h("td", {}, badge(LEVELS[state] ?? "unknown", state), reason ? h("span", { class: "said under" }, reason) : null),
    h("td", {}, routes.length ? [...new Set(routes)].join(", ") : h("span", { class: "faint" }, "none")),
    h("td", { class: "number wide" }, memory ? bytes(memory.file_bytes + Math.max(0, memory.grown_bytes ?? 0)) : "–"),
  );
}

export function replicasView(view) {
  const { replicas, now } = view;
  if (!replicas) return quiet(view.problems.replicas, "Asking for the replicas …");
  if (!replicas.length) return h("p", { class: "empty" }, "No replica has reported yet.");
  const here = window.location.host;
  return h(
    "ul",
    { class: "cards replicas" },
    replicas.map(({ id, admin, last_seen: seen, routes }) => {
      const isHere = host(admin) === here;
      const behind = Object.entries(routes ?? {}).filter(([, { applied }]) => !applied);
      const isSilent = !isHere && now - new Date(seen).getTime() > 10_000;
      return h(
        "li",
        { class: "card", key: id },
        h(
          "div",
          { class: "card-head" },
          h("h3", {}, id),
          isHere ? h("span", { class: "tag" }, "this one") : null,
          badge(
            isSilent ? "watch" : behind.length ? "bad" : "good",
            isSilent ? "silent" : behind.length ? `${behind.length} behind` : "in step",
          ),
        ),
        h(
          "p",
          { class: "faint" },
          isHere ? "it answered this page" : ["last heard ", ago(seen, now)],
          isConsole(admin) && !isHere
            ? [" · ", h("a", { href: `${admin.replace(/\/$/, "")}/console`, rel: "noreferrer" }, "its console")]
            : "",
        ),
        Object.keys(routes ?? {}).length
          ? h(
              "details",
              { open: behind.length > 0 },
              h("summary", {}, `Revisions of ${plural(Object.keys(routes).length, "route")}`),
              h(
                "ul",
                { class: "applied" },
                Object.entries(routes)
                  .sort(([a], [b]) => a.localeCompare(b))
                  .map(([name, { revision, applied, reason }]) =>
                    h(
                      "li",
                      { key: name },
                      h("span", { class: "name" }, name),
                      h("span", { class: "number" }, `r${revision}`),
                      applied ? null : badge("bad", reason || "not applied"),
                    ),
                  ),
              ),
            )
          : null,
      );
    }),
  );
}

function host(address) {
  try {
    return new URL(address).host;
  } catch {
    return "";
  }
}

/** Only http and https become links: the address is a replica's own word. */
const isConsole = (address) => /^https?:\/\//.test(address ?? "") && host(address) !== "";
