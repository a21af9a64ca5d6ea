// Choosing several images of the list: how many are chosen, and all of them at once.

import "./lightbox.js";

const boxes = [...document.querySelectorAll("#chosen [name=ids]")];
const number = document.querySelector("#number");
const all = document.querySelector("#all");

function count() {
  const chosen = boxes.filter((box) => box.checked).length;
  number.textContent = chosen ? `${chosen} selected` : "None selected";
  all.textContent = chosen === boxes.length ? "Select none" : "Select all";
  number.closest(".bar").classList.toggle("active", chosen > 0);
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
    count();
  });
}

all?.addEventListener("click", () => {
  const on = !boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = on;
  count();
});

if (number) count();
