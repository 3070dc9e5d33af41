// How many latents fire how often, over the training: one histogram, moved from step to step.

const LEFT = 48;
const TOP = 12;
const RIGHT = 640;
const FLOOR = 192;
const FRAME_MS = 160;

class Film {
  constructor(root) {
    this.root = root;
    this.svg = root.querySelector("svg");
    this.slider = root.querySelector("input");
    this.told = root.querySelector("output");
    this.button = root.querySelector("[data-play]");
    this.timer = null;
    this.slider.addEventListener("input", () => {
      this.stop();
      this.show(Number(this.slider.value));
    });
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
  }

  async load() {
    const answer = await fetch(this.root.dataset.film, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const { start, width, frames } = await answer.json();
    if (frames.length < 2) return;
    this.frames = frames;
    this.slider.max = String(frames.length - 1);
    this.lay(start, width);
    this.root.hidden = false;
    this.show(frames.length - 1);
  }

  // Bars and ticks of all frames: one scale, so that heights can be compared.
  lay(start, width) {
    const counts = this.frames.map((frame) => frame.counts);
    this.most = Math.max(1, ...counts.flat());
    const used = counts.map((each) => each.findIndex((n) => n > 0)).filter((i) => i >= 0);
    // From a whole power of ten on, so that the axis begins with a tick.
    const perPower = Math.round(1 / width);
    this.first = Math.floor(Math.min(...used, counts[0].length - perPower) / perPower) * perPower;
    const shown = counts[0].length - this.first;
    const each = (RIGHT - LEFT) / shown;
    this.bars = Array.from({ length: shown }, (_, i) => {
      const bar = this.draw("rect", { class: `bar series-${this.root.dataset.colour}`, x: LEFT + i * each, width: each - 1 });
      bar.append(document.createElementNS(this.svg.namespaceURI, "title"));
      return bar;
    });
    this.draw("line", { class: "floor", x1: LEFT, x2: RIGHT, y1: FLOOR, y2: FLOOR });
    this.text(LEFT - 6, 18, "end", this.most.toLocaleString("en"));
    this.text(LEFT - 6, FLOOR, "end", "0");
    for (let i = 0; i <= shown; i += perPower) {
      const power = start + (this.first + i) * width;
      const share = `${Number((100 * 10 ** power).toPrecision(3))} %`;
      this.text(LEFT + i * each, FLOOR + 18, i === shown ? "end" : "middle", share);
    }
  }

  draw(name, attributes) {
    const element = document.createElementNS(this.svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    this.svg.append(element);
    return element;
  }

  text(x, y, anchor, words) {
    this.draw("text", { class: "tick", x, y, "text-anchor": anchor }).textContent = words;
  }

  show(number) {
    const frame = this.frames[number];
    this.at = number;
    this.slider.value = String(number);
    this.bars.forEach((bar, i) => {
      const n = frame.counts[this.first + i];
      const tall = ((FLOOR - TOP) * n) / this.most;
      bar.setAttribute("y", FLOOR - tall);
      bar.setAttribute("height", tall);
      bar.querySelector("title").textContent = `${n.toLocaleString("en")} latents`;
    });
    const told = `step ${frame.step.toLocaleString("en")}: ${frame.never.toLocaleString("en")} never fired in ${frame.tokens.toLocaleString("en")} tokens`;
    this.told.textContent = told;
    this.slider.setAttribute("aria-valuetext", told);
  }

  play() {
    if (this.at === this.frames.length - 1) this.at = -1;
    this.button.querySelector("span").textContent = "Pause";
    this.timer = setInterval(() => this.next(), FRAME_MS);
    this.next();
  }

  next() {
    this.show(this.at + 1);
    if (this.at === this.frames.length - 1) this.stop();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.querySelector("span").textContent = "Play";
  }
}

const root = document.querySelector("[data-film]");
if (root) new Film(root).load();
