// Points between sparsity and fidelity: trainings, or SAEs. A table holds what is drawn, so that who
// sees no chart has it all, and links to each.

import { shortNumber, variable } from "./chart.js";

const NAME_HEIGHT = 13;
// Of more points than these only those on the front are named.
const NAMED = 12;
// Beyond this ratio of L0 a linear axis would crowd the sparse ones.
const LOG_RATIO = 25;

// Every plane in there, of the rows and cells in there.
export function planes(root) {
  for (const figure of root.querySelectorAll("[data-pareto-chart]")) {
    const plane = new Plane(figure, root);
    document.addEventListener("htmx:oobAfterSwap", () => plane.redraw());
    document.addEventListener("theme:changed", () => plane.recolour());
  }
}

// What is lost over L0; the figure names its measure.
class Plane {
  constructor(figure, root) {
    this.root = root;
    this.figure = figure;
    this.measure = figure.dataset.paretoChart;
    this.title = figure.dataset.title;
    this.canvas = this.figure.querySelector("canvas");
    this.chart = null;
    this.frame = null;
    this.redraw();
  }

  // The server's word of each, from its cell or row.
  read() {
    return [...this.root.querySelectorAll("[data-pareto]")].flatMap(({ dataset }) => {
      const lost = dataset[this.measure];
      if (!dataset.l0 || !lost) return [];
      const { name, colour, shape = "circle", href } = dataset;
      return [{ x: Number(dataset.l0), y: Number(lost), name, colour, shape, href, final: "final" in dataset }];
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
    const front = frontier(points);
    dots.data = points;
    dots.pointStyle = points.map(({ shape }) => shape);
    dots.borderColor = points.map(({ colour }) => variable(`--series-${colour}`));
    dots.backgroundColor = points.map(({ colour, final }) => variable(final ? `--series-${colour}` : "--surface"));
    line.data = front;
    this.named = points.length > NAMED ? front : points;
    this.spread(points);
    this.chart.update("none");
    this.canvas.setAttribute("aria-label", `${this.title} over L0. ${this.told(points, front)}`);
  }

  spread(points) {
    // CE lost is below 0 where the reconstruction serves the model better than the original.
    this.chart.options.scales.y.min = points.some(({ y }) => y < 0) ? undefined : 0;
    const all = points.map(({ x }) => x).filter((x) => x > 0);
    const wide = all.length === points.length && Math.max(...all) > LOG_RATIO * Math.min(...all);
    const { x } = this.chart.options.scales;
    x.type = wide ? "logarithmic" : "linear";
    x.min = wide ? undefined : 0;
  }

  // Of many only those that none beats: the table has the others.
  told(points, front) {
    if (!points.length) return "No points yet";
    const few = points.length <= NAMED;
    const said = (few ? points : front).map((point) => this.said(point)).join("; ");
    return few ? said : `${points.length} points; none beats ${said}`;
  }

  said({ x, y, name }) {
    return `${name}: ${this.title} ${shortNumber(y)} at L0 ${shortNumber(x)}`;
  }

  // The page of the point that lies under the pointer.
  linked(hit) {
    return hit.find(({ datasetIndex }) => datasetIndex === 0)?.element.$context.raw.href;
  }

  open(hit) {
    const href = this.linked(hit);
    if (href) location.assign(href);
  }

  recolour() {
    this.chart?.destroy();
    this.chart = null;
    this.redraw();
  }

  // Names beside their points, on the side that has room.
  drawNames({ ctx, chartArea: { left, right, bottom }, data }, meta) {
    ctx.save();
    ctx.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    ctx.fillStyle = variable("--muted");
    ctx.textBaseline = "middle";
    const points = data.datasets[0].data;
    const places = meta.data.map(({ x, y }, i) => ({ x, y, point: points[i] }));
    let lowest = -Infinity;
    for (const { x, y, point } of places.sort((a, b) => a.y - b.y)) {
      if (!this.named.includes(point)) continue;
      // Names never lie on each other: the next one goes below. Nor on a point beside theirs.
      lowest = Math.max(y, lowest + NAME_HEIGHT);
      // Nor on the axis: who has no room is named by the table, and under the pointer.
      if (lowest > bottom) break;
      const width = ctx.measureText(point.name).width + 9;
      const covers = (from, to) => places.some((o) => Math.abs(o.y - lowest) < 9 && o.x > from && o.x < to);
      const leftFree = x - width > left && !covers(x - width, x);
      const rightFree = x + width < right && !covers(x, x + width);
      const toLeft = leftFree === rightFree ? x > (left + right) / 2 : leftFree;
      const beside = places.filter((other) => Math.abs(other.y - lowest) < 9 && Math.abs(other.x - x) < 14);
      const from = toLeft ? Math.min(...beside.map((one) => one.x), x) - 9 : Math.max(...beside.map((one) => one.x), x) + 9;
      ctx.textAlign = toLeft ? "right" : "left";
      ctx.fillText(shortened(ctx, point.name, toLeft ? from - left : right - from), from, lowest);
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
        onClick: (event, hit) => this.open(hit),
        onHover: (event, hit) => (this.canvas.style.cursor = this.linked(hit) ? "pointer" : ""),
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
