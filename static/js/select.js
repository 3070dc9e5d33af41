// Cards, or rows of SAEs or of a sweep, chosen for what is done to many: a click, x for one, Shift and x or click up to another.

import { notice } from "./notices.js";

const MOST = 8;
const CHOICE = "[data-run], [data-sae]";
const count = document.getElementById("picked");
let last = null;

function boxes() {
  return [...document.querySelectorAll(".pick input")];
}

function show() {
  const chosen = boxes().filter((box) => box.checked);
  for (const box of boxes()) box.closest(CHOICE).classList.toggle("picked-card", box.checked);
  count.hidden = !chosen.length;
  count.textContent = `${chosen.length} selected`;
}

function upTo(box) {
  const all = boxes();
  const from = all.indexOf(last);
  const to = all.indexOf(box);
  if (from < 0) return;
  for (const between of all.slice(Math.min(from, to), Math.max(from, to) + 1)) between.checked = box.checked;
}

// Called by the keys: `card` is the one that has the focus.
export function pick(card, range) {
  const box = card?.querySelector(".pick input");
  if (!box) return;
  box.checked = range ? true : !box.checked;
  if (range) upTo(box);
  last = box;
  show();
}

// The chosen ones side by side, on a page of its own; of a sweep all, where none is chosen.
export function compare() {
  if (!count) return;
  const button = document.querySelector("[data-compare-chosen]");
  const chosen = boxes().filter((box) => box.checked);
  const all = "compareAll" in button.dataset && !chosen.length && boxes().length <= MOST;
  const ids = (all ? boxes() : chosen).map((box) => box.value);
  if (ids.length < 2 || ids.length > MOST) {
    notice("info", `Select two to ${MOST} ${button.dataset.compareChosen} to compare; ${ids.length || "none"} ${ids.length === 1 ? "is" : "are"} selected.`);
    return;
  }
  location.assign(`${button.formAction}?ids=${ids.join(",")}`);
}

if (count) {
  document.querySelector("[data-compare-chosen]").addEventListener("click", (event) => {
    event.preventDefault();
    compare();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.matches(".pick input")) return;
    if (event.shiftKey) upTo(event.target);
    last = event.target;
    show();
  });
  // A deleted card takes its choice along.
  document.addEventListener("htmx:oobAfterSwap", show);
  show();
}
