// One run on the page: its series, kept whole from history and live points, as lines of charts.

import { Curve } from "./chart.js";

// Past this many live points the server's thinned history takes their place.
const MOST_POINTS = 3000;

// A little before it comes into view, so that nobody sees it empty.
const shown = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) entry.target.run?.show(entry.isIntersecting);
  },
  { rootMargin: "400px" },
);

// A second run of the same colour on one chart is told apart by its dashes.
const DASHES = [[], [6, 3], [2, 2]];

export class Run {
  // Draws on the charts inside its element, unless it is told on which.
  constructor(element) {
    this.element = element;
    this.id = element.dataset.run;
    this.seq = Number(element.dataset.seq);
    this.steps = Number(element.dataset.steps);
    this.batch = Number(element.dataset.batch);
    this.colour = element.dataset.colour;
    this.dash = DASHES[Number(element.dataset.dash || 0)];
    this.attempt = null;
    this.series = {};
    this.marks = [];
    this.lastStep = -1;
    this.visible = false;
    this.fetching = null;
    this.early = [];
    this.loaded = false;
    this.curves = [...element.querySelectorAll("[data-chart]")].map((figure) => new Curve(figure, [this]));
    element.run = this;
    if (this.curves.length) shown.observe(element);
  }

  get name() {
    return this.element.querySelector("h1, h2, [data-run-name]").textContent.trim();
  }

  // Its values of one metric over steps, tokens or time, as [{x, y}].
  points(metric, axis) {
    const points = this.series[metric] || [];
    if (axis === "step") return points;
    const place = this.places(axis);
    return points.map(({ x, y }) => ({ x: place(x), y }));
  }

  place(step, axis) {
    return this.places(axis)(step);
  }

  end(axis) {
    if (axis !== "time") return this.place(this.steps, axis);
    return this.series.elapsed?.at(-1)?.y || 1;
  }

  // From steps, asked for in rising order, to places on the x axis.
  places(axis) {
    if (axis === "step") return (step) => step;
    if (axis === "tokens") return (step) => step * this.batch;
    const elapsed = [{ x: 0, y: 0 }, ...(this.series.elapsed || [])];
    let i = 1;
    return (step) => {
      while (i < elapsed.length - 1 && elapsed[i].x < step) i++;
      const [from, to] = [elapsed[i - 1], elapsed[i] || elapsed[i - 1]];
      const share = to.x === from.x ? 0 : Math.min(1, (step - from.x) / (to.x - from.x));
      return from.y + share * (to.y - from.y);
    };
  }

  show(visible) {
    this.visible = visible;
    if (!visible) return;
    if (this.loaded) this.redraw();
    else this.reload();
  }

  receive(message) {
    const missed = message.seq > this.seq + 1;
    this.seq = Math.max(this.seq, message.seq);
    if (message.event === "started") this.reload();
    else if (missed || message.event === "completed") this.catchUp();
    if (message.event === "progress") this.append(message.data.points || [message.data]);
    if (message.event === "checkpoint") this.mark(message.data.step, "checkpoint", "Checkpoint");
    if (message.event === "resampled") {
      const latents = message.data.count.toLocaleString("en");
      this.mark(message.data.step, "resampled", `${latents} latents resampled`);
    }
  }

  append(points) {
    if (!this.loaded || this.fetching !== null) {
      this.early.push(...points);
      return;
    }
    for (const point of points) this.push(point);
    if (Object.values(this.series).some((values) => values.length > MOST_POINTS)) this.reload();
    this.redraw();
  }

  mark(step, kind, text) {
    this.marks.push({ step, kind, text });
    this.redraw();
  }

  push(point) {
    if (point.step <= this.lastStep) return;
    const tokens = (point.step - Math.max(0, this.lastStep)) * this.batch;
    const before = this.series.elapsed.at(-1)?.y || 0;
    const took = point.tokens_per_second > 0 ? tokens / point.tokens_per_second : 0;
    this.series.elapsed.push({ x: point.step, y: before + took });
    this.lastStep = point.step;
    for (const name of Object.keys(this.series)) {
      if (name in point) this.series[name].push({ x: point.step, y: point[name] ?? NaN });
    }
  }

  reload() {
    return this.fetchPoints(-1);
  }

  catchUp() {
    return this.loaded ? this.fetchPoints(this.lastStep) : Promise.resolve();
  }

  // One request at a time; a wish for the whole history is not lost to one for its end.
  async fetchPoints(after) {
    if (this.fetching !== null) {
      this.again = Math.min(this.again ?? after, after);
      return;
    }
    this.fetching = after;
    try {
      const answer = await fetch(`${this.element.dataset.points}?after_step=${after}`, {
        headers: { Accept: "application/json" },
      });
      if (answer.ok && !answer.redirected) this.take(await answer.json(), after);
    } catch (error) {
      // Unreachable: the connection's sign says so, and the next reconnect asks again.
      if (!(error instanceof TypeError)) throw error;
    } finally {
      this.fetching = null;
    }
    if (this.again !== undefined) {
      const next = this.again;
      delete this.again;
      await this.fetchPoints(next);
    }
  }

  take(answer, after) {
    if (after >= 0 && this.attempt !== null && answer.attempt !== this.attempt) {
      this.again = -1;
      return;
    }
    if (after < 0) this.series = {};
    // Seconds since that step go on from where it was.
    const before = this.series.elapsed?.at(-1)?.y || 0;
    for (const point of answer.series.elapsed) point[1] += before;
    this.marks = answer.marks;
    for (const [name, points] of Object.entries(answer.series)) {
      const more = points.map(([x, y]) => ({ x, y: y ?? NaN }));
      this.series[name] = (this.series[name] || []).concat(more);
    }
    this.attempt = answer.attempt;
    this.lastStep = after < 0 ? answer.last_step : Math.max(this.lastStep, answer.last_step);
    this.seq = Math.max(this.seq, answer.seq);
    this.loaded = true;
    this.early.splice(0).forEach((point) => this.push(point));
    this.redraw();
  }

  redraw() {
    for (const curve of this.curves) curve.redraw();
  }

  recolour() {
    for (const curve of this.curves) curve.recolour();
  }

  destroy() {
    shown.unobserve(this.element);
    for (const curve of this.curves) curve.destroy();
  }
}
