// One curve on one canvas, drawn by Chart.js from a run's series.

const LABELS = {
  loss: "Loss",
  fvu: "FVU",
  l0: "L0",
  dead_neurons: "Dead neurons",
  reconstruction_loss: "Reconstruction loss",
  tokens_per_second: "Tokens per second",
};
// Beyond this ratio a linear axis shows only the first few points.
const LOG_RATIO = 25;

export function shortNumber(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${trim(value / 1e6)}M`;
  if (size >= 1e4) return `${trim(value / 1e3)}k`;
  if (size > 0 && size < 1e-3) return value.toExponential(1);
  return trim(value);
}

function trim(value) {
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
}

function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Exponential moving average, corrected for its start; gaps stay gaps.
function smoothed(points, weight) {
  if (!weight) return points;
  let sum = 0;
  let norm = 0;
  return points.map(({ x, y }) => {
    if (Number.isNaN(y)) return { x, y };
    sum = weight * sum + (1 - weight) * y;
    norm = weight * norm + (1 - weight);
    return { x, y: sum / norm };
  });
}

export class Curve {
  constructor(figure, colour, steps) {
    this.figure = figure;
    this.colour = colour;
    this.steps = steps;
    this.metric = figure.dataset.chart;
    this.canvas = figure.querySelector("canvas");
    this.chart = null;
    this.points = [];
    // How it is looked at; `explore.js` sets these for all curves of a page together.
    this.view = { range: null, scale: "auto", smoothing: 0, unit: 1 };
    this.cross = null;
    this.marked = null;
    figure.addEventListener("click", (event) => this.pressed(event.target.closest("[data-metric]")));
  }

  pressed(button) {
    if (!button) return;
    this.metric = button.dataset.metric;
    for (const other of this.figure.querySelectorAll("[data-metric]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    this.figure.dispatchEvent(new CustomEvent("curve:switched", { bubbles: true }));
  }

  draw(series) {
    this.points = this.inUnit(series[this.metric] || []);
    this.figure.classList.toggle("has-points", this.points.length > 0);
    this.figure.classList.toggle("is-empty", this.points.length === 0);
    if (!this.chart) this.chart = new Chart(this.canvas, this.configuration());
    const { data, options } = this.chart;
    const [line, raw] = data.datasets;
    line.data = smoothed(this.points, this.view.smoothing);
    line.label = LABELS[this.metric];
    // A single point has no line yet.
    line.pointRadius = this.points.length === 1 ? 2.5 : 0;
    raw.data = this.view.smoothing ? this.points : [];
    options.scales.y.type = this.wantsLog() ? "logarithmic" : "linear";
    options.scales.y.title.display = options.scales.y.type === "logarithmic";
    const [from, to] = this.view.range || [0, this.steps];
    options.scales.x.min = from * this.view.unit;
    options.scales.x.max = to * this.view.unit;
    this.chart.update("none");
    this.describe();
  }

  inUnit(points) {
    const { unit } = this.view;
    return unit === 1 ? points : points.map(({ x, y }) => ({ x: x * unit, y }));
  }

  wantsLog() {
    if (this.view.scale === "linear") return false;
    let low = Infinity;
    let high = 0;
    for (const { y } of this.points) {
      if (Number.isNaN(y)) continue;
      if (y <= 0) return false;
      low = Math.min(low, y);
      high = Math.max(high, y);
    }
    if (this.view.scale === "log") return high > 0;
    return high / low > LOG_RATIO;
  }

  get words() {
    return this.view.unit === 1 ? { one: "step", plural: "steps" } : { one: "token", plural: "tokens" };
  }

  // The point nearest to a place on the x axis; nothing where there is none.
  nearest(x) {
    let found = null;
    for (const point of this.chart?.data.datasets[0].data || []) {
      if (Number.isNaN(point.y)) continue;
      if (!found || Math.abs(point.x - x) < Math.abs(found.x - x)) found = point;
    }
    return found;
  }

  describe() {
    const known = this.points.filter((point) => !Number.isNaN(point.y));
    const name = LABELS[this.metric];
    if (!known.length) {
      this.canvas.setAttribute("aria-label", `${name} over ${this.words.plural}: no points yet`);
      return;
    }
    const last = known[known.length - 1];
    const low = known.reduce((least, point) => (point.y < least.y ? point : least));
    this.canvas.setAttribute(
      "aria-label",
      `${name} over ${this.words.plural}: ${shortNumber(last.y)} at ${this.words.one} ${last.x}, ` +
        `lowest ${shortNumber(low.y)} at ${this.words.one} ${low.x}`,
    );
  }

  // Where the pointer is, on this chart or on one beside it, and what is being marked to zoom.
  drawCross({ ctx, chartArea: { top, bottom, left, right }, scales }) {
    const at = (x) => Math.min(right, Math.max(left, scales.x.getPixelForValue(x)));
    ctx.save();
    if (this.marked) {
      const [from, to] = this.marked.map(at);
      ctx.fillStyle = `${variable("--accent")}22`;
      ctx.fillRect(Math.min(from, to), top, Math.abs(to - from), bottom - top);
    }
    const point = this.cross === null ? null : this.nearest(this.cross);
    if (point) {
      ctx.strokeStyle = variable("--muted");
      ctx.setLineDash([3, 3]);
      ctx.beginPath();
      ctx.moveTo(at(point.x), top);
      ctx.lineTo(at(point.x), bottom);
      ctx.stroke();
      ctx.fillStyle = variable("--text");
      ctx.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
      ctx.textAlign = "right";
      ctx.fillText(shortNumber(point.y), right, top + 4);
    }
    ctx.restore();
  }

  recolour() {
    if (!this.chart) return;
    this.chart.destroy();
    this.chart = null;
  }

  destroy() {
    this.chart?.destroy();
    this.chart = null;
  }

  configuration() {
    const line = variable(`--series-${this.colour}`);
    const muted = variable("--muted");
    const font = { family: getComputedStyle(document.body).fontFamily, size: 11 };
    const ticks = { color: muted, font, maxRotation: 0, callback: shortNumber };
    return {
      type: "line",
      data: {
        datasets: [
          { data: [], borderColor: line, backgroundColor: line },
          { data: [], borderColor: `${line}55`, borderWidth: 1, pointHitRadius: 0, pointHoverRadius: 0 },
        ],
      },
      plugins: [{ id: "looked-at", afterDatasetsDraw: (chart) => this.drawCross(chart) }],
      options: {
        animation: false,
        parsing: false,
        normalized: true,
        maintainAspectRatio: false,
        spanGaps: false,
        interaction: { mode: "nearest", axis: "x", intersect: false },
        elements: {
          line: { borderWidth: 1.75, borderJoinStyle: "round" },
          point: { radius: 0, hoverRadius: 3.5, hitRadius: 8 },
        },
        layout: { padding: { top: 6, right: 8 } },
        scales: {
          x: {
            type: "linear",
            min: 0,
            max: this.steps,
            grid: { display: false },
            border: { color: variable("--line") },
            ticks: { ...ticks, maxTicksLimit: 7 },
          },
          y: {
            type: "linear",
            beginAtZero: true,
            grid: { color: variable("--grid"), drawTicks: false },
            border: { display: false },
            title: { display: false, text: "log scale", color: muted, font },
            ticks: { ...ticks, maxTicksLimit: 5, padding: 8 },
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            displayColors: false,
            backgroundColor: variable("--text"),
            titleColor: variable("--surface"),
            bodyColor: variable("--surface"),
            titleFont: { ...font, weight: "normal" },
            bodyFont: { ...font, size: 13, weight: "600" },
            padding: 8,
            cornerRadius: 4,
            caretSize: 0,
            filter: (item) => item.datasetIndex === 0,
            callbacks: {
              title: (items) => items.map((item) => `${this.words.one} ${item.parsed.x.toLocaleString("en")}`),
              label: (item) => `${item.dataset.label} ${shortNumber(item.parsed.y)}`,
            },
          },
        },
      },
    };
  }
}
