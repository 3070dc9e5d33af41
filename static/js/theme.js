// The switch between the system's theme, light and dark.

const root = document.documentElement;

function choose(theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", theme);
  } catch {
    // Without storage the choice lasts for this page.
  }
  tell();
}

function tell() {
  document.dispatchEvent(new CustomEvent("theme:changed"));
}

const toggle = document.querySelector("[data-theme-switch]");
if (toggle) {
  toggle.hidden = false;
  toggle.querySelector(`[value="${root.dataset.theme || "system"}"]`).checked = true;
  toggle.addEventListener("change", (event) => choose(event.target.value));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
