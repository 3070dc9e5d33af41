// Parts of a page shown one at a time. Without scripts they stand below each other, and the tabs lead
// down to them.

const bar = document.querySelector("[data-tabs]");
const tabs = bar ? [...bar.querySelectorAll("a")] : [];

function panelOf(tab) {
  return document.querySelector(tab.hash);
}

function show(chosen, focus) {
  for (const tab of tabs) {
    const here = tab === chosen;
    tab.setAttribute("aria-selected", String(here));
    tab.tabIndex = here ? 0 : -1;
    panelOf(tab).hidden = !here;
  }
  requestAnimationFrame(centre);
  if (focus) chosen.focus();
}

function centre() {
  const chosen = tabs.find((tab) => tab.tabIndex === 0);
  bar.scrollLeft = chosen.offsetLeft - (bar.clientWidth - chosen.offsetWidth) / 2;
}

// The part that the address leads into: itself, or what lies in it.
function asked() {
  const target = document.getElementById(location.hash.slice(1));
  const panel = target?.closest("[role=tabpanel]");
  return tabs.find((tab) => panelOf(tab) === panel);
}

function choose(tab) {
  show(tab, true);
  history.replaceState(null, "", tab.hash);
}

function pressed(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const at = tabs.indexOf(document.activeElement);
  if (!by || at < 0) return;
  event.preventDefault();
  choose(tabs[(at + by + tabs.length) % tabs.length]);
}

if (bar) {
  bar.setAttribute("role", "tablist");
  for (const tab of tabs) {
    const panel = panelOf(tab);
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    tab.id = `tab-of-${panel.id}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      choose(tab);
    });
  }
  bar.addEventListener("keydown", pressed);
  addEventListener("hashchange", () => asked() && show(asked(), false));
  addEventListener("resize", centre);
  show(asked() || tabs[0], false);
}
