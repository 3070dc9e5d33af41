// Sentences for the user: shown on the page, and changes of state said to screen readers.

export function notice(kind, text, link) {
  const line = document.createElement("p");
  line.className = `notice ${kind}`;
  line.setAttribute("role", kind === "error" ? "alert" : "status");
  const words = document.createElement("span");
  words.textContent = text;
  if (link) {
    const anchor = document.createElement("a");
    anchor.href = link.href;
    anchor.textContent = link.text;
    words.append(" ", anchor);
  }
  const dismiss = document.createElement("button");
  dismiss.type = "button";
  dismiss.className = "plain";
  dismiss.dataset.dismiss = "";
  dismiss.textContent = "Dismiss";
  line.append(words, dismiss);
  const place = openDialog()?.querySelector(".dialog-main") || document.getElementById("notices");
  for (const old of place.querySelectorAll(":scope > .notice")) {
    if (old.firstChild.textContent === words.textContent) old.remove();
  }
  place.prepend(line);
}

export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

// What an answer of the server has to say, by its HX-Trigger header.
document.addEventListener("announce", (event) => announce(event.detail.value));

function openDialog() {
  return document.querySelector("dialog[open]");
}

document.addEventListener("click", (event) => {
  event.target.closest("[data-dismiss]")?.closest(".notice").remove();
});
