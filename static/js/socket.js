// One WebSocket that comes back by itself, whatever ended it, except a missing login.

const LOGIN_NEEDED = 4401;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;

export class LiveSocket extends EventTarget {
  constructor(path) {
    super();
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.url = `${scheme}//${location.host}${path}`;
    this.failures = 0;
    this.timer = null;
    this.open();
    // A sleeping laptop or a lost network need not wait out the pause.
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => !document.hidden && this.retryNow());
  }

  open() {
    this.timer = null;
    this.socket = new WebSocket(this.url);
    this.socket.onopen = () => {
      this.failures = 0;
      this.dispatchEvent(new Event("up"));
    };
    this.socket.onmessage = (event) => {
      this.dispatchEvent(new CustomEvent("message", { detail: JSON.parse(event.data) }));
    };
    this.socket.onclose = (event) => this.closed(event.code);
  }

  closed(code) {
    if (code === LOGIN_NEEDED) {
      this.dispatchEvent(new Event("login"));
      return;
    }
    this.dispatchEvent(new Event("down"));
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures++);
    this.timer = setTimeout(() => this.open(), wait * (0.75 + Math.random() / 2));
  }

  retryNow() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.open();
  }
}
