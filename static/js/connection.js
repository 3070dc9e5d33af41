// The discreet sign that says whether the page is live, and how old it is where it is not.

import { sayLoggedOut } from "./requests.js";

const sign = document.getElementById("connection");
let lastHeard = Date.now();
let timer = null;

function write() {
  const age = Math.round((Date.now() - lastHeard) / 1000);
  sign.textContent = `reconnecting, ${age} s old`;
}

export function heard() {
  lastHeard = Date.now();
}

export function showUp() {
  clearInterval(timer);
  timer = null;
  sign.hidden = true;
  heard();
}

export function showDown() {
  if (timer !== null) return;
  sign.hidden = false;
  write();
  timer = setInterval(write, 1000);
}

export function showLoggedOut() {
  showUp();
  sign.hidden = false;
  sign.textContent = "logged out";
  sayLoggedOut();
}
