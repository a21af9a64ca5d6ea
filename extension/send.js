// Read an image in the browser, and send it to the server as its own form would, so that its answer
// is the page of the search. No permission for the server is needed for that.

const status = document.querySelector("[role=status]");
const button = document.querySelector("button");
const form = document.querySelector("form");
const id = location.hash.slice(1);

// In the page that shows the image, which may read its own images and those that it made.
async function readInPage(url) {
  const response = await fetch(url, { credentials: "include" });
  if (!response.ok) return null;
  const reader = new FileReader();
  reader.readAsDataURL(await response.blob());
  await new Promise((resolve) => reader.addEventListener("loadend", resolve));
  return reader.result;
}

async function fromPage({ srcUrl, tabId, frameId }) {
  const target = { tabId, frameIds: [frameId ?? 0] };
  const [{ result }] = await chrome.scripting.executeScript({ target, func: readInPage, args: [srcUrl] });
  return result && fromBrowser(result);
}

// With the extension's own rights: any `data:` URL, and hosts that it was allowed.
async function fromBrowser(url) {
  const response = await fetch(url, { credentials: "include" });
  return response.ok ? response.blob() : null;
}

// A page instead, such as that of a login, is no image; what else is none, the server says.
const isImage = (blob) => Boolean(blob?.size) && !blob.type.startsWith("text/");

async function read(image) {
  const inPage = image.srcUrl.startsWith("data:") ? null : await fromPage(image).catch(() => null);
  if (isImage(inPage)) return inPage;
  const found = await fromBrowser(image.srcUrl).catch(() => null);
  return isImage(found) ? found : null;
}

async function send(image, blob) {
  const name = image.srcUrl.startsWith("http") ? new URL(image.srcUrl).pathname.split("/").at(-1) : "";
  const chosen = new DataTransfer();
  chosen.items.add(new File([blob], name || "image", { type: blob.type }));
  form.querySelector("input").files = chosen.files;
  form.action = `${await serverUrl()}/`;
  // What was left here may be an image of megabytes, and all of them together have 10 MB.
  await chrome.storage.session.remove(id);
  form.submit();
}

async function start(image) {
  const blob = await read(image);
  if (blob) return send(image, blob);
  const { protocol, hostname } = new URL(image.srcUrl);
  const origins = [`${protocol}//${hostname}/*`];
  const askable = protocol.startsWith("http") && !(await chrome.permissions.contains({ origins }));
  button.hidden = !askable;
  status.textContent = askable
    ? `The image is on ${hostname}, which lets only its own pages read it. May the extension read images there?`
    : "The image cannot be read. It may be gone, or need a login in another way.";
  button.textContent = `Allow ${hostname}`;
  button.onclick = async () => {
    if (await chrome.permissions.request({ origins })) start(image);
  };
}

chrome.storage.session.get(id).then((found) => {
  const image = Object.values(found)[0];
  if (image) start(image);
  else status.textContent = "Choose “Send image to Lookalike” in the menu of an image.";
});
