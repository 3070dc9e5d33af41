// Keeps the cards alive: points go straight to the charts, numbers come from the server once a second.

import { heard, showDown, showLoggedOut, showUp } from "./connection.js";
import { isLoginPage } from "./requests.js";
import { overlay } from "./compare.js";
import { Explorer } from "./explore.js";
import { planes } from "./pareto.js";
import { Run } from "./run.js";
import { LiveSocket } from "./socket.js";
import { ended, progressed } from "./tab.js";

const ENDS = ["completed", "stopped", "failed"];
const PANELS = [...ENDS, "checkpoint"];

const TICK_MS = 1000;
const POLL_MS = 5000;
const SYNC_MS = 60000;
// Ids in one question: a server reads 16 KiB of address, and a page has a hundred cards at its start.
const MOST = 100;

const root = document.querySelector("[data-runs]");
const list = document.getElementById("cards");
// A sweep's page: its rows come and go, too.
const sweep = Boolean(document.getElementById("sweep-table"));
// Asks on the page's behalf: htmx marks whoever asks by a class, and marking a large element makes
// the browser restyle all of it twice a second.
const asker = document.createElement("span");
asker.hidden = true;
document.body.append(asker);
const runs = new Map();
const stale = new Set();
const urgent = new Set();
const elsewhere = new Set();
let arrived = false;
let panels = false;
let asking = false;
// Actions of this page that are on their way, and all there were.
let acting = 0;
let actions = 0;
let askedAfter = 0;
let answered = false;
let down = false;

function adopt() {
  for (const [id, run] of runs) {
    if (run.element.isConnected) continue;
    run.destroy();
    runs.delete(id);
    // The page of a run that is gone has nothing more to show; a comparison goes on without it.
    if (!list && !(sweep && root.querySelector("[data-run]"))) location.assign(root.dataset.gone);
  }
  for (const element of root.querySelectorAll("[data-run]")) {
    if (element.run) continue;
    const run = new Run(element);
    runs.set(run.id, run);
    const tools = element.querySelector("[data-explore]");
    if (tools) new Explorer(run.curves, tools, { marks: true });
  }
}

function changed(id) {
  urgent.add(id);
  // Each end or start moves the others in the queue.
  for (const waiting of root.querySelectorAll("[data-status=pending], [data-status=interrupted]")) {
    urgent.add(waiting.closest("[data-run]").dataset.run);
  }
}

function receive(message) {
  heard();
  const run = runs.get(message.training_id);
  tell(message, run);
  if (!run) {
    // A run of another page or filter is asked for once per change, not once per point.
    const news = message.event !== "progress" || !elsewhere.has(message.training_id);
    if ((list || sweep) && news) arrived = true;
    elsewhere.add(message.training_id);
    return;
  }
  run.receive(message);
  stale.add(run.id);
  if (message.event !== "progress") changed(run.id);
  if (PANELS.includes(message.event) && root.dataset.panels) panels = true;
}

// Also for runs that another page or filter shows: their ends are news, their progress is not.
function tell(message, run) {
  const { event, training_id: id, data } = message;
  if (event === "progress" && run) progressed(id, data.progress_pct);
  if (!ENDS.includes(event) || !(list || run)) return;
  ended(id, run?.name || "A training", event);
}

// One question at a time, and none while an action is on its way: its answer is the newer one.
async function tick() {
  if (asking || acting || document.hidden) return;
  asking = true;
  try {
    await refresh();
    await refreshPanels();
  } finally {
    asking = false;
  }
}

// On a run's own page: its checkpoints, and what is measured at its end.
async function refreshPanels() {
  if (!panels || acting) return;
  panels = false;
  if (!(await ask(root.dataset.panels))) panels = true;
}

// Whether the answer was of use: not where there was none, or an action went out meanwhile.
async function ask(address) {
  askedAfter = actions;
  answered = false;
  try {
    await htmx.ajax("GET", address, { source: asker, swap: "none" });
  } catch {
    // Said by the connection's sign; the next poll or reconnect asks again.
  }
  return answered && askedAfter === actions;
}

// Of runs that only made progress their numbers alone are asked for; only what is looked at is.
async function refresh() {
  const due = [...urgent].filter((id) => runs.has(id));
  const whole = due.slice(0, MOST);
  const light = [...stale].filter((id) => runs.get(id)?.visible && !urgent.has(id)).slice(0, MOST);
  if (!whole.length && !light.length && !arrived) return;
  const query = new URLSearchParams(location.search);
  query.set("ids", whole.join(","));
  query.set("numbers", light.join(","));
  if (list && (whole.length || arrived)) query.set("list", "");
  if (list && arrived) {
    query.set("arrived", "");
    const shown = [...list.querySelectorAll("[data-run]")].slice(0, MOST);
    query.set("known", shown.map((card) => card.dataset.run).join(","));
  }
  if (sweep) query.set("known", [...runs.keys()].join(","));
  const news = arrived;
  for (const id of [...whole, ...light]) stale.delete(id);
  urgent.clear();
  due.slice(MOST).forEach((id) => urgent.add(id));
  arrived = false;
  if (!(await ask(`${root.dataset.fragments}?${query}`))) {
    whole.forEach((id) => urgent.add(id));
    light.forEach((id) => stale.add(id));
    arrived ||= news;
  }
  adopt();
}

function everything() {
  arrived = Boolean(list) || sweep;
  panels = Boolean(root.dataset.panels);
  for (const run of runs.values()) {
    urgent.add(run.id);
    run.catchUp();
  }
}

const socket = new LiveSocket(root.dataset.socket);
socket.addEventListener("message", (event) => receive(event.detail));
socket.addEventListener("down", () => {
  down = true;
  showDown();
});
socket.addEventListener("up", () => {
  const back = down;
  down = false;
  showUp();
  if (back) everything();
});
socket.addEventListener("login", () => {
  down = false;
  showLoggedOut();
});

document.addEventListener("htmx:beforeSend", ({ detail }) => {
  if (detail.requestConfig.verb === "get") return;
  acting++;
  actions++;
  detail.xhr.addEventListener("loadend", () => acting--);
});
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (detail.requestConfig.elt === asker && askedAfter !== actions) detail.shouldSwap = false;
});
document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, successful, xhr } = event.detail;
  if (elt === asker && successful && !isLoginPage(xhr.responseURL)) {
    answered = true;
    heard();
  }
  // A model or tokenization that moves on moves the runs that wait for it.
  if (elt.id === "preparing") changed("");
});
document.addEventListener("htmx:oobAfterSwap", adopt);
document.addEventListener("run:started", () => (arrived = true));
document.addEventListener("theme:changed", () => runs.forEach((run) => run.recolour()));
document.addEventListener("visibilitychange", () => !document.hidden && everything());

adopt();
if ("compare" in root.dataset) overlay(root, [...runs.values()]);
planes(root);
setInterval(tick, TICK_MS);
setInterval(() => down && everything(), POLL_MS);
setInterval(everything, SYNC_MS);
