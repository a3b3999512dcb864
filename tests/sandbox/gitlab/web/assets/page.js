// Pages are whole without this: it fetches those that still change again, and copies lines.
"use strict";

const INTERVAL = 1500;

function atEnd() {
  return window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
}

async function renew() {
  const main = document.querySelector("main[data-live]");
  if (!main) return;
  try {
    const answer = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    if (answer.ok && fresh && fresh.innerHTML !== main.innerHTML && !document.getSelection().toString()) {
      const follow = main.querySelector(".log") && atEnd();
      main.replaceWith(fresh);
      if (follow) window.scrollTo(0, document.body.scrollHeight);
    }
  } catch {
    // The server may be starting anew: the next round will tell.
  }
  setTimeout(renew, INTERVAL);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = "Copied";
});

setTimeout(renew, INTERVAL);
