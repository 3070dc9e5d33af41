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

export class Curve {
  constructor(figure, colour, steps) {
    this.figure = figure;
    this.colour = colour;
    this.steps = steps;
    this.metric = figure.dataset.chart;
    this.canvas = figure.querySelector("canvas");
    this.chart = null;
    this.points = [];
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
    this.points = series[this.metric] || [];
    this.figure.classList.toggle("has-points", this.points.length > 0);
    this.figure.classList.toggle("is-empty", this.points.length === 0);
    if (!this.chart) this.chart = new Chart(this.canvas, this.configuration());
    const { data, options } = this.chart;
    data.datasets[0].data = this.points;
    data.datasets[0].label = LABELS[this.metric];
    // A single point has no line yet.
    data.datasets[0].pointRadius = this.points.length === 1 ? 2.5 : 0;
    options.scales.y.type = this.wantsLog() ? "logarithmic" : "linear";
    options.scales.y.title.display = options.scales.y.type === "logarithmic";
    this.chart.update("none");
    this.describe();
  }

  wantsLog() {
    let low = Infinity;
    let high = 0;
    for (const { y } of this.points) {
      if (Number.isNaN(y)) continue;
      if (y <= 0) return false;
      low = Math.min(low, y);
      high = Math.max(high, y);
    }
    return high / low > LOG_RATIO;
  }

  describe() {
    const known = this.points.filter((point) => !Number.isNaN(point.y));
    const name = LABELS[this.metric];
    if (!known.length) {
      this.canvas.setAttribute("aria-label", `${name} over steps: no points yet`);
      return;
    }
    const last = known[known.length - 1];
    const low = known.reduce((least, point) => (point.y < least.y ? point : least));
    this.canvas.setAttribute(
      "aria-label",
      `${name} over steps: ${shortNumber(last.y)} at step ${last.x}, ` +
        `lowest ${shortNumber(low.y)} at step ${low.x}`,
    );
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
      data: { datasets: [{ data: [], borderColor: line, backgroundColor: line }] },
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
            callbacks: {
              title: (items) => `step ${items[0].parsed.x.toLocaleString("en")}`,
              label: (item) => `${item.dataset.label} ${shortNumber(item.parsed.y)}`,
            },
          },
        },
      },
    };
  }
}
