// The region of an image to search by: a rectangle drawn with mouse or finger, moved, and resized by
// its handles, or all of it by keyboard. It is written to the form's field `crop` as fractions:
// x,y,width,height.

const SMALLEST = 0.03;
const STEP = 0.05;
// Of a handle, to be hit by a finger.
const HANDLE_PX = 24;
// What a handle moves: the edges in its name, by points of the compass.
const HANDLES = {
  nw: "Top left corner", n: "Top edge", ne: "Top right corner", e: "Right edge",
  se: "Bottom right corner", s: "Bottom edge", sw: "Bottom left corner", w: "Left edge",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
// Settled unless a region is being drawn: a page that arrives meanwhile would take it away.
export let drawing = Promise.resolve();

const within = (value, least, most) => Math.min(most, Math.max(least, value));

function moved({ x, y, width, height }, right, down) {
  return { x: within(x + right, 0, 1 - width), y: within(y + down, 0, 1 - height), width, height };
}

// The region with some of its edges moved, no further than to the opposite ones.
function resized({ x, y, width, height }, edges, right, down) {
  let [left, top, end, bottom] = [x, y, x + width, y + height];
  if (edges.includes("w")) left = within(left + right, 0, end - SMALLEST);
  if (edges.includes("e")) end = within(end + right, left + SMALLEST, 1);
  if (edges.includes("n")) top = within(top + down, 0, bottom - SMALLEST);
  if (edges.includes("s")) bottom = within(bottom + down, top + SMALLEST, 1);
  return { x: left, y: top, width: end - left, height: bottom - top };
}

function between([ax, ay], [bx, by]) {
  return { x: Math.min(ax, bx), y: Math.min(ay, by), width: Math.abs(ax - bx), height: Math.abs(ay - by) };
}

function croppable(box) {
  const image = box.querySelector("img");
  const form = box.parentElement.querySelector("form.region") ?? document.querySelector("#search");
  if (!image || box.tabIndex === 0) return;
  const field = form.elements.crop;
  box.insertAdjacentHTML("beforeend", '<div class="region-frame"></div><output class="unseen"></output>');
  const [rectangle, said] = [...box.children].slice(-2);
  for (const [edges, name] of Object.entries(HANDLES)) {
    box.insertAdjacentHTML("beforeend", `<button type="button" class="handle ${edges}" id="crop-${edges}" aria-label="${name}"></button>`);
  }
  const handles = [...box.querySelectorAll(".handle")];
  box.tabIndex = 0;
  box.role = "group";
  box.ariaLabel =
    "Search region. Draw it, or move it with the arrow keys and resize it with Shift and the arrow " +
    "keys, or by its handles. Enter searches, Escape removes it.";
  const [x, y, width, height] = field.value.split(",").map(Number);
  let region = field.value ? { x, y, width, height } : null;

  function draw() {
    for (const part of [rectangle, ...handles]) part.hidden = !region;
    for (const hint of form.querySelectorAll(".with-region")) hint.hidden = !region;
    field.value = region ? Object.values(region).map((part) => part.toFixed(4)).join(",") : "";
    if (!region) return;
    const [wide, high] = [image.offsetWidth, image.offsetHeight];
    const [left, top] = [region.x * wide, region.y * high];
    const [right, bottom] = [left + region.width * wide, top + region.height * high];
    const at = (element, x, y) => Object.assign(element.style, { left: `${image.offsetLeft + x}px`, top: `${image.offsetTop + y}px` });
    at(rectangle, left, top);
    Object.assign(rectangle.style, { width: `${right - left}px`, height: `${bottom - top}px` });
    for (const handle of handles) {
      const edges = handle.classList[1];
      const x = edges.includes("w") ? left : edges.includes("e") ? right : (left + right) / 2;
      const y = edges.includes("n") ? top : edges.includes("s") ? bottom : (top + bottom) / 2;
      const side = "ns".includes(edges) ? right - left : bottom - top;
      // Those of edges make room for those of corners.
      handle.hidden = edges.length === 1 && side < 3 * HANDLE_PX;
      at(handle, within(x - HANDLE_PX / 2, 0, wide - HANDLE_PX), within(y - HANDLE_PX / 2, 0, high - HANDLE_PX));
    }
  }

  function tell() {
    const percent = (part) => `${Math.round(part * 100)}%`;
    said.value = region
      ? `${percent(region.x)} from the left, ${percent(region.y)} from the top, ` +
        `${percent(region.width)} wide, ${percent(region.height)} high`
      : "No region";
  }

  function search() {
    if (form.id === "search" || region) form.requestSubmit();
  }

  function place(event) {
    const { left, top, width, height } = image.getBoundingClientRect();
    return [within((event.clientX - left) / width, 0, 1), within((event.clientY - top) / height, 0, 1)];
  }

  box.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    const handle = event.target.closest(".handle");
    (handle ?? box).focus({ preventScroll: true });
    box.setPointerCapture(event.pointerId);
    const start = place(event);
    const before = region;
    const drag = handle
      ? (...way) => resized(before, handle.classList[1], ...way)
      : event.target === rectangle
        ? (...way) => moved(before, ...way)
        : (right, down) => between(start, [start[0] + right, start[1] + down]);
    let ended;
    drawing = new Promise((resolve) => (ended = resolve));
    const move = (event) => {
      const [x, y] = place(event);
      const now = drag(x - start[0], y - start[1]);
      if (now.width < SMALLEST || now.height < SMALLEST) return;
      region = now;
      draw();
    };
    const end = () => {
      box.removeEventListener("pointermove", move);
      draw();
      if (region !== before) search();
      ended();
    };
    box.addEventListener("pointermove", move);
    box.addEventListener("pointerup", end, { once: true });
    box.addEventListener("pointercancel", end, { once: true });
  });

  box.addEventListener("keydown", (event) => {
    // A face in the image is a link, and no region.
    if (event.target.closest(".faces")) return;
    const way = ARROWS[event.key]?.map((part) => part * STEP);
    if (way) {
      const edges = event.target.classList[1] ?? (event.shiftKey ? "se" : "");
      if (!region) region = { x: 0.25, y: 0.25, width: 0.5, height: 0.5 };
      else if (event.target.matches(".handle") || event.shiftKey) region = resized(region, edges, ...way);
      else region = moved(region, ...way);
    } else if (event.key === "Escape" && region) {
      region = null;
      box.focus();
    } else if (event.key !== "Enter" || !region) return;
    event.preventDefault();
    draw();
    tell();
    if (!way) search();
  });

  draw();
  image.addEventListener("load", draw);
  addEventListener("resize", draw);
}

function start() {
  for (const box of document.querySelectorAll(".croppable:not([hidden])")) croppable(box);
}

document.addEventListener("page", start);
start();
