// Pages are whole without this: it fetches those that still change again, and copies lines.
"use strict";

const INTERVAL = 1500;
const COPIED = 2000;
const FOCUSABLE = "a, button, .log";

function atEnd() {
  return window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
}

// Put what is new in place of what is there, and leave the reader where they are.
function show(main, page) {
  const fresh = page.querySelector("main");
  const follow = main.querySelector(".log") && atEnd();
  const focus = [...main.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  main.replaceWith(fresh);
  document.title = page.title;
  fresh.querySelectorAll(FOCUSABLE)[focus]?.focus({ preventScroll: true });
  if (follow) window.scrollTo(0, document.body.scrollHeight);
}

async function renew() {
  const main = document.querySelector("main[data-live]");
  if (!main) return;
  try {
    const answer = document.hidden ? null : await fetch(location.href, { headers: { "X-Requested-With": "fetch" } });
    if (answer?.redirected) location.reload();
    if (answer?.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const changed = page.querySelector("main").innerHTML !== main.innerHTML || page.title !== document.title;
      if (changed && !document.getSelection().toString()) show(main, page);
    }
  } catch {
    // The server may be starting anew: the next round will tell.
  }
  setTimeout(renew, INTERVAL);
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, COPIED);
  } catch {
    // Without TLS or leave there is no clipboard: the line is marked, to be copied by hand.
    document.getSelection().selectAllChildren(button.parentElement.querySelector("code"));
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button);
  const question = event.target.closest("button[data-confirm]")?.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

setTimeout(renew, INTERVAL);
