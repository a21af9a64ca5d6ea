// Images of a list, large above it. The URL of the list with `show=ID` is the address of one; the
// server's page at that URL has it open.

const SWIPE_PX = 50;

const dialog = document.querySelector("#lightbox");
const listed = () => [...document.querySelectorAll("main .images a.thumbnail[href^='/images/']")];
const idOf = (link) => new URL(link.href).pathname.split("/")[2];
const shownId = () => new URL(location.href).searchParams.get("show");
let fetching = null;
// Whether going back leads to the list.
let entered = false;

// The URL of the list, with or without one of its images open.
function address(id) {
  const url = new URL(location.href);
  if (id) url.searchParams.set("show", id);
  else url.searchParams.delete("show");
  return url;
}

// A page's URL without what is open above it: it is the same list.
export const listUrl = () => address(null).href;

async function show(id) {
  fetching?.abort();
  const { signal } = (fetching = new AbortController());
  const links = listed();
  const place = links.findIndex((link) => idOf(link) === id);
  if (!dialog.open) dialog.showModal();
  const image = links[place]?.querySelector("img");
  if (image) preview(image);
  try {
    const response = await fetch(`/images/${id}?part=lightbox`, { signal });
    if (!response.ok) throw new Error(response.statusText);
    const html = await response.text();
    signal.throwIfAborted();
    dialog.innerHTML = html;
    fill(links, place);
    dialog.querySelector("[data-turn=close]").focus({ preventScroll: true });
  } catch (error) {
    if (error.name !== "AbortError") location.assign(`/images/${id}`);
  }
}

// What is here already, until the rest arrives: the thumbnail.
function preview(image) {
  let stage = dialog.querySelector(".stage");
  if (!stage) {
    dialog.innerHTML = '<div class="stage"><img alt=""></div><div class="panel"></div>';
    stage = dialog.firstElementChild;
  }
  const large = stage.querySelector("img");
  for (const name of ["src", "alt", "width", "height"]) large.setAttribute(name, image.getAttribute(name));
  stage.querySelector(".outline")?.remove();
}

// Add what only the list knows: what is before and after, and how the image matched.
function fill(links, place) {
  const sides = { before: links[place - 1], after: links[place + 1] };
  for (const [side, link] of Object.entries(sides)) {
    const turn = dialog.querySelector(`[data-turn=${side}]`);
    turn.hidden = place < 0 || !link;
    if (!turn.hidden) turn.href = address(idOf(link));
  }
  const item = links[place]?.closest("li");
  if (!item) return;
  const outline = item.querySelector(".outline");
  if (outline) dialog.querySelector(".stage img").after(outline.cloneNode(true));
  const facts = item.querySelectorAll(".similarity, .badge, .differences, a[href^='/compare']");
  dialog.querySelector(".facts").replaceChildren(...[...facts].map((fact) => fact.cloneNode(true)));
}

function open(id) {
  const first = !dialog.open;
  if (first) history.pushState(null, "", address(id));
  else history.replaceState(null, "", address(id));
  entered ||= first;
  show(id);
}

function close() {
  if (entered) history.back();
  else {
    history.replaceState(null, "", address(null));
    sync();
  }
}

// Open or close what the URL says.
export function sync() {
  const id = shownId();
  if (id) return show(id);
  entered = false;
  fetching?.abort();
  if (!dialog?.open) return;
  const last = dialog.querySelector(".panel a[href^='/images/']")?.href;
  dialog.close();
  dialog.replaceChildren();
  listed().find((link) => link.href === last)?.focus();
}

function turn(side) {
  const link = dialog.querySelector(`[data-turn=${side}]:not([hidden])`);
  if (link) open(new URL(link.href).searchParams.get("show"));
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (listed().includes(link) || link.closest("#lightbox .strip")) {
    event.preventDefault();
    open(idOf(link));
  } else if (link.dataset.turn) {
    event.preventDefault();
    if (link.dataset.turn === "close") close();
    else turn(link.dataset.turn);
  }
});

dialog.addEventListener("cancel", (event) => {
  event.preventDefault();
  close();
});
// Beside the image, as beside any dialog.
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.matches(".stage")) close();
});
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") turn("before");
  else if (event.key === "ArrowRight") turn("after");
});

let from = null;
dialog.addEventListener("touchstart", ({ touches: [touch, second] }) => (from = second ? null : touch));
dialog.addEventListener("touchend", ({ changedTouches: [touch] }) => {
  if (!from) return;
  const [right, down] = [touch.clientX - from.clientX, touch.clientY - from.clientY];
  from = null;
  if (Math.abs(right) > SWIPE_PX && Math.abs(right) > 2 * Math.abs(down)) turn(right > 0 ? "before" : "after");
});

addEventListener("popstate", sync);
if (dialog.open) {
  // From the server, as it is without this script.
  dialog.close();
  dialog.showModal();
}
