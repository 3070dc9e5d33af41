// Several runs on shared charts, and where each stands between sparsity and fidelity.

import { Curve, shortNumber, variable } from "./chart.js";
import { Explorer } from "./explore.js";

const NAME_HEIGHT = 13;

export function overlay(root, runs) {
  const curves = [...root.querySelectorAll("[data-chart]")].map((figure) => new Curve(figure, runs));
  for (const run of runs) {
    run.curves = curves;
    run.show(true);
  }
  new Explorer(curves, root.querySelector("[data-explore]"), { marks: false });
  for (const figure of root.querySelectorAll("[data-pareto-chart]")) {
    const pareto = new Pareto(figure, root, runs);
    document.addEventListener("htmx:oobAfterSwap", () => pareto.redraw());
    document.addEventListener("theme:changed", () => pareto.recolour());
  }
}

// What is lost over L0; the figure names its measure, and the cells of the table hold it.
class Pareto {
  constructor(figure, root, runs) {
    this.root = root;
    this.runs = runs;
    this.figure = figure;
    this.measure = figure.dataset.paretoChart;
    this.title = figure.dataset.title;
    this.canvas = this.figure.querySelector("canvas");
    this.chart = null;
    this.frame = null;
    this.redraw();
  }

  // The server's word of each run, from its cell in the table.
  read() {
    return this.runs.flatMap((run) => {
      const cell = this.root.querySelector(`[data-pareto="${run.id}"]`);
      const lost = cell?.dataset[this.measure];
      if (!cell?.dataset.l0 || !lost) return [];
      const final = "final" in cell.dataset;
      return [{ x: Number(cell.dataset.l0), y: Number(lost), final, run }];
    });
  }

  redraw() {
    if (this.frame !== null) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const points = this.read();
    this.figure.classList.toggle("has-points", points.length > 0);
    this.figure.classList.toggle("is-empty", points.length === 0);
    if (!this.chart) this.chart = new Chart(this.canvas, this.configuration());
    const [dots, line] = this.chart.data.datasets;
    dots.data = points;
    dots.borderColor = points.map(({ run }) => variable(`--series-${run.colour}`));
    dots.backgroundColor = points.map(({ run, final }) => variable(final ? `--series-${run.colour}` : "--surface"));
    line.data = frontier(points);
    this.chart.update("none");
    const told = points.map((point) => this.said(point));
    this.canvas.setAttribute("aria-label", `${this.title} over L0. ${told.join("; ") || "No points yet"}`);
  }

  said({ x, y, run }) {
    return `${run.name}: ${this.title} ${shortNumber(y)} at L0 ${shortNumber(x)}`;
  }

  recolour() {
    this.chart?.destroy();
    this.chart = null;
    this.redraw();
  }

  // Names beside their points, on the side that has room.
  drawNames({ ctx, chartArea: { left, right }, data }, meta) {
    ctx.save();
    ctx.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    ctx.fillStyle = variable("--muted");
    ctx.textBaseline = "middle";
    const points = data.datasets[0].data;
    const places = meta.data.map(({ x, y }, i) => ({ x, y, name: points[i].run.name }));
    let lowest = -Infinity;
    for (const { x, y, name } of places.sort((a, b) => a.y - b.y)) {
      // Names never lie on each other: the next one goes below. Nor on a point beside theirs.
      lowest = Math.max(y, lowest + NAME_HEIGHT);
      const toLeft = x > (left + right) / 2;
      const beside = places.filter((other) => Math.abs(other.y - lowest) < 9 && Math.abs(other.x - x) < 14);
      const from = toLeft ? Math.min(...beside.map((one) => one.x), x) - 9 : Math.max(...beside.map((one) => one.x), x) + 9;
      ctx.textAlign = toLeft ? "right" : "left";
      ctx.fillText(shortened(ctx, name, toLeft ? from - left : right - from), from, lowest);
    }
    ctx.restore();
  }

  configuration() {
    const muted = variable("--muted");
    const font = { family: getComputedStyle(document.body).fontFamily, size: 11 };
    const axis = (text) => ({
      type: "linear",
      grace: "10%",
      grid: { color: variable("--grid"), drawTicks: false },
      border: { color: variable("--line") },
      title: { display: true, text, color: muted, font },
      ticks: { color: muted, font, maxTicksLimit: 6, padding: 6, callback: shortNumber },
    });
    return {
      type: "scatter",
      data: {
        datasets: [
          { data: [], pointRadius: 5, pointHoverRadius: 6, borderWidth: 2 },
          { data: [], type: "line", pointRadius: 0, borderColor: muted, borderWidth: 1, borderDash: [4, 3] },
        ],
      },
      plugins: [{ id: "names", afterDatasetsDraw: (chart) => this.drawNames(chart, chart.getDatasetMeta(0)) }],
      options: {
        animation: false,
        maintainAspectRatio: false,
        layout: { padding: { top: 6, right: 8 } },
        scales: { x: { ...axis("L0"), min: 0 }, y: { ...axis(this.title), min: 0 } },
        plugins: {
          legend: { display: false },
          tooltip: {
            filter: (item) => item.datasetIndex === 0,
            displayColors: false,
            callbacks: {
              label: ({ raw }) => this.said(raw),
            },
          },
        },
      },
    };
  }
}

// A name cut in its middle, where names of one sweep are alike, to this width.
function shortened(ctx, name, width) {
  let kept = name.length;
  let text = name;
  while (kept > 8 && ctx.measureText(text).width > width) {
    kept -= 1;
    text = `${name.slice(0, Math.ceil(kept / 2))}…${name.slice(name.length - Math.floor(kept / 2))}`;
  }
  return text;
}

// Those that no other beats in both, from the sparsest to the densest.
function frontier(points) {
  const rising = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  let best = Infinity;
  return rising.filter(({ y }) => {
    const better = y < best;
    best = Math.min(best, y);
    return better;
  });
}
