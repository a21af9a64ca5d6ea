// Index what the form names a few pictures at a time, and tell what became of each.

const form = document.querySelector("#add");
const outcomes = document.querySelector("#outcomes");
const list = outcomes.querySelector("ol");
const bar = outcomes.querySelector("progress");
const told = outcomes.querySelector("output");
const row = document.querySelector("#outcome");
const endings = form.dataset.accept.split(",").filter((kind) => kind.startsWith("."));

const FILES_AT_ONCE = 4;
const URLS_AT_ONCE = 16;

const isPicture = (file) => endings.some((ending) => file.name.toLowerCase().endsWith(ending));
const isHidden = (file) => file.webkitRelativePath.split("/").some((part) => part.startsWith("."));

function chunks(items, size) {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}

async function post(path, body, headers = {}) {
  const response = await fetch(path, { method: "POST", body, headers });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer.results;
}

const postUrls = (urls) =>
  post("/api/upsert", JSON.stringify({ images: urls }), { "Content-Type": "application/json" });

function postFiles(files) {
  const body = new FormData();
  for (const file of files) body.append("file", file);
  return post("/api/images", body);
}

function show(name, outcome) {
  const item = row.content.cloneNode(true).firstElementChild;
  const link = item.querySelector("a");
  if (outcome.id) {
    link.href = `/images/${outcome.id}`;
    link.firstElementChild.src = `/images/${outcome.id}/thumbnail`;
  } else {
    link.remove();
  }
  item.className = outcome.status;
  item.querySelector(".badge").textContent = outcome.status;
  item.querySelector(".badge").classList.add(outcome.status);
  item.querySelector(".url").textContent = name;
  item.querySelector(".reason").textContent = outcome.reason ?? "";
  list.prepend(item);
}

async function run(names, send, counts) {
  let results;
  try {
    results = await send();
  } catch (error) {
    const reason = error instanceof TypeError ? "The server does not answer." : error.message;
    results = names.map(() => ({ status: "failed", reason }));
  }
  results.forEach((outcome, i) => {
    show(names[i], outcome);
    counts[outcome.status] = (counts[outcome.status] ?? 0) + 1;
    bar.value += 1;
  });
  const summary = Object.entries(counts).map(([status, count]) => `${count} ${status}`);
  told.textContent = `${bar.value} of ${bar.max}: ${summary.join(", ")}`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const urls = form.elements.urls.value.split("\n").map((line) => line.trim()).filter(Boolean);
  const folder = [...form.querySelector("#folder").files].filter((f) => isPicture(f) && !isHidden(f));
  const files = [...form.querySelector("#files").files, ...folder];
  const work = [
    ...chunks(urls, URLS_AT_ONCE).map((urls) => [urls, () => postUrls(urls)]),
    ...chunks(files, FILES_AT_ONCE).map((files) => [
      files.map((file) => file.webkitRelativePath || file.name),
      () => postFiles(files),
    ]),
  ];
  outcomes.hidden = false;
  outcomes.querySelector("#progress").hidden = false;
  outcomes.querySelector(".problem")?.remove();
  list.replaceChildren();
  [bar.max, bar.value] = [Math.max(1, urls.length + files.length), 0];
  if (!work.length) {
    told.textContent = "Give addresses, one per line, or choose pictures.";
    return;
  }
  const button = form.querySelector("button");
  button.disabled = true;
  const counts = {};
  for (const [names, send] of work) await run(names, send, counts);
  button.disabled = false;
  form.reset();
});
