// One run on the page: its series, kept whole from history and live points, and its charts.

import { Curve } from "./chart.js";

// Past this many live points the server's thinned history takes their place.
const MOST_POINTS = 3000;

const shown = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.run?.show(entry.isIntersecting);
});

export class Run {
  constructor(element) {
    this.element = element;
    this.id = element.dataset.run;
    this.seq = Number(element.dataset.seq);
    this.attempt = null;
    this.series = {};
    this.lastStep = -1;
    this.visible = false;
    this.fetching = null;
    this.early = [];
    this.loaded = false;
    this.frame = null;
    this.curves = [...element.querySelectorAll("[data-chart]")].map(
      (figure) => new Curve(figure, element.dataset.colour, Number(element.dataset.steps)),
    );
    element.run = this;
    element.addEventListener("curve:switched", () => this.redraw());
    shown.observe(element);
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

  push(point) {
    if (point.step <= this.lastStep) return;
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
    if (this.frame !== null || !this.visible || !this.loaded) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      for (const curve of this.curves) curve.draw(this.series);
    });
  }

  recolour() {
    for (const curve of this.curves) curve.recolour();
    this.redraw();
  }

  destroy() {
    shown.unobserve(this.element);
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    for (const curve of this.curves) curve.destroy();
  }
}
