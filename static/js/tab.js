// What the browser's tab shows of the runs: progress in title and icon, a notification at an end.

const icon = document.querySelector('link[rel="icon"]');
const plainIcon = icon.href;
const plainTitle = document.title;
const bell = document.querySelector("[data-notify]");
const shares = new Map();
let shown = "";

export function progressed(id, percent) {
  shares.set(id, Math.floor(percent));
  draw();
}

export function ended(id, name, event) {
  shares.delete(id);
  draw();
  if (!wanted() || !document.hidden) return;
  const note = new Notification(name, { body: SENTENCES[event], tag: id, icon: plainIcon });
  note.onclick = () => {
    focus();
    note.close();
  };
}

const SENTENCES = {
  completed: "The training is completed.",
  stopped: "The training is stopped.",
  failed: "The training failed.",
};

function draw() {
  const percents = [...shares.values()];
  const text = percents.slice(0, 3).map((percent) => `${percent} %`).join(", ");
  if (text === shown) return;
  shown = text;
  document.title = text ? `${text} · ${plainTitle}` : plainTitle;
  icon.href = text ? ring(percents[0] / 100) : plainIcon;
}

// A disc in the accent's colour with the share done around it.
function ring(share) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const pen = canvas.getContext("2d");
  const arc = (to, colour) => {
    pen.beginPath();
    pen.arc(16, 16, 12, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * to);
    pen.lineWidth = 7;
    pen.strokeStyle = colour;
    pen.stroke();
  };
  arc(1, "#8b95a1");
  arc(share, "#0b62c4");
  return canvas.toDataURL();
}

function wanted() {
  return bell && Notification.permission === "granted" && stored() === "on";
}

function stored() {
  try {
    return localStorage.getItem("notify");
  } catch {
    return null;
  }
}

function store(value) {
  try {
    localStorage.setItem("notify", value);
  } catch {
    // Without storage nothing is remembered, and nobody is notified.
  }
}

function showBell() {
  bell.setAttribute("aria-pressed", String(wanted()));
  const refused = Notification.permission === "denied";
  bell.title = refused
    ? "The browser refuses notifications of this page"
    : "Notify me when a training ends while this page is in the background";
}

if (bell && "Notification" in window) {
  bell.hidden = false;
  showBell();
  bell.addEventListener("click", async () => {
    const turnOn = !wanted();
    if (turnOn) await Notification.requestPermission();
    store(turnOn && Notification.permission === "granted" ? "on" : "off");
    showBell();
  });
}

for (const element of document.querySelectorAll("[data-run]:has(.status.running)")) {
  const bar = element.querySelector("progress");
  if (bar) progressed(element.dataset.run, (100 * bar.value) / bar.max);
}
