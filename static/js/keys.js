// Keys of the Trainings page, a sweep's page and the list of SAEs: n starts a training, / searches, j and k move
// between cards or rows, x selects the one that has the focus, Shift and x all up to it, c compares
// those, ? lists them.

import { showDialog } from "./dialog.js";
import { compare, pick } from "./select.js";

function typing(element) {
  return element.closest("input:not([type=checkbox]), select, textarea, dialog[open], [contenteditable]");
}

function here() {
  return document.activeElement.closest("#cards [data-run], #sweep-table [data-run], #saes [data-sae]");
}

function move(by) {
  const titles = [...document.querySelectorAll("#cards [data-run] h2 a, #sweep-table th a, #saes [data-sae] th a")];
  if (!titles.length) return;
  const at = titles.indexOf(here()?.querySelector("h2 a, th a"));
  const next = at < 0 ? 0 : Math.min(titles.length - 1, Math.max(0, at + by));
  titles[next].focus();
  titles[next].closest("[data-run], [data-sae]").scrollIntoView({ block: "nearest" });
}

const KEYS = {
  n: () => document.getElementById("start-training")?.click(),
  "/": () => document.getElementById("search")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  x: () => pick(here(), false),
  X: () => pick(here(), true),
  c: () => compare(),
  "?": () => showDialog(document.getElementById("keys").content.cloneNode(true)),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
