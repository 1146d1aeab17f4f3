// A key presses the button that bears it. Once an answer is on its way, nothing else is sent.
"use strict";
let sent = false;
document.addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
});
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const button = [...document.querySelectorAll("button[data-key]")].find((one) => one.dataset.key === event.key.toLowerCase());
  if (button && !button.disabled) {
    event.preventDefault();
    button.click();
  }
});
window.addEventListener("pageshow", () => { sent = false; });
