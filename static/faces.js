// Boxes over faces: the switch stays as it is from image to image, and a click on a box is no region.

const KEY = "show-faces";
const isOn = () => sessionStorage.getItem(KEY) === "true";

function restore() {
  for (const box of document.querySelectorAll(".show-faces")) box.checked = isOn();
}

document.addEventListener("change", (event) => {
  if (event.target.matches(".show-faces")) sessionStorage.setItem(KEY, event.target.checked);
});
// Before the image takes it for the beginning of a region.
document.addEventListener(
  "pointerdown",
  (event) => {
    if (event.target.closest?.(".faces a[href]")) event.stopPropagation();
  },
  { capture: true },
);

const lightbox = document.querySelector("#lightbox");
if (lightbox) new MutationObserver(restore).observe(lightbox, { childList: true });
restore();
