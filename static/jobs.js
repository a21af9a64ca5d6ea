// Jobs on pages, followed by one stream for all of them: browsers open few connections to a server.

const AGAIN_AFTER_MS = 10_000;

let events = null;

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

// Follow the page's running jobs; after each change of one, `changed` is called with whether it has ended.
export function followJobs(changed) {
  events?.close();
  const articles = [...document.querySelectorAll(".job[data-state=running]")];
  if (!articles.length) return;
  const byId = new Map(articles.map((article) => [article.dataset.job, article]));
  const opened = (events = new EventSource(`/index/events?jobs=${[...byId.keys()].join(",")}`));
  events.addEventListener("progress", (event) => {
    const job = JSON.parse(event.data);
    const article = byId.get(String(job.id));
    update(article, job.html);
    const ended = job.state !== "running" && article.dataset.state === "running";
    if (ended) article.dataset.state = "ended";
    changed(ended);
  });
  events.addEventListener("end", () => opened.close());
  // A refused stream is closed by the browser, and not opened again.
  events.addEventListener("error", () => {
    if (opened === events && opened.readyState === EventSource.CLOSED) setTimeout(() => followJobs(changed), AGAIN_AFTER_MS);
  });
}
