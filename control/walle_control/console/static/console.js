// Pages work without this. With it, a page that shows something live looks again when the server has news, and
// the policy editor checks a predicate while it is written.
"use strict";

const REFRESH = { "X-Console-Refresh": "1" };

// A part that somebody is using stays as it is until they are done.
function inUse(part) {
  return part.contains(document.activeElement) && document.activeElement !== document.body
    || part.querySelector("details[open]") !== null;
}

function takeParts(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const part of document.querySelectorAll("[data-part]")) {
    const next = fresh.getElementById(part.id);
    if (next && !inUse(part) && next.innerHTML !== part.innerHTML) {
      part.replaceChildren(...next.childNodes);
      part.className = next.className;
    }
  }
}

async function lookAgain() {
  const answer = await fetch(location.href, { headers: REFRESH });
  if (answer.redirected) {
    location.reload(); // signed out: the page itself leads to the sign-in
  } else if (answer.ok) {
    takeParts(await answer.text());
  }
}

function watch(url) {
  let busy = false;
  let again = false;
  async function look() {
    if (busy || document.hidden) {
      again = true;
      return;
    }
    busy = true;
    again = false;
    try {
      await lookAgain();
    } catch {
      // The server is away; the stream comes back by itself and brings news.
    }
    busy = false;
    if (again) setTimeout(look, 1000);
  }
  const events = new EventSource(url);
  events.addEventListener("news", look);
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) lookAgain().catch(() => {});
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && again) look();
  });
}

function checkWhileWriting(form) {
  let timer = 0;
  let newest = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const mine = ++newest;
      const fields = new URLSearchParams(new FormData(form));
      fields.set("do", "check");
      try {
        const answer = await fetch(form.action, { method: "POST", body: fields });
        if (mine === newest && !answer.redirected) takeParts(await answer.text());
      } catch {
        // Checked again with the next letter, or by the button.
      }
    }, 400);
  });
}

function insertInto(field, text) {
  const at = field.selectionStart;
  field.setRangeText(text, at, field.selectionEnd, "end");
  field.focus();
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-insert]");
  if (button) insertInto(document.getElementById(button.dataset.into), button.dataset.insert);
});

if (document.body.dataset.live) watch(document.body.dataset.live);
for (const form of document.querySelectorAll("form[data-check]")) checkWhileWriting(form);
