// The region of an image to search by: a rectangle drawn with mouse or finger, or set with the
// keyboard. It is written to the form's field `crop` as fractions: x,y,width,height.

const SMALLEST = 0.03;
const STEP = 0.05;
// Settled unless a region is being drawn: a page that arrives meanwhile would take it away.
export let drawing = Promise.resolve();

function croppable(box) {
  const image = box.querySelector("img");
  const form = box.parentElement.querySelector("form.region") ?? document.querySelector("#search");
  if (!image || box.tabIndex === 0) return;
  const field = form.elements.crop;
  const rectangle = document.createElement("div");
  rectangle.className = "region-frame";
  box.append(rectangle);
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute(
    "aria-label",
    "Search region. Draw it, or move it with the arrow keys and resize it with Shift and the arrow " +
      "keys. Enter searches, Escape removes it.",
  );
  let region = read(field.value);

  function read(text) {
    const [x, y, width, height] = text.split(",").map(Number);
    return text ? { x, y, width, height } : null;
  }

  function draw() {
    rectangle.hidden = !region;
    for (const hint of form.querySelectorAll(".with-region")) hint.hidden = !region;
    field.value = region ? Object.values(region).map((part) => part.toFixed(4)).join(",") : "";
    if (!region) return;
    const { x, y, width, height } = region;
    Object.assign(rectangle.style, {
      left: `${image.offsetLeft + x * image.offsetWidth}px`,
      top: `${image.offsetTop + y * image.offsetHeight}px`,
      width: `${width * image.offsetWidth}px`,
      height: `${height * image.offsetHeight}px`,
    });
  }

  function within(region) {
    const width = Math.min(1, Math.max(SMALLEST, region.width));
    const height = Math.min(1, Math.max(SMALLEST, region.height));
    return {
      x: Math.min(1 - width, Math.max(0, region.x)),
      y: Math.min(1 - height, Math.max(0, region.y)),
      width,
      height,
    };
  }

  function search() {
    if (form.id === "search" || region) form.requestSubmit();
  }

  function place(event) {
    const { left, top, width, height } = image.getBoundingClientRect();
    const fraction = (value) => Math.min(1, Math.max(0, value));
    return [fraction((event.clientX - left) / width), fraction((event.clientY - top) / height)];
  }

  box.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    box.focus({ preventScroll: true });
    box.setPointerCapture(event.pointerId);
    const [startX, startY] = place(event);
    const before = region;
    let drawn = false;
    let ended;
    drawing = new Promise((resolve) => (ended = resolve));
    const move = (event) => {
      const [x, y] = place(event);
      const width = Math.abs(x - startX);
      const height = Math.abs(y - startY);
      if (width < SMALLEST || height < SMALLEST) return;
      drawn = true;
      region = { x: Math.min(x, startX), y: Math.min(y, startY), width, height };
      draw();
    };
    const end = () => {
      box.removeEventListener("pointermove", move);
      if (!drawn) region = before;
      draw();
      if (drawn) search();
      ended();
    };
    box.addEventListener("pointermove", move);
    box.addEventListener("pointerup", end, { once: true });
    box.addEventListener("pointercancel", end, { once: true });
  });

  box.addEventListener("keydown", (event) => {
    const direction = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    }[event.key];
    if (direction) {
      event.preventDefault();
      const [x, y] = direction.map((part) => part * STEP);
      const now = region ?? { x: 0.25, y: 0.25, width: 0.5, height: 0.5 };
      region = within(
        event.shiftKey
          ? { ...now, width: now.width + x, height: now.height + y }
          : region
            ? { ...now, x: now.x + x, y: now.y + y }
            : now,
      );
      draw();
    } else if (event.key === "Enter" && region) {
      event.preventDefault();
      search();
    } else if (event.key === "Escape" && region) {
      region = null;
      draw();
      search();
    }
  });

  if (image.complete) draw();
  image.addEventListener("load", draw);
  addEventListener("resize", draw);
}

function start() {
  for (const box of document.querySelectorAll(".croppable:not([hidden])")) croppable(box);
}

document.addEventListener("page", start);
start();
