// The curves of one training looked at together: one crosshair, one zoom, one scale, one smoothing.

const LEAST_DRAG = 6;

export class Explorer {
  constructor(run, tools) {
    this.run = run;
    this.tools = tools;
    this.from = null;
    this.range = null;
    tools.hidden = false;
    tools.addEventListener("input", () => this.look());
    tools.querySelector("[data-reset]").addEventListener("click", () => this.zoom(null));
    for (const curve of run.curves) this.listen(curve);
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
      if (from && Math.abs(event.offsetX - from.at) >= LEAST_DRAG) this.zoom([from.x, place(event)]);
    });
    canvas.addEventListener("dblclick", () => this.zoom(null));
  }

  point(x) {
    if (x === null) this.from = null;
    this.mark(this.from && x !== null ? [this.from.x, x] : null);
    for (const curve of this.run.curves) {
      curve.cross = x;
      curve.chart?.draw();
    }
  }

  mark(places) {
    for (const curve of this.run.curves) curve.marked = places;
  }

  // From and to on the x axis as it is shown; null shows all.
  zoom(places) {
    const unit = this.unit();
    const steps = Number(this.run.element.dataset.steps);
    const inside = places?.map((x) => Math.round(Math.min(steps, Math.max(0, x / unit)))).sort((a, b) => a - b);
    this.range = inside && inside[1] > inside[0] ? inside : null;
    this.look();
  }

  unit() {
    const by = this.tools.querySelector("[name=axis]").value;
    return by === "tokens" ? Number(this.run.element.dataset.batch) : 1;
  }

  look() {
    const scale = this.tools.querySelector("[name=scale]").value;
    const smoothing = Number(this.tools.querySelector("[name=smoothing]").value);
    this.tools.querySelector("[data-reset]").hidden = !this.range;
    for (const curve of this.run.curves) {
      curve.view = { range: this.range, scale, smoothing, unit: this.unit() };
    }
    this.run.redraw();
  }
}

// The chart as a picture, on the page's own background.
export function savePicture(figure, name) {
  const canvas = figure.querySelector("canvas");
  const copy = document.createElement("canvas");
  copy.width = canvas.width;
  copy.height = canvas.height;
  const pen = copy.getContext("2d");
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--surface").trim();
  pen.fillRect(0, 0, copy.width, copy.height);
  pen.drawImage(canvas, 0, 0);
  const link = document.createElement("a");
  link.download = `${name}.png`;
  link.href = copy.toDataURL("image/png");
  link.click();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-picture]");
  if (button) savePicture(button.closest("figure"), button.dataset.picture);
});
