// The page's one dialog: filled by htmx, opened natively, focus back to where it came from.

const dialog = document.getElementById("dialog");
const body = document.getElementById("dialog-body");
let openerHref = null;

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target === body && !dialog.open) openerHref = event.detail.elt.getAttribute("href");
});

document.addEventListener("htmx:afterSwap", (event) => {
  const { target, requestConfig } = event.detail;
  if (target !== body || !body.firstElementChild) return;
  // An answer to a form may have closed the dialog just now: only asking for one opens it.
  if (!dialog.open && requestConfig.verb !== "get") return;
  if (!dialog.open) dialog.showModal();
  const first = body.querySelector(
    ".summary, .dialog-main select, .dialog-main input:not([type=hidden]), .dialog-foot button, .dialog-foot a",
  );
  first?.focus();
});

// Content that is on the page already, such as a template element's.
export function showDialog(content) {
  body.replaceChildren(content);
  openerHref = null;
  if (!dialog.open) dialog.showModal();
}

document.addEventListener("click", (event) => {
  if (dialog.open && event.target.closest("[data-close]")) {
    event.preventDefault();
    dialog.close();
  }
});

document.addEventListener("dialog:close", () => dialog.close());

dialog.addEventListener("close", () => {
  body.replaceChildren();
  // The browser gives focus back itself, unless the opener was replaced meanwhile.
  if (document.activeElement === document.body && openerHref) {
    document.querySelector(`a[href="${openerHref}"]`)?.focus();
  }
});
