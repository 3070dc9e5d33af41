// Keys of the Trainings page: n starts a training, / searches, j and k move between cards.

function typing(element) {
  return element.closest("input, select, textarea, dialog, [contenteditable]");
}

function move(by) {
  const titles = [...document.querySelectorAll("#cards [data-run] h2 a")];
  if (!titles.length) return;
  const here = titles.indexOf(document.activeElement);
  const next = here < 0 ? 0 : Math.min(titles.length - 1, Math.max(0, here + by));
  titles[next].focus();
  titles[next].closest("[data-run]").scrollIntoView({ block: "nearest" });
}

const KEYS = {
  n: () => document.getElementById("start-training")?.click(),
  "/": () => document.getElementById("search")?.focus(),
  j: () => move(1),
  k: () => move(-1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
