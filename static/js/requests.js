// What every htmx request of ours needs: a fresh CSRF token, visible errors, no needless swaps.

import { announce, notice } from "./notices.js";

const CSRF_COOKIE = "saestudio_csrf";
const SENTENCES = {
  403: "This was refused: you may have logged in or out in another tab. Reload the page.",
  404: "This does not exist any more.",
  503: "The database cannot be reached at the moment; nothing was changed. Try again in a moment.",
  500: "The server failed at this; its log says why. Nothing was changed.",
};

function cookie(name) {
  const found = document.cookie.split("; ").find((part) => part.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

// Polling that fails is repeated and shown by the connection's own sign.
function inBackground(element) {
  return (
    element.hasAttribute("data-runs") || (element.getAttribute("hx-trigger") || "").startsWith("every")
  );
}

export function isLoginPage(url) {
  return new URL(url, location.href).pathname === document.body.dataset.login;
}

export function sayLoggedOut() {
  const next = encodeURIComponent(location.pathname + location.search);
  const href = `${document.body.dataset.login}?next=${next}`;
  notice("warning", "You are logged out; what you see is the last state.", { href, text: "Log in again" });
}

// A token printed into the page goes stale when another tab logs in; the cookie does not.
document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.verb === "get") return;
  const token = cookie(CSRF_COOKIE);
  event.detail.headers["X-CSRFToken"] = token;
  if (event.detail.parameters.csrfmiddlewaretoken) event.detail.parameters.csrfmiddlewaretoken = token;
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status === 401 || (xhr.responseURL && isLoginPage(xhr.responseURL))) {
    event.detail.shouldSwap = false;
    sayLoggedOut();
  }
});

document.addEventListener("htmx:responseError", (event) => {
  const { elt, xhr } = event.detail;
  if (xhr.status === 401 || inBackground(elt)) return;
  const reason = xhr.getResponseHeader("X-Refusal");
  notice("error", (reason && JSON.parse(reason)) || SENTENCES[xhr.status] || `The server answered ${xhr.status}; nothing was changed.`);
});

for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => {
    if (inBackground(event.detail.elt)) return;
    notice("error", "The server does not answer. Check that the studio runs, then try again.");
  });
}

// A part that did not change stays as it is: focus, selection and open details survive.
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const { target, fragment } = event.detail;
  const next = fragment.firstElementChild;
  if (!next || next.id !== target.id) return;
  if (target.isEqualNode(next)) {
    event.detail.shouldSwap = false;
  } else if (next.dataset.status && next.dataset.status !== target.dataset.status) {
    announce(`${next.dataset.name}: ${next.textContent.trim().replace(/\s+/g, " ")}`);
  }
});
