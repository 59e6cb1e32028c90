// Pages work without this. With it, a page that shows something live looks again when the server has news, and
// the policy editor checks and completes a predicate while it is written.
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

// What fits where the cursor is: { from, options }. What is offered is the page's list of names; after a name,
// a value or a parenthesis come operators, elsewhere names, within segment(" and set(" those alone.
function completion(text, offered, asked) {
  const quoted = /\b(segment|in\s+set)\(\s*"([^"]*)$/.exec(text);
  if (quoted) {
    const kind = quoted[1] === "segment" ? 'segment("' : 'in set("';
    const names = offered.filter((each) => each.text.includes(kind))
      .map((each) => ({ ...each, text: each.text.slice(each.text.indexOf('"') + 1) }));
    return fitting(names, quoted[2], text.length - quoted[2].length);
  }
  const outside = text.replace(/"(?:[^"\\]|\\.)*"/g, (string) => "0".repeat(string.length));
  if (outside.includes('"')) return null;
  const word = /[A-Za-z_][\w.]*$/.exec(outside)?.[0] ?? "";
  const before = outside.slice(0, outside.length - word.length);
  const isAfter = /[\w)]\s*$/.test(before)
    && !/\b(and|or|not|in|startswith|endswith|contains|matches)\s*$/.test(before);
  if (!word && !asked) return null;
  const names = offered.filter((each) => each.isAfter === isAfter);
  return fitting(names, word, before.length);
}

// Names that begin so come first, then those with a part that does.
function fitting(names, start, from) {
  const low = start.toLowerCase();
  const rank = (each) => {
    const text = each.text.toLowerCase();
    if (text.startsWith(low)) return 0;
    return text.split(/[^a-z0-9]+/).some((part) => part.startsWith(low)) ? 1 : 2;
  };
  const options = names.filter((each) => rank(each) < 2 && each.text !== start).sort((a, b) => rank(a) - rank(b));
  return options.length ? { from, options: options.slice(0, 50) } : null;
}

// A combobox with a listbox below it, by the pattern of the WAI-ARIA practices: the keyboard stays in the field.
function completeWhileWriting(field) {
  const offered = [...document.querySelectorAll(`button[data-into="${field.id}"]`)].map((button) => ({
    text: button.dataset.insert, note: button.title, isAfter: button.dataset.when === "after",
  }));
  const list = document.createElement("ul");
  list.id = `${field.id}-list`;
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Names and operators");
  field.after(list);
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-autocomplete": "list", "aria-haspopup": "listbox", "aria-expanded": "false",
    "aria-controls": list.id,
  })) field.setAttribute(name, value);
  let found = null;
  let active = -1;

  function mark(index) {
    active = index;
    [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === index)));
    if (index < 0) {
      field.removeAttribute("aria-activedescendant");
    } else {
      field.setAttribute("aria-activedescendant", list.children[index].id);
      list.children[index].scrollIntoView({ block: "nearest" });
    }
  }

  function close() {
    found = null;
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    mark(-1);
  }

  function open(asked) {
    found = field.selectionStart === field.selectionEnd
      ? completion(field.value.slice(0, field.selectionStart), offered, asked) : null;
    if (!found) return close();
    list.replaceChildren(...found.options.map((option, at) => {
      const item = document.createElement("li");
      item.id = `${list.id}-${at}`;
      item.setAttribute("role", "option");
      const name = document.createElement("b");
      const note = document.createElement("span");
      name.textContent = option.text;
      note.textContent = option.note;
      item.append(name, note);
      return item;
    }));
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
    mark(-1);
  }

  function take(index) {
    const text = found.options[index].text;
    field.setSelectionRange(found.from, field.selectionStart);
    close();
    insertInto(field, text);
  }

  field.addEventListener("input", (event) => event.isTrusted ? open(false) : close());
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.ctrlKey && event.code === "Space") {
      open(true);
      if (found) mark(0);
    } else if (!found || event.ctrlKey || event.altKey || event.metaKey) {
      return;
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const last = found.options.length - 1;
      mark(event.key === "ArrowDown" ? (active < last ? active + 1 : 0) : (active > 0 ? active - 1 : last));
    } else if (event.key === "Enter" && active >= 0) {
      take(active);
    } else if (event.key === "Escape") {
      close();
    } else {
      if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") close();
      return;
    }
    event.preventDefault();
  });
  list.addEventListener("mousedown", (event) => {
    event.preventDefault(); // the field keeps the keyboard
    const item = event.target.closest("[role=option]");
    if (item) take([...list.children].indexOf(item));
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
for (const field of document.querySelectorAll("textarea[data-completes]")) completeWhileWriting(field);
