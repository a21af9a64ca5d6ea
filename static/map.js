// An area on the map of the filters: two clicks, or a drag, write it to the field `box`.

const SMALLEST = 1;
let first = null;

function place(map, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
  return { x: Math.min(180, Math.max(-180, point.x)), y: Math.min(90, Math.max(-90, point.y)) };
}

function draw(map, a, b) {
  const area = map.querySelector(".chosen-area");
  const values = { x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), width: Math.abs(a.x - b.x), height: Math.abs(a.y - b.y) };
  for (const [name, value] of Object.entries(values)) area.setAttribute(name, value);
}

function choose(a, b) {
  const [west, east] = [a.x, b.x].sort((m, n) => m - n);
  const [south, north] = [-a.y, -b.y].sort((m, n) => m - n);
  const field = document.querySelector("#filters [name=box]");
  field.value = [west, south, east, north].map((degrees) => degrees.toFixed(1)).join(",");
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

const far = (a, b) => Math.abs(a.x - b.x) >= SMALLEST && Math.abs(a.y - b.y) >= SMALLEST;

document.addEventListener("pointerdown", (event) => {
  const map = event.target.closest("#map");
  if (!map || event.button) return;
  event.preventDefault();
  const at = place(map, event);
  if (first && far(first, at)) {
    choose(first, at);
    first = null;
  } else {
    first = at;
    draw(map, at, { x: at.x + 2, y: at.y + 2 });
  }
});

document.addEventListener("pointermove", (event) => {
  const map = event.target.closest("#map");
  if (map && first) draw(map, first, place(map, event));
});

document.addEventListener("pointerup", (event) => {
  const map = event.target.closest("#map");
  if (!map || !first) return;
  const at = place(map, event);
  if (far(first, at)) {
    choose(first, at);
    first = null;
  }
});

// What is chosen already.
export function showArea() {
  const map = document.querySelector("#map");
  const box = document.querySelector("#filters [name=box]")?.value.split(",").map(Number);
  first = null;
  if (map && box?.length === 4) draw(map, { x: box[0], y: -box[1] }, { x: box[2], y: -box[3] });
}

document.addEventListener("page", showArea);
showArea();
