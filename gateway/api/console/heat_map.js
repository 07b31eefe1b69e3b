// Draws the map of features and windows, and lets arrow keys walk over it.
// Only the cell that has the focus, or had it last, is a stop of the Tab key.

import { effect, effectText, GLYPHS, WORDS } from "./drift_states.js";
import { count, shortTime } from "./format.js";
import { h } from "./render.js";

const SHOWN_FEATURES = 14;

/** The decided windows, oldest first, the current one last. */
export function windowsOf(data, columns) {
  const found = new Map([[data.window.start, data]]);
  for (const entry of data.history ?? []) if (!found.has(entry.window.start)) found.set(entry.window.start, entry);
  return [...found.values()].sort((a, b) => a.window.start.localeCompare(b.window.start)).slice(-columns);
}

const heat = (feature) => Math.min(4, Math.floor(effect(feature) * 2));

/** The map, and below it what its marks mean. */
export function heatMap(view, desk, windows, features, chosen) {
  const shown = desk.showsAll ? features : features.slice(0, SHOWN_FEATURES);
  const byName = windows.map(({ features: list }) => new Map(list.map((feature) => [feature.name, feature])));
  const ticks = Math.max(1, Math.ceil(windows.length / Math.max(1, Math.floor(view.columns / 4))));
  const isTick = (index) => index > 1 && (windows.length - 1 - index) % ticks === 0;
  const active = desk.cell ?? `${shown[0]?.name} 0`;
  const hasActive = shown.some((feature) =>
    windows.some((_, index) => `${feature.name} ${windows.length - 1 - index}` === active),
  );
  return [
    h(
      "table",
      {
        class: "heat",
        key: chosen,
        role: "grid",
        "aria-label": "States of features by window, the newest last. Arrow keys move, Enter shows the distribution.",
        onkeydown: walk,
      },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("td", {}),
          windows.map(({ window: { start } }, index) =>
            h(
              "th",
              { scope: "col", key: start },
              h("span", { class: isTick(index) ? "tick" : "unseen" }, shortTime(start)),
            ),
          ),
          h("td", {}),
        ),
      ),
      h(
        "tbody",
        {},
        shown.map((feature, row) =>
          h(
            "tr",
            { key: feature.name, class: desk.feature === feature.name ? "chosen" : "" },
            h(
              "th",
              { scope: "row", title: feature.name },
              h("span", { class: "name" }, feature.name),
              feature.role === "prediction" ? h("span", { class: "tag wide" }, "prediction") : null,
            ),
            windows.map(({ window }, index) => {
              const found = byName[index].get(feature.name);
              const id = `${feature.name} ${windows.length - 1 - index}`;
              const state = found?.state ?? "insufficient";
              const isActive = hasActive ? id === active : row === 0 && index === windows.length - 1;
              return h(
                "td",
                {
                  key: window.start,
                  role: "gridcell",
                  class: `cell ${state} heat-${found ? heat(found) : 0}`,
                  tabindex: isActive ? "0" : "-1",
                  "data-cell": id,
                  "aria-label": cellLabel(feature, found, window),
                  title: cellLabel(feature, found, window),
                  onclick: () => desk.set({ chosen, feature: feature.name, cell: id }),
                  onfocus: () => void (desk.cell !== id && desk.set({ chosen, cell: id })),
                },
                GLYPHS[state],
              );
            }),
            h("td", { class: "effect number" }, effectText(feature)),
          ),
        ),
      ),
    ),
    features.length > SHOWN_FEATURES
      ? h(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-expanded": String(desk.showsAll),
            onclick: () => desk.set({ showsAll: !desk.showsAll }),
          },
          desk.showsAll ? "Show the worst only" : `Show all ${count(features.length)}`,
        )
      : null,
  ];
}

function cellLabel(feature, found, { start, end }) {
  const times = `${shortTime(start)} to ${shortTime(end)}`;
  if (!found) return `${feature.name}, ${times}: not reported`;
  return `${feature.name}, ${times}: ${WORDS[found.state]}, ${effectText(found)}${found.reason ? `, ${found.reason}` : ""}`;
}

/** Arrow keys walk over the cells, Home and End along a row, Enter and Space open. */
function walk(event) {
  const cell = event.target.closest("[data-cell]");
  if (!cell) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    cell.click();
    return;
  }
  const row = cell.parentElement;
  const cells = [...row.querySelectorAll("[data-cell]")];
  const column = cells.indexOf(cell);
  const target = {
    ArrowLeft: () => cells[column - 1],
    ArrowRight: () => cells[column + 1],
    ArrowUp: () => row.previousElementSibling?.querySelectorAll("[data-cell]")[column],
    ArrowDown: () => row.nextElementSibling?.querySelectorAll("[data-cell]")[column],
    Home: () => cells[0],
    End: () => cells.at(-1),
  }[event.key]?.();
  if (!target) return;
  event.preventDefault();
  target.focus();
}

export const legend = () =>
  h(
    "ul",
    { class: "legend" },
    Object.keys(GLYPHS).map((state) =>
      h("li", {}, h("span", { class: `cell ${state} heat-2`, "aria-hidden": "true" }, GLYPHS[state]), WORDS[state]),
    ),
    h("li", { class: "faint" }, "the stronger the colour, the larger the effect"),
  );
