// Search without leaving the page. Every search has a URL; the server's page at that URL is fetched
// and replaces what is shown.

import { drawing } from "./crop.js";

const WAIT_WHILE_TYPING_MS = 300;
// What changes the results at once.
const SUBMITTING = ["diversity", "match", "thorough", "sort"];
let running = null;
let typing = null;

const form = () => document.querySelector("#search");
const answer = () => document.querySelector("#answer");

// `push` adds an entry to the history; `only` replaces the results but not the form, while typing.
async function visit(url, { body, push = true, only = false } = {}) {
  clearTimeout(typing);
  running?.abort();
  const { signal } = (running = new AbortController());
  answer().setAttribute("aria-busy", "true");
  try {
    const response = await fetch(url, {
      method: body ? "POST" : "GET",
      body,
      headers: { Accept: "text/html" },
      signal,
    });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    await drawing;
    signal.throwIfAborted();
    const final = new URL(response.url);
    if (push) history.pushState(null, "", final.pathname + final.search);
    else history.replaceState(null, "", final.pathname + final.search);
    show(page, only);
  } catch (error) {
    if (error.name !== "AbortError") fail("The server is not responding. Is it still running?");
  }
}

function show(page, only) {
  document.title = page.title;
  if (only && page.querySelector("#answer")) {
    const slider = (of) => of.querySelector("#min_similarity")?.closest(".field");
    slider(document).hidden = slider(page).hidden;
    answer().replaceWith(document.adoptNode(page.querySelector("#answer")));
  } else {
    const place = focused();
    document.querySelector("main").replaceChildren(...page.querySelector("main").childNodes);
    if (place) document.querySelector(place)?.focus();
    ready();
  }
  apply();
}

// The URL of the search that the form describes, without a chosen file.
function searchUrl(more = {}) {
  const fields = new FormData(form());
  fields.delete("file");
  const given = [...fields, ...Object.entries(more)].filter(([, value]) => value);
  return `/?${new URLSearchParams(given)}`;
}

// A selector of the focused element, to restore the focus when the page is replaced.
function focused() {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  if (element.id) return `#${CSS.escape(element.id)}`;
  if (!element.name) return null;
  return `[name="${CSS.escape(element.name)}"][value="${CSS.escape(element.value)}"]`;
}

function ready() {
  for (const hint of document.querySelectorAll(".with-script")) hint.hidden = false;
  document.dispatchEvent(new Event("page"));
}

function fail(message) {
  const box = document.createElement("div");
  box.className = "problem";
  box.role = "alert";
  box.textContent = message;
  answer().replaceChildren(box);
  answer().removeAttribute("aria-busy");
}

// Move every result to its side of the threshold; both lists keep their order.
function apply() {
  const slider = document.querySelector("#min_similarity");
  if (!slider || slider.closest(".field").hidden) return;
  const lowest = Number(slider.value);
  document.querySelector("#lowest").textContent = lowest.toFixed(2);
  const [hits, below] = ["#hits", "#below"].map((id) => document.querySelector(id));
  if (!hits || !document.querySelector("#count")) return;
  const results = [...hits.children, ...below.children];
  const passes = (li) => "proved" in li.dataset || Number(li.dataset.similarity) >= lowest;
  hits.replaceChildren(...results.filter((li) => passes(li)));
  below.replaceChildren(...results.filter((li) => !passes(li)));
  const more = document.querySelector("#more");
  document.querySelector("#count").textContent = `${hits.children.length}${more ? "+" : ""}`;
  document.querySelector("#noun").textContent = hits.children.length === 1 ? "image" : "images";
  document.querySelector("#nothing").hidden = hits.children.length > 0;
  document.querySelector("#closest").hidden = below.children.length === 0;
}

function searchFile(files) {
  const chosen = new DataTransfer();
  chosen.items.add(files[0]);
  form().elements.file.files = chosen.files;
  submitFile();
}

function submitFile() {
  const { file } = form().elements;
  if (!file.files.length) return;
  const image = new Image();
  image.alt = "Query image";
  image.src = URL.createObjectURL(file.files[0]);
  image.onload = () => URL.revokeObjectURL(image.src);
  // If the browser cannot show the format, the preview comes with the response.
  image.onerror = () => image.remove();
  const preview = document.querySelector("#preview");
  preview.hidden = false;
  preview.replaceChildren(image);
  visit("/", { body: new FormData(form()) });
}

function searchByUrl(url) {
  form().elements.url.value = url;
  form().requestSubmit();
}

async function showMore(link) {
  link.textContent = "…";
  const response = await fetch(link.href, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const found = page.querySelector("#hits");
  if (!response.ok || !found) return location.assign(link.href);
  const first = found.firstElementChild;
  const list = document.querySelector("#hits");
  list.append(...found.children);
  // Ranks continue from the previous page.
  [...list.querySelectorAll(".strength")].forEach((strength, place, all) => {
    strength.querySelector("span").textContent = place + 1;
    const meter = strength.querySelector("meter");
    Object.assign(meter, { max: all.length, value: all.length - place });
    meter.ariaLabel = `Rank ${place + 1} of ${all.length}`;
  });
  const following = page.querySelector("#more");
  if (following) link.replaceWith(document.adoptNode(following));
  else link.parentElement.remove();
  first?.querySelector("a")?.focus({ preventScroll: true });
  apply();
}

document.addEventListener("submit", (event) => {
  if (event.target !== form()) return;
  event.preventDefault();
  const fields = form().elements;
  const asked = ["text", "url", "upload"].some((name) => fields[name].value);
  const marked = event.submitter?.name || form().querySelector("[name=like], [name=unlike]");
  if (!asked && !marked && !fields.file.files.length && !form().querySelector(":checked")) {
    return fields.file.click();
  }
  visit("/", { body: new FormData(form(), event.submitter) });
});

document.addEventListener("input", (event) => {
  if (event.target.id === "min_similarity") return apply();
  if (event.target.id === "url") {
    // The URL replaces the previous query image.
    for (const name of ["upload", "crop"]) form().elements[name].value = "";
  }
  if (event.target.id !== "text") return;
  clearTimeout(typing);
  typing = setTimeout(() => visit(searchUrl(), { push: false, only: true }), WAIT_WHILE_TYPING_MS);
});

document.addEventListener("change", (event) => {
  if (event.target.id === "file") submitFile();
  else if (event.target.closest("#filters") || SUBMITTING.includes(event.target.name)) {
    form().requestSubmit();
  } else if (event.target.id === "min_similarity") {
    const url = new URL(location);
    url.searchParams.set("min_similarity", event.target.value);
    if (location.search) history.replaceState(null, "", url);
  }
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.id === "more") {
    event.preventDefault();
    showMore(link);
  } else if (link.closest("#search") && new URL(link.href).pathname === "/") {
    event.preventDefault();
    visit(link.href);
  }
});

// The filters are loaded when the panel is opened for the first time.
document.addEventListener(
  "toggle",
  (event) => {
    const link = document.querySelector("#open-filters");
    if (event.target.id === "filters" && event.target.open && link) {
      visit(searchUrl({ panel: "filters" }), { push: false });
    }
  },
  true,
);

addEventListener("popstate", () => visit(location.href, { push: false }));

document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    return searchFile(event.clipboardData.files);
  }
  const text = event.clipboardData.getData("text").trim();
  if (!event.target.matches?.("input, textarea") && /^https?:\/\/\S+$/.test(text)) searchByUrl(text);
});

let inside = 0;
document.addEventListener("dragenter", () => document.body.classList.toggle("dropping", ++inside > 0));
document.addEventListener("dragleave", () => document.body.classList.toggle("dropping", --inside > 0));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files.length) return searchFile(event.dataTransfer.files);
  const url = event.dataTransfer.getData("text/uri-list").split("\n")[0];
  if (url) searchByUrl(url);
});

ready();
apply();
