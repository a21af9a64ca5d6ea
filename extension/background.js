// An entry in the menu of every image: it opens the server's search by the image's URL.

const SERVER = "http://localhost:8000";

chrome.runtime.onInstalled.addListener(() => {
  chrome.contextMenus.create({ id: "search", title: "Search image with Lookalike", contexts: ["image"] });
});

chrome.contextMenus.onClicked.addListener(async ({ srcUrl }) => {
  const { server } = await chrome.storage.sync.get({ server: SERVER });
  // A server fetches http and https only; for others, its page is where the image can be pasted.
  const query = /^https?:/i.test(srcUrl) ? `?url=${encodeURIComponent(srcUrl)}` : "";
  chrome.tabs.create({ url: `${server.replace(/\/+$/, "")}/${query}` });
});
