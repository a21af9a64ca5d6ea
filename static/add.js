// Upload the form's files in small batches, as one job, and follow running jobs.
// An upload that was interrupted goes on where it ended when the same files are chosen again.

import { followJobs } from "./jobs.js";

const form = document.querySelector("#add");
const message = document.querySelector("#message");
const sending = document.querySelector("#sending");
const interrupted = document.querySelector("#interrupted");
const endings = form.dataset.accept.split(",").filter((kind) => kind.startsWith("."));
const lists = form.dataset.lists.split(",");

// Small enough for the bar to move, and for a failed request to cost little.
const FILES_AT_ONCE = 8;
const LIST_EVERY_MS = 5000;
// Where the browser keeps what is left of an upload: its files, the job, and how many have arrived.
const KEPT = "upload";

let showing = false;
let stale = false;

const hasEnding = (file, endings) => endings.some((ending) => file.name.toLowerCase().endsWith(ending));
const pathOf = (file) => file.path || file.webkitRelativePath || file.name;
const isHidden = (file) => pathOf(file).split("/").some((part) => part.startsWith("."));

let shown = Date.now();

const followRunning = () => followJobs((ended) => {
  if (!ended && Date.now() - shown < LIST_EVERY_MS) return;
  shown = Date.now();
  showTotal();
});

async function loaded() {
  const page = await fetch("/add").catch(() => null);
  return page?.ok ? new DOMParser().parseFromString(await page.text(), "text/html") : null;
}

// Show how many images there are by now; one request at a time, however many jobs end.
async function showTotal() {
  stale = true;
  if (showing) return;
  showing = true;
  while (stale) {
    stale = false;
    const html = await loaded();
    if (html) document.querySelector("#total").textContent = html.querySelector("#total").textContent;
  }
  showing = false;
}

// Show the jobs as they are now, a new one among them.
async function showJobs() {
  const html = await loaded();
  if (!html) return;
  document.querySelector("#jobs").replaceWith(html.querySelector("#jobs"));
  followRunning();
}

async function post(path, body, headers = {}) {
  const response = await fetch(path, {
    method: "POST", body, headers: { Prefer: "respond-async", ...headers },
  });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), { status: response.status });
  return answer.id;
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

function keep(upload) {
  if (upload) localStorage.setItem(KEPT, JSON.stringify(upload));
  else localStorage.removeItem(KEPT);
}

// What tells whether files are the same as those of an earlier upload.
const signature = (files) =>
  `${files.length} ${files.reduce((sum, file) => sum + file.size, 0)} ${pathOf(files[0])} ${pathOf(files.at(-1))}`;

async function sendFiles(files, onProgress) {
  files.sort((a, b) => (pathOf(a) < pathOf(b) ? -1 : 1));
  const files_ = signature(files);
  const before = kept();
  let goesOn = before?.files === files_;
  let { job, done } = goesOn ? before : { job: null, done: 0 };
  const name = pathOf(files[0]).includes("/") ? pathOf(files[0]).split("/")[0] : "";
  onProgress(done, files.length);
  while (done < files.length) {
    // The first alone, so that its job is there at once.
    const batch = files.slice(done, done + (job ? FILES_AT_ONCE : 1));
    const body = new FormData();
    for (const file of batch) body.append("file", file, pathOf(file));
    const isNew = !job;
    try {
      job = await post(job ? `/api/images?job=${job}` : "/api/images", body);
    } catch (error) {
      // The job of the earlier upload was cancelled or removed: this one gets its own.
      if (![404, 409].includes(error.status) || !goesOn) throw error;
      [goesOn, job] = [false, null];
      continue;
    }
    done += batch.length;
    keep({ files: files_, job, done, total: files.length, name });
    onProgress(done, files.length);
    if (isNew) showJobs();
  }
  keep(null);
  return job;
}

function showInterrupted() {
  const upload = kept();
  interrupted.hidden = !upload;
  if (!upload) return;
  const what = upload.name ? `The upload of “${upload.name}”` : "An upload";
  const again = upload.name ? "Choose this folder again" : "Choose the same files again";
  interrupted.firstElementChild.textContent =
    `${what} was interrupted: ${upload.done} of ${upload.total} files have arrived. ${again} to send the others.`;
}

interrupted.querySelector("button").addEventListener("click", () => {
  keep(null);
  showInterrupted();
});

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

async function add(chosen, urls) {
  message.replaceChildren();
  interrupted.hidden = true;
  const others = chosen.filter((file) => hasEnding(file, lists));
  // Of a folder, only images; of chosen files, all, so that each is answered for.
  const files = chosen.filter(
    (file) => !hasEnding(file, lists) && (!pathOf(file).includes("/") || (hasEnding(file, endings) && !isHidden(file))),
  );
  const button = form.querySelector("button");
  button.disabled = true;
  const warn = (event) => event.preventDefault();
  addEventListener("beforeunload", warn);
  try {
    if (files.length) await sendFiles(files, showProgress);
    if (urls.trim() || others.length || !files.length) await sendForm(urls, others);
    form.reset();
    await showJobs();
    showTotal();
  } catch (error) {
    showProblem(error instanceof TypeError ? "The server is not responding." : error.message);
    showInterrupted();
  }
  removeEventListener("beforeunload", warn);
  button.disabled = false;
  sending.hidden = true;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  // A list inside a folder is none: only its images are asked for.
  const folder = [...form.querySelector("#folder").files].filter((file) => !hasEnding(file, lists));
  add([...form.querySelector("#files").files, ...folder], form.elements.urls.value);
});

// The files of what is dropped, those in folders too, with their paths.
async function filesIn(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [Object.assign(file, { path: entry.fullPath.slice(1) })];
  }
  const reader = entry.createReader();
  const found = [];
  // A reader gives some at a time, and none at the end.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const below of some) found.push(...(await filesIn(below)));
  }
}

let inside = 0;
document.addEventListener("dragenter", () => document.body.classList.toggle("dropping", ++inside > 0));
document.addEventListener("dragleave", () => document.body.classList.toggle("dropping", --inside > 0));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dropping");
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry());
  const plain = [...event.dataTransfer.files];
  const found = entries.every(Boolean) ? (await Promise.all(entries.map(filesIn))).flat() : plain;
  const url = event.dataTransfer.getData("text/uri-list").split("\n")[0];
  if (found.length || url) add(found, found.length ? "" : url);
});

showInterrupted();
followRunning();
