// Search without leaving the page: choose, drop or paste a picture, and move the threshold.

const form = document.querySelector("#search");
const file = form.elements.file;
const slider = form.elements.min_similarity;
let running = null;

for (const hint of document.querySelectorAll(".with-script")) hint.hidden = false;

async function search(changed) {
  // What was asked last counts; the other ways to ask are cleared.
  for (const field of [file, form.elements.url, form.elements.text]) {
    if (field && changed && field !== changed) field.value = "";
  }
  running?.abort();
  running = new AbortController();
  const answer = document.querySelector("#answer");
  answer.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "text/html" },
      signal: running.signal,
    });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    show(page, response);
  } catch (error) {
    if (error.name !== "AbortError") fail("The server does not answer. Is it still running?");
  }
}

function show(page, response) {
  const found = page.querySelector("#answer") ?? page.querySelector("main");
  const answer = document.querySelector("#answer");
  answer.replaceChildren(...found.childNodes);
  answer.removeAttribute("aria-busy");
  const preview = page.querySelector("#preview img");
  if (preview) document.querySelector("#preview").replaceChildren(preview);
  if (response.ok) remember();
  apply();
}

function fail(sentence) {
  const box = document.createElement("div");
  box.className = "problem";
  box.role = "alert";
  box.textContent = sentence;
  const answer = document.querySelector("#answer");
  answer.replaceChildren(box);
  answer.removeAttribute("aria-busy");
}

// A search by address or words can be linked to; one by file cannot.
function remember() {
  const asked = new URLSearchParams();
  for (const name of ["url", "text"]) {
    const value = form.elements[name]?.value;
    if (value) asked.set(name, value);
  }
  if (asked.size) asked.set("min_similarity", slider.value);
  history.replaceState(null, "", asked.size ? `/?${asked}` : "/");
}

// Puts every result on its side of the threshold; both lists stay in their order.
function apply() {
  const lowest = Number(slider.value);
  document.querySelector("#lowest").textContent = lowest.toFixed(2);
  const [hits, below] = ["#hits", "#below"].map((id) => document.querySelector(id));
  if (!hits) return;
  const results = [...hits.children, ...below.children];
  hits.replaceChildren(...results.filter((li) => Number(li.dataset.similarity) >= lowest));
  below.replaceChildren(...results.filter((li) => Number(li.dataset.similarity) < lowest));
  const heading = document.querySelector("#count");
  heading.textContent = hits.children.length;
  document.querySelector("#noun").textContent = hits.children.length === 1 ? "picture" : "pictures";
  document.querySelector("#nothing").hidden = hits.children.length > 0;
  document.querySelector("#closest").hidden = below.children.length === 0;
}

function searchFile(files) {
  const chosen = new DataTransfer();
  chosen.items.add(files[0]);
  file.files = chosen.files;
  preview();
  search(file);
}

function preview() {
  if (!file.files.length) return;
  const image = new Image();
  image.alt = "The picture searched for";
  image.src = URL.createObjectURL(file.files[0]);
  image.onload = () => URL.revokeObjectURL(image.src);
  // A format that the browser cannot show gets its preview with the answer.
  image.onerror = () => image.remove();
  document.querySelector("#preview").replaceChildren(image);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const words = [form.elements.url, form.elements.text].filter((field) => field?.value);
  if (!words.length && !file.files.length) return file.click();
  const edited = words.find((field) => field.value !== field.dataset.searched);
  for (const field of words) field.dataset.searched = field.value;
  search(edited ?? (file.files.length ? file : words[0]));
});
file.addEventListener("change", () => {
  if (file.files.length) {
    preview();
    search(file);
  }
});
slider.addEventListener("input", apply);

document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    return searchFile(event.clipboardData.files);
  }
  const text = event.clipboardData.getData("text").trim();
  if (!event.target.matches("input, textarea") && /^https?:\/\/\S+$/.test(text)) {
    form.elements.url.value = text;
    search(form.elements.url);
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
  if (url) {
    form.elements.url.value = url;
    search(form.elements.url);
  }
});

apply();
