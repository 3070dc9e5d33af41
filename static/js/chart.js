// The curves of one metric on one canvas, one line a run, drawn by Chart.js from the runs' series.

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

// Made once: the browser takes longer to make one than to draw a line.
const FOUR_DIGITS = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function trim(value) {
  return FOUR_DIGITS.format(Number(value.toPrecision(4)));
}

export function variable(name) {
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

// What the x axis can count; a run turns its steps into it.
const AXES = {
  step: { one: "step", plural: "steps", write: shortNumber },
  tokens: { one: "token", plural: "tokens", write: shortNumber },
  time: { one: "time", plural: "training time", write: shortTime },
};

function shortTime(seconds) {
  if (seconds < 100) return `${trim(seconds)} s`;
  if (seconds < 6000) return `${trim(seconds / 60)} min`;
  return `${trim(seconds / 3600)} h`;
}

// How each kind of mark is drawn at its step.
const MARKS = {
  checkpoint: { colour: "--control", dash: [], height: 12 },
  resumed: { colour: "--interrupted", dash: [4, 3], height: Infinity },
  resampled: { colour: "--warning", dash: [2, 3], height: Infinity },
};
const NEAR_PX = 6;
const Y_AXIS_PX = 64;

const inSight = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) entry.target.curve?.sight(entry.isIntersecting);
  },
  { rootMargin: "200px" },
);
const DESCRIBED_MS = 2000;
// Live points are drawn no oftener than the numbers beside the charts change.
const LIVE_MS = 1000;

// All that have grown are drawn in one frame: frames cost more than lines.
const growing = new Set();
let growingTimer = null;
let grownAt = -Infinity;

function drawGrowing() {
  growingTimer = null;
  grownAt = performance.now();
  for (const curve of growing) curve.redraw();
}

export class Curve {
  // lines: the runs; a run says how a line looks and what its points are.
  constructor(figure, lines) {
    this.figure = figure;
    this.lines = lines;
    this.metric = figure.dataset.chart;
    this.canvas = figure.querySelector("canvas");
    this.chart = null;
    this.frame = null;
    this.shown = [];
    this.seen = false;
    this.describing = null;
    this.laidOut = null;
    figure.curve = this;
    inSight.observe(figure);
    // How it is looked at; `explore.js` sets these for all curves of a page together.
    this.view = { range: null, scale: "auto", smoothing: 0, axis: "step", marks: false };
    this.cross = null;
    this.marked = null;
    figure.addEventListener("click", (event) => this.pressed(event.target.closest("[data-metric]")));
  }

  // Looked at in another way: zoomed, smoothed, over tokens.
  look(view) {
    this.view = view;
    clearTimeout(this.describing);
    this.describing = null;
    this.redraw();
  }

  get axis() {
    return AXES[this.view.axis];
  }

  // Of the first line: that of a page with one run.
  get points() {
    return this.shown[0] || [];
  }

  pressed(button) {
    if (!button) return;
    this.metric = button.dataset.metric;
    for (const other of this.figure.querySelectorAll("[data-metric]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    this.redraw();
  }

  // What is out of sight is drawn once it comes into sight.
  sight(seen) {
    this.seen = seen;
    if (seen) this.redraw();
  }

  // New points have arrived.
  grow() {
    growing.add(this);
    if (growingTimer !== null) return;
    growingTimer = setTimeout(drawGrowing, Math.max(0, grownAt + LIVE_MS - performance.now()));
  }

  // Drawn at most once a frame, however many points arrive for however many lines.
  redraw() {
    growing.delete(this);
    if (!this.seen || this.frame !== null || !this.lines.some((line) => line.loaded)) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const { axis, smoothing, scale, range } = this.view;
    this.shown = this.lines.map((line) => line.points(this.metric, axis));
    const empty = this.shown.every((points) => !points.length);
    this.figure.classList.toggle("has-points", !empty);
    this.figure.classList.toggle("is-empty", empty);
    if (!this.chart) this.chart = new Chart(this.canvas, this.configuration());
    const { data, options } = this.chart;
    this.shown.forEach((points, place) => {
      const line = data.datasets[2 * place];
      const raw = data.datasets[2 * place + 1];
      line.data = smoothed(points, smoothing);
      line.label = LABELS[this.metric];
      // A single point has no line yet.
      line.pointRadius = points.length === 1 ? 2.5 : 0;
      raw.data = smoothing ? points : [];
    });
    const [low, high] = this.bounds();
    const log = this.wantsLog(scale, low, high);
    // What has no logarithm is a gap.
    if (log) for (const set of data.datasets) set.data = set.data.map(({ x, y }) => ({ x, y: y > 0 ? y : NaN }));
    const layout = this.layout(log);
    if (layout === this.laidOut && this.holds(low, high)) {
      this.drawInto();
    } else {
      options.scales.y.type = log ? "logarithmic" : "linear";
      options.scales.y.title.display = log;
      [options.scales.x.min, options.scales.x.max] = range || [0, this.end];
      this.chart.update("none");
      this.laidOut = layout;
    }
    this.describeSoon();
    this.tellValues();
  }

  // Other points than before: the axes are theirs.
  anew() {
    this.laidOut = null;
  }

  // Whether all points fit between the axes as they stand; of a part of them, its own are the axes.
  holds(low, high) {
    const { y } = this.chart.scales;
    return !this.view.range && low >= y.min && high <= y.max;
  }

  // New axes take most of the time of a drawing; here the old ones stay.
  drawInto() {
    this.chart.data.datasets.forEach((_, place) => {
      const { controller } = this.chart.getDatasetMeta(place);
      controller.buildOrUpdateElements();
      controller.update("none");
    });
    this.chart.draw();
  }

  // All but the points that the axes and the lines' look depend on.
  layout(log) {
    const { axis, smoothing, scale, range } = this.view;
    const single = this.shown.map((points) => points.length < 2);
    return [this.metric, axis, smoothing, scale, String(range), log, this.end, ...single].join();
  }

  // Where the x axis ends: at the last step to come, or at the time that has passed.
  get end() {
    return Math.max(...this.lines.map((line) => line.end(this.view.axis)));
  }

  // The least and the largest value; what has no logarithm is left out where that is asked for.
  bounds() {
    const least = this.view.scale === "log" ? 0 : -Infinity;
    let low = Infinity;
    let high = -Infinity;
    for (const points of this.shown) {
      for (const { y } of points) {
        if (!(y > least)) continue;
        low = Math.min(low, y);
        high = Math.max(high, y);
      }
    }
    return [low, high];
  }

  wantsLog(scale, low, high) {
    if (scale === "linear") return false;
    return scale === "log" ? high > 0 : low > 0 && high / low > LOG_RATIO;
  }

  // The line's point nearest to a place on the x axis; nothing where there is none.
  nearest(place, x) {
    const points = this.chart?.data.datasets[2 * place].data || [];
    let low = 0;
    let high = points.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle].x < x) low = middle + 1;
      else high = middle;
    }
    const known = (point) => point && !Number.isNaN(point.y);
    let [before, after] = [low - 1, low];
    while (before >= 0 && !known(points[before])) before--;
    while (after < points.length && !known(points[after])) after++;
    const sides = [points[before], points[after]].filter(known);
    return sides.sort((a, b) => Math.abs(a.x - x) - Math.abs(b.x - x))[0] || null;
  }

  // For screen readers; at once, then no oftener than anybody would listen.
  describeSoon() {
    if (this.describing !== null) return;
    this.describe();
    this.describing = setTimeout(() => {
      this.describing = null;
      if (this.chart) this.describe();
    }, DESCRIBED_MS);
  }

  describe() {
    const name = `${LABELS[this.metric]} over ${this.axis.plural}`;
    const parts = this.lines.map((line, place) => {
      const known = this.shown[place].filter((point) => !Number.isNaN(point.y));
      const whose = this.lines.length > 1 ? `${line.name}: ` : "";
      if (!known.length) return `${whose}no points yet`;
      const last = known[known.length - 1];
      const low = known.reduce((least, point) => (point.y < least.y ? point : least));
      const at = ({ x, y }) => `${shortNumber(y)} at ${this.where(x)}`;
      return `${whose}${at(last)}, lowest ${at(low)}`;
    });
    this.canvas.setAttribute("aria-label", `${name}: ${parts.join("; ")}`);
  }

  where(x) {
    return this.view.axis === "time" ? shortTime(x) : `${this.axis.one} ${WHOLE.format(x)}`;
  }

  // Beside the names of several runs: their values where the pointer is, else the newest.
  tellValues() {
    for (const place of this.figure.querySelectorAll("[data-value]")) {
      const at = this.lines.findIndex((line) => line.id === place.dataset.value);
      const known = this.shown[at]?.findLast((point) => !Number.isNaN(point.y));
      const point = this.cross === null ? known : this.nearest(at, this.cross);
      place.textContent = point ? shortNumber(point.y) : "–";
    }
  }

  // The pointer is at this place of the x axis, on this chart or on one beside it.
  point(x) {
    this.cross = x;
    this.chart?.draw();
    this.tellValues();
  }

  drawCross({ ctx, chartArea: { top, bottom, left, right }, scales }) {
    const at = (x) => Math.min(right, Math.max(left, scales.x.getPixelForValue(x)));
    ctx.save();
    if (this.marked) {
      const [from, to] = this.marked.map(at);
      ctx.fillStyle = `${variable("--accent")}22`;
      ctx.fillRect(Math.min(from, to), top, Math.abs(to - from), bottom - top);
    }
    const points = this.cross === null ? [] : this.lines.map((_, place) => this.nearest(place, this.cross));
    const first = points.find((point) => point);
    if (first) {
      const x = this.lines.length > 1 ? this.cross : first.x;
      ctx.strokeStyle = variable("--muted");
      ctx.setLineDash([3, 3]);
      ctx.beginPath();
      ctx.moveTo(at(x), top);
      ctx.lineTo(at(x), bottom);
      ctx.stroke();
    }
    if (first && this.lines.length === 1) {
      ctx.fillStyle = variable("--text");
      ctx.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
      ctx.textAlign = "right";
      ctx.fillText(shortNumber(first.y), right, top + 4);
    }
    ctx.restore();
  }

  // Checkpoints at the foot of the chart, resumes and resamplings as lines through it.
  drawMarks({ ctx, chartArea: { top, bottom, left, right }, scales }) {
    if (!this.view.marks) return;
    const place = this.lines[0].places(this.view.axis);
    ctx.save();
    for (const mark of this.lines[0].marks) {
      const look = MARKS[mark.kind];
      const x = scales.x.getPixelForValue(place(mark.step));
      if (!look || x < left - 1 || x > right + 1) continue;
      ctx.strokeStyle = variable(look.colour);
      ctx.setLineDash(look.dash);
      ctx.beginPath();
      ctx.moveTo(x, bottom);
      ctx.lineTo(x, Math.max(top, bottom - look.height));
      ctx.stroke();
    }
    ctx.restore();
  }

  // What happened where the tooltip points.
  marksNear(x) {
    if (!this.view.marks) return [];
    const pixel = (value) => this.chart.scales.x.getPixelForValue(value);
    const place = this.lines[0].places(this.view.axis);
    const near = this.lines[0].marks.filter(({ step }) => Math.abs(pixel(place(step)) - pixel(x)) <= NEAR_PX);
    return near.map((mark) => `${mark.text} (step ${mark.step.toLocaleString("en")})`);
  }

  recolour() {
    this.destroy();
    this.redraw();
  }

  destroy() {
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.frame = null;
    growing.delete(this);
    clearTimeout(this.describing);
    this.describing = null;
    this.chart?.destroy();
    this.chart = null;
    this.laidOut = null;
  }

  datasets() {
    return this.lines.flatMap(({ colour, dash }) => {
      const ink = variable(`--series-${colour}`);
      return [
        { data: [], borderColor: ink, backgroundColor: ink, borderDash: dash },
        { data: [], borderColor: `${ink}55`, borderWidth: 1, pointHitRadius: 0, pointHoverRadius: 0 },
      ];
    });
  }

  configuration() {
    const muted = variable("--muted");
    const font = { family: getComputedStyle(document.body).fontFamily, size: 11 };
    const ticks = { color: muted, font, maxRotation: 0 };
    return {
      type: "line",
      data: { datasets: this.datasets() },
      plugins: [
        {
          id: "looked-at",
          beforeDatasetsDraw: (chart) => this.drawMarks(chart),
          afterDatasetsDraw: (chart) => this.drawCross(chart),
        },
      ],
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
            max: this.end,
            grid: { display: false },
            border: { color: variable("--line") },
            ticks: { ...ticks, maxTicksLimit: 7, includeBounds: false, callback: (x) => this.axis.write(x) },
          },
          y: {
            type: "linear",
            beginAtZero: true,
            grid: { color: variable("--grid"), drawTicks: false },
            border: { display: false },
            title: { display: false, text: "log scale", color: muted, font },
            ticks: { ...ticks, maxTicksLimit: 5, padding: 8, callback: shortNumber },
            // The same for all, so that equal steps stand below each other.
            afterFit: (axis) => (axis.width = Y_AXIS_PX),
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            // Several runs have their values beside their names instead.
            enabled: this.lines.length === 1,
            displayColors: false,
            backgroundColor: variable("--text"),
            titleColor: variable("--surface"),
            bodyColor: variable("--surface"),
            footerColor: variable("--surface"),
            titleFont: { ...font, weight: "normal" },
            bodyFont: { ...font, size: 13, weight: "600" },
            footerFont: { ...font, weight: "normal" },
            padding: 8,
            cornerRadius: 4,
            caretSize: 0,
            filter: (item) => item.datasetIndex % 2 === 0,
            callbacks: {
              title: (items) => items.map((item) => this.where(item.parsed.x)),
              label: (item) => `${item.dataset.label} ${shortNumber(item.parsed.y)}`,
              footer: (items) => (items.length ? this.marksNear(items[0].parsed.x) : []),
            },
          },
        },
      },
    };
  }
}
