// Choosing several images of the list: how many are chosen, all of them at once, and all that match.

import { followJobs } from "./jobs.js";
import "./lightbox.js";

const boxes = [...document.querySelectorAll("#chosen [name=ids]")];
const number = document.querySelector("#number");
const all = document.querySelector("#all");
const matching = document.querySelector("#chosen [name=matching]");

function count() {
  const chosen = boxes.filter((box) => box.checked).length;
  const everything = matching?.checked;
  number.textContent = everything ? "All selected" : chosen ? `${chosen} selected` : "None selected";
  all.textContent = chosen === boxes.length ? "Select none" : "Select all";
  number.closest(".bar").classList.toggle("active", chosen > 0 || Boolean(everything));
}

let last = null;
for (const box of boxes) {
  box.addEventListener("click", (event) => {
    // With Shift, all from the last one to this.
    if (event.shiftKey && last) {
      const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
      for (const between of boxes.slice(from, to + 1)) between.checked = box.checked;
    }
    last = box;
    // Who leaves one out does not mean all that match any more.
    if (matching && !box.checked) matching.checked = false;
    count();
  });
}

all?.addEventListener("click", () => {
  const on = !boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = on;
  if (matching && !on) matching.checked = false;
  count();
});

matching?.addEventListener("change", () => {
  for (const box of boxes) box.checked = matching.checked;
  count();
});

if (number) count();
// Once a job has changed or moved images, the page shows others; not while someone is choosing some.
followJobs((ended) => {
  if (ended && !boxes.some((box) => box.checked)) location.reload();
});
