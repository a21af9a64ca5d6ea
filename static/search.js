// Search without leaving the page. Every search has a URL; the server's page at that URL is fetched
// and replaces what is shown.

import { drawing } from "./crop.js";
import { listUrl } from "./lightbox.js";

const WAIT_WHILE_TYPING_MS = 300;
// What changes the results at once.
const SUBMITTING = ["diversity", "match", "thorough", "sort", "density", "weight", "weights"];
let running = null;
let typing = null;
let finding = null;
// The URL of the search whose page this is.
let shown = listUrl();

const form = () => document.querySelector("#search");
const words = () => document.querySelector("#text");
const answer = () => document.querySelector("#answer");

// `push` adds an entry to the history; `only` replaces the results but not the form, while typing.
async function visit(url, { body, push = true, only = false } = {}) {
  clearTimeout(typing);
  running?.abort();
  const { signal } = (running = new AbortController());
  const sent = words()?.value;
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
    shown = listUrl();
    show(page, sent, only);
  } catch (error) {
    if (error.name !== "AbortError") fail("The server is not responding. Is it still running?");
  }
}

function show(page, sent, only) {
  document.title = page.title;
  if (only && page.querySelector("#answer")) {
    const slider = (of) => of.querySelector("#min_similarity")?.closest(".field");
    slider(document).hidden = slider(page).hidden;
    answer().replaceWith(document.adoptNode(page.querySelector("#answer")));
  } else {
    const place = focused();
    const typed = words()?.value;
    const open = [...document.querySelectorAll("#options[open]")].map((details) => details.id);
    const cropping = document.querySelector("#query.open");
    // The filters scroll by themselves on a phone, and with the query image elsewhere.
    const scrolled = ["filters", "side"].map((id) => [id, document.getElementById(id)?.scrollTop ?? 0]);
    document.querySelector("main").replaceChildren(...page.querySelector("main").childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (cropping) crop(true);
    for (const [id, top] of scrolled) document.getElementById(id)?.scrollTo(0, top);
    if (typed !== sent) retype(sent, typed);
    ready();
    if (place) document.querySelector(place)?.focus();
  }
  apply();
  intoView();
}

// What was typed since stays, but for words that are chips by now.
function retype(sent, typed) {
  const text = words();
  if (text) text.value = text.value === sent ? typed : typed.replace(sent, "").trim();
}

// After a search, its results are in view, without a jump if they are already.
function intoView() {
  const { top } = answer().getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) document.querySelector("main").scrollIntoView();
}

// Show or hide the query image to draw a region on, where there is no room for it beside the results.
function crop(open) {
  document.querySelector("#query")?.classList.toggle("open", open);
  document.querySelector("#given .crop")?.setAttribute("aria-expanded", open);
  dispatchEvent(new Event("resize"));
}

// What is typed to find a value of a filter is a value itself only if Enter is pressed there.
function leaveSought() {
  for (const field of document.querySelectorAll("#filters .seek")) {
    if (field !== document.activeElement) field.value = "";
  }
}

// The URL of the search that the form describes, without a chosen file.
function searchUrl(more = {}) {
  leaveSought();
  const fields = new FormData(form());
  const [parts, text] = [fields.get("parts"), fields.get("text").trim()];
  const sign = /^[+-] /.test(text) ? " " : " + ";
  fields.set("text", parts && text ? parts + sign + text : parts || text);
  for (const name of ["file", "parts", "weight"]) fields.delete(name);
  // A face is searched by alone.
  if (fields.get("text") || fields.get("crop")) fields.delete("face");
  for (const [name, value] of Object.entries(more)) fields.set(name, value);
  const given = [...fields].filter(([name, value]) => value && !(name === "weights" && value.endsWith("=1")));
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
  // Once in the page, however large: the preview of an image from elsewhere is a `data:` URL.
  const [chip, preview] = document.querySelectorAll("#given img, #preview img");
  if (preview && !chip.hasAttribute("src")) chip.src = preview.src;
  if (document.querySelector("#map")) import("./map.js");
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
  const results = [...hits.children, ...below.children].filter((li) => !li.matches(".between"));
  const passes = (li) => "proved" in li.dataset || Number(li.dataset.similarity) >= lowest;
  hits.replaceChildren(...results.filter((li) => passes(li)));
  below.replaceChildren(...results.filter((li) => !passes(li)));
  const more = document.querySelector("#more");
  document.querySelector("#count").textContent = `${hits.children.length}${more ? "+" : ""}`;
  document.querySelector("#noun").textContent = hits.children.length === 1 ? "image" : "images";
  document.querySelector("#nothing").hidden = hits.children.length > 0;
  const closest = document.querySelector("#closest");
  closest.hidden = below.children.length === 0;
  closest.querySelector("h2").textContent = hits.children.length ? "Less similar images" : "The closest images";
}

// Show only the values of a filter that contain what is typed.
function narrow(field) {
  const typed = field.value.trim().toLowerCase();
  for (const value of field.closest("fieldset").querySelectorAll(".check")) {
    value.hidden = !value.textContent.toLowerCase().includes(typed);
  }
}

// Look at once among the values that are listed, and a little later among all.
function seek(field) {
  narrow(field);
  clearTimeout(finding);
  if (field.value.trim() && field.closest("[data-values]")) {
    finding = setTimeout(() => find(field), WAIT_WHILE_TYPING_MS);
  }
}

// Add the values that the server finds to those that are listed.
async function find(field) {
  const fieldset = field.closest("fieldset");
  const typed = field.value;
  const response = await fetch(`${fieldset.dataset.values}&q=${encodeURIComponent(typed.trim())}`).catch(() => null);
  if (!response?.ok || field.value !== typed) return;
  const [name, prefix = ""] = field.name.split(/:(.*)/s);
  const listed = new Set([...fieldset.querySelectorAll(".check input")].map((box) => box.value));
  for (const { value, count } of (await response.json()).values) {
    if (listed.has(prefix + value)) continue;
    const label = document.createElement("label");
    label.className = "check";
    label.innerHTML = `<input form="search" type="checkbox"> <span></span> <span class="quiet"></span>`;
    const [box, words, number] = label.children;
    [box.name, box.value, words.textContent, number.textContent] = [name, prefix + value, value, count];
    fieldset.append(label);
  }
  narrow(field);
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
  const chip = document.createElement("li");
  chip.className = "chip";
  chip.id = "given";
  chip.append(image);
  let chips = form().querySelector(".chips");
  if (!chips) {
    chips = document.createElement("ul");
    chips.className = "chips";
    form().querySelector(".box").prepend(chips);
  }
  document.querySelector("#given")?.remove();
  chips.prepend(chip);
  visit("/", { body: new FormData(form()) });
}

function searchByUrl(url) {
  form().elements.text.value = url;
  form().requestSubmit();
}

// A chip's term with its weight, as it is typed.
function written(chip) {
  const weight = Number(chip.querySelector("select").value);
  const size = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)}:`;
  return `${weight < 0 ? "-" : "+"} ${size}${chip.dataset.term}`;
}

// Take a chip out of the search; the others stay, with the weights that they show.
function takeOut(chip) {
  chip.remove();
  const chips = [...form().querySelectorAll("[data-term]")];
  form().elements.parts.value = chips.map(written).join(" ").replace(/^\+ /, "");
}

// Take a chip's words back into the text field, to be changed there.
function edit(chip) {
  const { text } = form().elements;
  text.value = written(chip).replace(/^\+ /, "");
  takeOut(chip);
  text.focus();
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
  const asked = ["text", "parts", "url", "upload"].some((name) => fields[name].value);
  const marked = event.submitter?.name || form().querySelector("[name=like], [name=unlike]");
  leaveSought();
  const narrowed = [...fields].some(
    (field) => field.closest("#filters") && (field.type === "checkbox" ? field.checked : field.value),
  );
  if (!asked && !marked && !narrowed && !fields.file.files.length) {
    return location.search ? visit(searchUrl()) : fields.file.click();
  }
  visit("/", { body: new FormData(form(), event.submitter) });
});

document.addEventListener("input", (event) => {
  if (event.target.id === "min_similarity") return apply();
  if (event.target.matches("#filters .seek")) return seek(event.target);
  if (event.target.id !== "text") return;
  clearTimeout(typing);
  // A URL is searched by when it is complete.
  if (/^https?:/i.test(event.target.value.trim())) return;
  typing = setTimeout(() => visit(searchUrl(), { push: false, only: true }), WAIT_WHILE_TYPING_MS);
});

document.addEventListener("change", (event) => {
  if (event.target.id === "file") submitFile();
  // What is typed there is to find a value; Enter takes it as one.
  else if (event.target.matches("#filters .seek")) return;
  else if (event.target.closest("#filters") || SUBMITTING.includes(event.target.name)) {
    form().requestSubmit();
  } else if (event.target.id === "min_similarity") {
    const url = new URL(location);
    url.searchParams.set("min_similarity", event.target.value);
    if (location.search) history.replaceState(null, "", url);
    shown = listUrl();
  }
});

// Of a link, also of one in a drawing, whose `href` is an object.
const targetOf = (link) => new URL(link.getAttribute("href"), location.href);

document.addEventListener("click", (event) => {
  if (event.target.closest("#given .crop")) {
    return crop(!document.querySelector("#query").classList.contains("open"));
  }
  const words = event.target.closest("button.words");
  if (words) return edit(words.closest(".chip"));
  const removed = event.target.closest("[data-term] .remove")?.closest(".chip");
  if (removed) {
    event.preventDefault();
    takeOut(removed);
    return form().requestSubmit();
  }
  for (const open of document.querySelectorAll(".popover[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
  const link = event.target.closest("a");
  if (!link?.hasAttribute("href") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.id === "more") {
    event.preventDefault();
    showMore(link);
  } else if (link.id === "open-filters") {
    // With the words typed since, which its own URL does not have.
    event.preventDefault();
    visit(searchUrl({ panel: link.ariaCurrent ? "" : "filters" }));
  } else if (link.closest("#search, #filters, #query, .chosen") && targetOf(link).pathname === "/") {
    event.preventDefault();
    visit(targetOf(link).href);
  }
});

document.addEventListener("keydown", (event) => {
  const open = document.querySelector(".popover[open]");
  if (event.key === "Escape" && open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
  // In an empty field, Backspace goes to what is before it, as in other fields with chips.
  if (event.key === "Backspace" && event.target.id === "text" && !event.target.value) {
    const last = [...form().querySelectorAll(".chip")].at(-1);
    const word = last?.querySelector("button.words");
    if (word) edit(last);
    else last?.querySelector(".remove").focus();
    if (last) event.preventDefault();
  }
});

addEventListener("popstate", () => {
  if (listUrl() !== shown) visit(location.href, { push: false });
});

document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    return searchFile(event.clipboardData.files);
  }
  const text = event.clipboardData.getData("text").trim();
  const elsewhere = !event.target.matches?.("input:not(#text), textarea");
  if (elsewhere && !form().elements.text.value && /^https?:\/\/\S+$/.test(text)) {
    event.preventDefault();
    searchByUrl(text);
  }
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
