// Two images laid over each other: a slider between them, both in turns, or their difference. The
// page has them side by side without this.

const BLINK_MS = 700;
// Of a drawing, in pixels, where there is room for it.
const LONGER_SIDE = 1200;

const byId = (id) => document.getElementById(id);

function views(panel) {
  const laid = byId("laid");
  const svg = laid.querySelector("svg");
  const over = svg.querySelector(".over");
  const pair = svg.querySelector(".pair");
  const cut = svg.querySelector("#cut rect");
  const divider = svg.querySelector(".divider");
  const slider = byId("slider");
  const pause = byId("pause");
  const whole = svg.viewBox.baseVal;
  const frame = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
  let blinking = 0;
  let view = "side";

  function slide() {
    const width = (frame.width * slider.value) / 100;
    cut.setAttribute("width", width);
    divider.setAttribute("x1", frame.x + width);
    divider.setAttribute("x2", frame.x + width);
  }

  function show(first) {
    over.setAttribute("visibility", first ? "visible" : "hidden");
    byId("which").value = first ? "First" : "Second";
  }

  function swap() {
    show(over.getAttribute("visibility") === "hidden");
  }

  function blink(on) {
    clearInterval(blinking);
    blinking = on ? setInterval(swap, BLINK_MS) : 0;
    pause.textContent = on ? "Pause" : "Play";
  }

  // The difference is seen only where both have pixels, so that region fills the view.
  function zoom(shared) {
    const box = shared ?? frame;
    const ratio = LONGER_SIDE / Math.max(box.width, box.height);
    svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
    svg.setAttribute("width", box.width * ratio);
    svg.setAttribute("height", box.height * ratio);
  }

  function choose(chosen) {
    view = chosen;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    byId("sides").hidden = view !== "side";
    laid.hidden = view === "side";
    laid.dataset.view = view;
    blink(false);
    show(true);
    over.removeAttribute("clip-path");
    pair.removeAttribute("clip-path");
    zoom(view === "difference" ? svg.querySelector(".shared").getBBox() : null);
    if (view === "slider") over.setAttribute("clip-path", "url(#cut)");
    if (view === "difference") pair.setAttribute("clip-path", "url(#both)");
    if (view === "blink") blink(!still);
    slide();
  }

  function drag(event) {
    if (view !== "slider") return;
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    slider.value = ((point.x - frame.x) / frame.width) * 100;
    slide();
  }

  slider.addEventListener("input", slide);
  pause.addEventListener("click", () => blink(!blinking));
  byId("swap").addEventListener("click", () => {
    blink(false);
    swap();
  });
  svg.addEventListener("pointerdown", (event) => {
    if (event.button || view !== "slider") return;
    svg.setPointerCapture(event.pointerId);
    drag(event);
  });
  svg.addEventListener("pointermove", (event) => {
    if (svg.hasPointerCapture(event.pointerId)) drag(event);
  });
  panel.addEventListener("change", (event) => {
    choose(event.target.value);
    const url = new URL(location.href);
    url.searchParams.set("view", view);
    history.replaceState(null, "", url);
  });

  panel.hidden = false;
  const asked = new URL(location.href).searchParams.get("view");
  const radio = [...panel.querySelectorAll("input")].find((input) => input.value === asked);
  if (radio) radio.checked = true;
  choose(radio ? asked : "side");
}

// Thumbnails give way to the originals once these are here.
function refine() {
  for (const image of document.querySelectorAll("image[data-finer]")) {
    const finer = new Image();
    finer.addEventListener("load", () => image.setAttribute("href", finer.src));
    finer.src = image.dataset.finer;
  }
}

const panel = byId("views");
if (panel) views(panel);
refine();
