// Upload the form's files in small batches, as one job, and follow running jobs.

const form = document.querySelector("#add");
const message = document.querySelector("#message");
const sending = document.querySelector("#sending");
const endings = form.dataset.accept.split(",").filter((kind) => kind.startsWith("."));
const lists = form.dataset.lists.split(",");

// Small enough for the bar to move, and for a failed request to cost little.
const FILES_AT_ONCE = 8;
const LIST_EVERY_MS = 5000;
const AGAIN_AFTER_MS = 10_000;

let showing = false;
let stale = false;

const hasEnding = (file, endings) => endings.some((ending) => file.name.toLowerCase().endsWith(ending));
const isHidden = (file) => file.webkitRelativePath.split("/").some((part) => part.startsWith("."));

// Update a job's element to its new HTML, touching only what has changed.
function update(article, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  for (const part of fresh.content.querySelectorAll("[data-part]")) {
    const old = article.querySelector(`[data-part=${part.dataset.part}]`);
    if (old.innerHTML !== part.innerHTML) old.innerHTML = part.innerHTML;
  }
  const strip = article.querySelector("[data-strip]");
  const known = new Map([...strip.children].map((item) => [item.dataset.key, item]));
  const items = [...fresh.content.querySelector("[data-strip]").children];
  strip.replaceChildren(...items.map((item) => known.get(item.dataset.key) ?? item));
}

// Follow jobs with one stream for all of them: browsers open few connections to a server.
function follow(articles) {
  if (!articles.length) return;
  const byId = new Map(articles.map((article) => [article.dataset.job, article]));
  const events = new EventSource(`/index/events?jobs=${[...byId.keys()].join(",")}`);
  let shown = Date.now();
  events.addEventListener("progress", (event) => {
    const job = JSON.parse(event.data);
    const article = byId.get(String(job.id));
    update(article, job.html);
    const ended = job.state !== "running" && article.dataset.state === "running";
    if (ended) article.dataset.state = "ended";
    if (!ended && Date.now() - shown < LIST_EVERY_MS) return;
    shown = Date.now();
    showIndexed();
  });
  events.addEventListener("end", () => events.close());
  // A refused stream is closed by the browser, and not opened again.
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(followRunning, AGAIN_AFTER_MS);
  });
}

const followRunning = () => follow([...document.querySelectorAll(".job[data-state=running]")]);

// Replace the list of indexed images with the server's current one; one request at a time, however
// many jobs end.
async function showIndexed() {
  stale = true;
  if (showing) return;
  showing = true;
  while (stale) {
    stale = false;
    const page = await fetch(location.pathname + location.search).catch(() => null);
    if (!page?.ok) continue;
    const html = new DOMParser().parseFromString(await page.text(), "text/html");
    document.querySelector("#indexed").replaceWith(html.querySelector("#indexed"));
  }
  showing = false;
}

async function post(path, body, headers = {}) {
  const response = await fetch(path, {
    method: "POST", body, headers: { Prefer: "respond-async", ...headers },
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer.id;
}

async function sendFiles(files, onProgress) {
  let job = null;
  for (let first = 0; first < files.length; first += FILES_AT_ONCE) {
    const body = new FormData();
    for (const file of files.slice(first, first + FILES_AT_ONCE)) {
      body.append("file", file, file.webkitRelativePath || file.name);
    }
    job = await post(job ? `/api/images?job=${job}` : "/api/images", body);
    onProgress(Math.min(first + FILES_AT_ONCE, files.length), files.length);
  }
  return job;
}

function showProblem(text) {
  const box = document.querySelector("#problem").content.cloneNode(true);
  box.firstElementChild.textContent = text;
  message.replaceChildren(box);
}

function showProgress(done, total) {
  sending.hidden = false;
  [sending.firstElementChild.max, sending.firstElementChild.value] = [total, done];
  sending.querySelector("output").textContent = `Uploaded ${done} of ${total} files`;
}

// URLs and lists cannot be sent in batches: submit them as the plain form would.
async function sendForm(urls, others) {
  const body = new FormData();
  body.append("urls", urls);
  for (const file of others) body.append("file", file);
  const response = await fetch("/index", { method: "POST", body, headers: { Accept: "text/html" } });
  if (response.ok) return;
  const html = new DOMParser().parseFromString(await response.text(), "text/html");
  throw new Error(html.querySelector(".problem")?.textContent.trim() ?? response.statusText);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  message.replaceChildren();
  const chosen = [...form.querySelector("#files").files];
  const folder = [...form.querySelector("#folder").files];
  const others = chosen.filter((file) => hasEnding(file, lists));
  const files = [
    ...chosen.filter((file) => !hasEnding(file, lists)),
    ...folder.filter((file) => hasEnding(file, endings) && !isHidden(file)),
  ];
  const urls = form.elements.urls.value;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    if (files.length) await sendFiles(files, showProgress);
    if (urls.trim() || others.length || !files.length) await sendForm(urls, others);
    location.reload();
  } catch (error) {
    showProblem(error instanceof TypeError ? "The server is not responding." : error.message);
    button.disabled = false;
  }
  sending.hidden = true;
});

followRunning();
