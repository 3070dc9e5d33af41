// Curves looked at together: one crosshair, one zoom, one scale, one smoothing, one x axis.

import { variable } from "./chart.js";

const LEAST_DRAG = 6;
const LEGEND_LINE = 18;

export class Explorer {
  // marks: whether a run's checkpoints, resumes and resamplings are drawn.
  constructor(curves, tools, { marks }) {
    this.curves = curves;
    this.tools = tools;
    this.marks = marks;
    this.from = null;
    this.range = null;
    this.x = null;
    this.frame = null;
    tools.hidden = false;
    tools.addEventListener("input", (event) => {
      // A range of steps is none of tokens.
      if (event.target.name === "axis") this.range = null;
      this.look();
    });
    tools.querySelector("[data-reset]").addEventListener("click", () => this.zoom(null));
    for (const curve of curves) this.listen(curve);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.range && !document.querySelector("dialog[open]")) this.zoom(null);
    });
    this.look();
  }

  listen(curve) {
    const { canvas } = curve;
    const place = (event) => curve.chart?.scales.x.getValueForPixel(event.offsetX) ?? null;
    canvas.addEventListener("pointermove", (event) => this.point(place(event)));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button !== 0) return;
      this.from = { x: place(event), at: event.offsetX };
    });
    canvas.addEventListener("pointerup", (event) => {
      const { from } = this;
      this.from = null;
      this.mark(null);
      if (from && Math.abs(event.offsetX - from.at) >= LEAST_DRAG) this.zoom([from.x, place(event)], curve);
    });
    canvas.addEventListener("dblclick", () => this.zoom(null));
  }

  // Once a frame, however often the pointer moves.
  point(x) {
    if (x === null) this.from = null;
    this.mark(this.from && x !== null ? [this.from.x, x] : null);
    this.x = x;
    if (this.frame !== null) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      for (const curve of this.curves) curve.point(this.x);
    });
  }

  mark(places) {
    for (const curve of this.curves) curve.marked = places;
  }

  // From and to on the x axis as it is shown; null shows all.
  zoom(places, curve) {
    const inside = places?.map((x) => Math.min(curve.end, Math.max(0, x))).sort((a, b) => a - b);
    this.range = inside && inside[1] > inside[0] ? inside : null;
    this.point(null);
    this.look();
  }

  look() {
    const { axis, scale, smoothing } = Object.fromEntries(new FormData(this.tools));
    this.tools.querySelector("[data-reset]").hidden = !this.range;
    for (const curve of this.curves) {
      curve.look({ range: this.range, scale, smoothing: Number(smoothing), axis, marks: this.marks });
    }
  }
}

// One run's line and name, or a group's mark, as they stand above a chart of several.
function drawKey(pen, item, y) {
  if (item.dataset.shape) drawMark(pen, item, y);
  else drawLine(pen, getComputedStyle(item.querySelector(".swatch line")), y);
  pen.fillStyle = variable("--text");
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  pen.fillText(item.querySelector(".legend-name").textContent, 42, y);
}

function drawLine(pen, line, y) {
  pen.strokeStyle = line.stroke;
  pen.setLineDash(line.strokeDasharray === "none" ? [] : line.strokeDasharray.split(",").map(parseFloat));
  pen.lineWidth = 3;
  pen.beginPath();
  pen.moveTo(12, y);
  pen.lineTo(34, y);
  pen.stroke();
}

function drawMark(pen, item, y) {
  pen.fillStyle = pen.strokeStyle = getComputedStyle(item.querySelector(".mark")).color;
  Chart.helpers.drawPoint(pen, { pointStyle: item.dataset.shape, radius: 5, borderWidth: 1 }, 23, y);
}

// The chart as a picture, on the page's own background.
export function savePicture(figure, name) {
  const canvas = figure.querySelector("canvas");
  const scale = canvas.width / canvas.clientWidth;
  const legend = [...figure.querySelectorAll(".legend-list li")];
  const copy = document.createElement("canvas");
  copy.width = canvas.width;
  copy.height = canvas.height + scale * LEGEND_LINE * legend.length;
  const pen = copy.getContext("2d");
  pen.fillStyle = variable("--surface");
  pen.fillRect(0, 0, copy.width, copy.height);
  pen.drawImage(canvas, 0, 0);
  pen.translate(0, canvas.height);
  pen.scale(scale, scale);
  legend.forEach((item, at) => drawKey(pen, item, (at + 0.5) * LEGEND_LINE));
  const link = document.createElement("a");
  link.download = `${name}.png`;
  link.href = copy.toDataURL("image/png");
  link.click();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-picture]");
  if (button) savePicture(button.closest("figure"), button.dataset.picture);
});
