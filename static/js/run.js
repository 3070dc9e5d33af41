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

const START = { x: 0, y: 0 };
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
    // A row of numbers alone, without curves, is looked at as long as its page is.
    this.visible = !element.dataset.points;
    this.fetching = null;
    this.early = [];
    this.loaded = false;
    // Marks that arrive while an older answer is on its way.
    this.lateMarks = [];
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

  end(axis) {
    if (axis !== "time") return this.places(axis)(this.steps);
    return this.series.elapsed?.at(-1)?.y || 1;
  }

  // From steps, asked for in rising order, to places on the x axis.
  places(axis) {
    if (axis === "step") return (step) => step;
    if (axis === "tokens") return (step) => step * this.batch;
    const elapsed = this.series.elapsed || [];
    let i = 0;
    return (step) => {
      while (i < elapsed.length - 1 && elapsed[i].x < step) i++;
      const from = elapsed[i - 1] || START;
      const to = elapsed[i] || from;
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
    if (this.fetching !== null) {
      this.early.push(...points);
      return;
    }
    // The history that is fetched once it is looked at has them, too.
    if (!this.loaded) return;
    for (const point of points) this.push(point);
    if (Object.values(this.series).some((values) => values.length > MOST_POINTS)) this.reload();
    for (const curve of this.curves) curve.grow();
  }

  mark(step, kind, text) {
    if (this.fetching !== null) this.lateMarks.push({ step, kind, text });
    this.addMark({ step, kind, text });
    this.redraw();
  }

  // Each once, in the order of their steps.
  addMark(mark) {
    if (this.marks.some(({ step, kind }) => step === mark.step && kind === mark.kind)) return;
    this.marks.push(mark);
    this.marks.sort((a, b) => a.step - b.step);
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
    if (!this.element.dataset.points) return Promise.resolve();
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
      // Also where nothing came: what was heard meanwhile is not lost.
      if (this.loaded) this.early.forEach((point) => this.push(point));
      this.early = [];
      this.redraw();
    }
    if (this.again !== undefined) {
      const whole = this.again < 0;
      delete this.again;
      await this.fetchPoints(whole ? -1 : this.lastStep);
    }
  }

  take(answer, after) {
    if (after >= 0 && this.attempt !== null && answer.attempt !== this.attempt) {
      this.again = -1;
      return;
    }
    if (after < 0) {
      this.series = {};
      for (const curve of this.curves) curve.anew();
    }
    // Seconds since that step go on from where it was.
    const before = this.series.elapsed?.at(-1)?.y || 0;
    for (const point of answer.series.elapsed) point[1] += before;
    this.marks = answer.marks.sort((a, b) => a.step - b.step);
    this.lateMarks.splice(0).forEach((mark) => this.addMark(mark));
    for (const [name, points] of Object.entries(answer.series)) {
      const more = points.map(([x, y]) => ({ x, y: y ?? NaN }));
      this.series[name] = (this.series[name] || []).concat(more);
    }
    this.attempt = answer.attempt;
    this.lastStep = after < 0 ? answer.last_step : Math.max(this.lastStep, answer.last_step);
    this.seq = Math.max(this.seq, answer.seq);
    this.loaded = true;
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
