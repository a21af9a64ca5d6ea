// Two entries in the menu of every image. One opens the server's search by the image's URL. The
// other sends the image itself, for those that the server cannot fetch: behind a login, on your own
// network, or made by the page.

importScripts("server.js");

chrome.runtime.onInstalled.addListener(() => {
  chrome.contextMenus.create({ id: "search", title: "Search image with Lookalike", contexts: ["image"] });
  chrome.contextMenus.create({ id: "send", title: "Send image to Lookalike", contexts: ["image"] });
});

chrome.contextMenus.onClicked.addListener(async ({ menuItemId, srcUrl, frameId }, tab) => {
  // Images in the browser's own panels are in no tab.
  const beside = tab?.id >= 0 ? { index: tab.index + 1, openerTabId: tab.id } : {};
  // A server can fetch from the web only.
  if (menuItemId === "search" && /^https?:/i.test(srcUrl)) {
    chrome.tabs.create({ ...beside, url: `${await serverUrl()}/?url=${encodeURIComponent(srcUrl)}` });
    return;
  }
  const id = crypto.randomUUID();
  await chrome.storage.session.set({ [id]: { srcUrl, tabId: beside.openerTabId, frameId } });
  chrome.tabs.create({ ...beside, url: `send.html#${id}` });
});
