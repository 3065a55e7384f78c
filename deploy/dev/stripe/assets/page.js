// Comfort only: the page pays, fills and complains without this file.
"use strict";

const form = document.getElementById("pay");
const brands = JSON.parse((form && form.dataset.brands) || "[]");

function brandOf(digits) {
  return brands.find((brand) => new RegExp("^(?:" + brand.starts + ")").test(digits));
}

function formatNumber(digits) {
  const brand = brandOf(digits);
  const groups = brand ? brand.groups : [4, 4, 4, 4];
  const length = groups.reduce((sum, size) => sum + size, 0);
  const parts = [];
  let rest = digits.slice(0, brand ? length : 19);
  for (const size of [...groups, 3]) { // longer ones exist, of networks that are not known here
    if (rest) parts.push(rest.slice(0, size));
    rest = rest.slice(size);
  }
  return parts.join(" ");
}

function formatExpiry(digits, typing, typed) {
  if (/^[2-9]/.test(digits) || /^1[3-9]/.test(digits) || /^\s*1\s*\//.test(typed)) digits = "0" + digits;
  const month = digits.slice(0, 2);
  // A year that is pasted whole loses its century.
  const year = digits.slice(2).replace(/^20(?=\d\d)/, "").slice(0, 2);
  return year || (month.length === 2 && typing) ? month + " / " + year : month;
}

function formatCvc(digits) {
  const brand = brandOf(document.getElementById("number").value.replace(/\D/g, ""));
  return digits.slice(0, brand ? brand.cvc_digits : 4);
}

function showBrand() {
  const brand = brandOf(document.getElementById("number").value.replace(/\D/g, ""));
  document.querySelectorAll("[data-brand]").forEach((badge) => {
    badge.hidden = brand ? badge.dataset.brand !== brand.code : !("usual" in badge.dataset);
  });
  const said = document.getElementById("brand-name");
  const name = brand ? brand.name : "";
  if (said.textContent !== name) said.textContent = name;
  document.getElementById("cvc").placeholder = "1234".slice(0, brand ? brand.cvc_digits : 3);
}

// Formats while somebody types; the caret stays behind the digit that it stood behind.
function live(id, format, shown) {
  const field = document.getElementById(id);
  if (!field) return;
  let before = field.value;
  const write = (digits, caret, typing) => {
    const at = digits.length - caret;
    field.value = format(digits, typing, field.value);
    let place = field.value.length;
    for (let left = at; left > 0; place -= 1) if (/\d/.test(field.value[place - 1])) left -= 1;
    if (document.activeElement === field) field.setSelectionRange(place, place);
    before = field.value;
    if (shown) shown();
  };
  field.addEventListener("input", (event) => {
    const kind = event.inputType || "";
    let digits = field.value.replace(/\D/g, "");
    let caret = field.value.slice(0, field.selectionStart).replace(/\D/g, "").length;
    // Whoever deletes a space or a slash means the digit beside it.
    if (kind.startsWith("deleteContent") && digits === before.replace(/\D/g, "")) {
      if (kind === "deleteContentBackward") caret = Math.max(0, caret - 1);
      digits = digits.slice(0, caret) + digits.slice(caret + 1);
    }
    write(digits, caret, !kind.startsWith("delete"));
    settle(field);
  });
  field.addEventListener("blur", () => write(field.value.replace(/\D/g, ""), 0, false));
  field.addEventListener("filled", () => write(field.value.replace(/\D/g, ""), 0, false));
  if (field.value) write(field.value.replace(/\D/g, ""), 0, false);
}

// What is being corrected is no longer wrong.
function settle(field) {
  const error = document.getElementById(field.id + "-error");
  if (error) error.remove();
  field.removeAttribute("aria-invalid");
  field.removeAttribute("aria-describedby");
}

function busy(button) {
  button.querySelector(".label").textContent = button.dataset.busy;
  button.classList.add("working");
  form.setAttribute("aria-busy", "true");
  const status = document.getElementById("status");
  if (status) status.textContent = button.dataset.busy;
  // After the submission has taken the button's value with it.
  setTimeout(() => document.querySelectorAll("button").forEach((each) => { each.disabled = true; }));
}

function fill(card) {
  for (const name of ["number", "expiry", "cvc", "iban"]) {
    const field = document.getElementById(name);
    if (!field) continue;
    field.value = card.dataset[name] || "";
    settle(field);
    field.dispatchEvent(new Event("filled"));
  }
  const choice = document.getElementById(card.dataset.iban ? "by-account" : "by-card");
  if (choice) choice.checked = true;
  const email = document.getElementById("email");
  (email.value ? document.getElementById("submit") : email).focus();
}

if (form) {
  live("number", formatNumber, showBrand);
  live("expiry", formatExpiry);
  live("cvc", formatCvc);
  form.querySelectorAll("input").forEach((field) => field.addEventListener("input", () => settle(field)));
  let paying = false;
  form.addEventListener("submit", (event) => {
    if (paying) event.preventDefault();
    else if (event.submitter && event.submitter.dataset.busy) {
      paying = true;
      busy(event.submitter);
    }
  });
  document.querySelectorAll("button.card").forEach((card) => card.addEventListener("click", (event) => {
    event.preventDefault();
    fill(card);
  }));
  // A page that the browser kept while we were away would still be busy.
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}
