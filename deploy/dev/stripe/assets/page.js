// Comfort only: the page pays, fills and complains without this file.
"use strict";

const form = document.getElementById("pay");

function formatNumber(field) {
  const digits = field.value.replace(/\D/g, "").slice(0, 19);
  field.value = digits.replace(/(.{4})(?=.)/g, "$1 ");
  document.getElementById("brand").hidden = !digits.startsWith("4");
}

function formatExpiry(field, typing) {
  let digits = field.value.replace(/\D/g, "").slice(0, 4);
  if (/^[2-9]/.test(digits)) digits = "0" + digits;
  const full = digits.length > 2 || (digits.length === 2 && typing);
  field.value = full ? digits.slice(0, 2) + " / " + digits.slice(2) : digits;
}

// Formats without moving a caret that stands in the middle: there the person corrects, and the script keeps out.
function live(id, format) {
  const field = document.getElementById(id);
  if (!field) return;
  field.addEventListener("input", (event) => {
    const typing = !(event.inputType || "").startsWith("delete");
    if (field.selectionStart === field.value.length) format(field, typing);
  });
  field.addEventListener("blur", () => format(field, false));
  if (field.value) format(field, false);
}

function busy(button) {
  button.querySelector(".label").textContent = button.dataset.busy;
  button.classList.add("working");
  form.setAttribute("aria-busy", "true");
  // After the submission has taken the button's value with it.
  setTimeout(() => document.querySelectorAll("button").forEach((each) => { each.disabled = true; }));
}

if (form) {
  live("number", formatNumber);
  live("expiry", formatExpiry);
  form.addEventListener("submit", (event) => {
    if (event.submitter && event.submitter.dataset.busy) busy(event.submitter);
  });
  document.querySelectorAll("button.card").forEach((card) => card.addEventListener("click", (event) => {
    event.preventDefault();
    for (const name of ["number", "expiry", "cvc", "iban"]) {
      const field = document.getElementById(name);
      if (!field) continue;
      field.value = card.dataset[name] || "";
      field.removeAttribute("aria-invalid");
      const error = document.getElementById(name + "-error");
      if (error) error.remove();
    }
    const number = document.getElementById("number");
    if (number) formatNumber(number);
    const email = document.getElementById("email");
    (email.value ? document.getElementById("submit") : email).focus();
  }));
  // A page that the browser kept while we were away would still be busy.
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}
