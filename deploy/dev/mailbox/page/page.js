// The page asks for letters newer than the newest it has. All text goes in by textContent; HTML only into the sandboxed frame.
"use strict";

const POLL_MS = 1500;
const $ = (id) => document.getElementById(id);
const tabs = [...document.querySelectorAll('[role="tab"]')];
const letters = new Map();
let chosen = null;
let wanted = "html"; // the view that was picked last; a letter without HTML is shown as text and changes nothing of it

async function refresh() {
  try {
    const newest = [...letters.keys()].at(-1) ?? "";
    const answer = await fetch(`/api/letters?after=${encodeURIComponent(newest)}`);
    const fresh = await answer.json();
    fresh.forEach((letter) => { letters.set(letter.id, letter); addLine(letter); });
    const total = Number(answer.headers.get("X-Total-Count"));
    if (total !== letters.size) { forgetAll(); }
    if (chosen === null && fresh.length && window.matchMedia("(min-width: 46rem)").matches) { choose(fresh.at(-1).id); }
    tell("count", total === 1 ? "1 letter" : `${total} letters`);
    showUnfriendly(await (await fetch("/api/switches")).json());
  } catch {
    tell("count", "The mailbox does not answer.");
  }
  $("none").hidden = letters.size > 0;
  $("choose").hidden = letters.size === 0 || chosen !== null;
  setTimeout(refresh, POLL_MS);
}

// A screen reader reads a status aloud whenever it is written, also when it says what it said.
function tell(id, text) {
  if ($(id).textContent !== text) { $(id).textContent = text; }
}

function forgetAll() {
  letters.clear();
  chosen = null;
  $("list").replaceChildren();
  $("letter").hidden = true;
}

function addLine(letter) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.id = letter.id;
  button.append(
    part("span", "subject", letter.subject || "(no subject)"),
    part("time", "", new Date(letter.received_at).toLocaleTimeString()),
    part("span", "to", letter.to.join(", ")),
  );
  button.addEventListener("click", () => choose(letter.id));
  const item = document.createElement("li");
  item.append(button);
  $("list").prepend(item);
}

function part(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function choose(id) {
  chosen = id;
  const letter = letters.get(id);
  document.querySelectorAll("#list button").forEach((b) => b.setAttribute("aria-current", String(b.dataset.id === id)));
  $("subject").textContent = letter.subject || "(no subject)";
  $("from").textContent = letter.from;
  $("to").textContent = letter.to.join(", ");
  $("received").textContent = new Date(letter.received_at).toLocaleString();
  const attached = letter.attachments.map((a) => `${a.filename ?? a.content_type} (${a.size_bytes} bytes)`);
  $("attachments").textContent = attached.join(", ");
  $("attachments").hidden = $("attachments-label").hidden = attached.length === 0;
  $("source").href = `/letters/${id}.eml`;
  $("text").textContent = letter.text ?? "This letter has no text part.";
  $("headers").tBodies[0].replaceChildren(...letter.headers.map(([name, value]) => {
    const row = document.createElement("tr");
    row.append(part("th", "", name), part("td", "", value));
    return row;
  }));
  $("frame").src = letter.html === null ? "about:blank" : `/letters/${id}.html`;
  $("tab-html").disabled = letter.html === null;
  $("letter").hidden = false;
  $("choose").hidden = true;
  show(letter.html === null && wanted === "html" ? "text" : wanted);
}

function pick(name) {
  wanted = name;
  show(name);
}

function show(name) {
  tabs.forEach((tab) => {
    const shown = tab.dataset.view === name;
    tab.setAttribute("aria-selected", String(shown));
    tab.tabIndex = shown ? 0 : -1;
    if (shown) { $("view").setAttribute("aria-labelledby", tab.id); }
  });
  $("frame").hidden = name !== "html";
  $("text").hidden = name !== "text";
  $("headers").hidden = name !== "headers";
  $("narrow").hidden = name !== "html";
}

function showUnfriendly(switches) {
  const said = [];
  if (!switches.listening) { said.push("not listening"); }
  const slowed = switches.byte_by_byte ? "a byte" : "an answer";
  if (switches.delay_seconds > 0) { said.push(`slow: ${switches.delay_seconds} s ${slowed}`); }
  if (switches.starttls !== "offered") { said.push(`STARTTLS ${switches.starttls}`); }
  switches.faults.forEach((f) => said.push(`${f.at}: ${f.what}${f.recipient ? ` for ${f.recipient}` : ""}${f.times ? ` ×${f.times}` : ""}`));
  tell("unfriendly", said.join(" · "));
  $("unfriendly").hidden = said.length === 0;
}

tabs.forEach((tab) => tab.addEventListener("click", () => pick(tab.dataset.view)));
// One stop of the Tab key; arrows go from view to view (https://www.w3.org/WAI/ARIA/apg/patterns/tabs/).
document.querySelector('[role="tablist"]').addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) { return; }
  const open = tabs.filter((tab) => !tab.disabled);
  const next = open.at((open.indexOf(document.activeElement) + step) % open.length);
  next.focus();
  pick(next.dataset.view);
});
$("narrow").addEventListener("click", () => {
  const on = $("view").classList.toggle("narrow");
  $("narrow").setAttribute("aria-pressed", String(on));
});
$("clear").addEventListener("click", async () => {
  await fetch("/api/letters", { method: "DELETE" });
  forgetAll();
});
refresh();
