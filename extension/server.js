// Where the server is, as the options say.

const DEFAULT_SERVER = "http://localhost:8000";

async function serverUrl() {
  return (await chrome.storage.sync.get({ server: DEFAULT_SERVER })).server;
}

// The address of a server as it was typed, without a slash at the end; throws an Error that says
// what is wrong with it.
function readServer(typed) {
  const text = typed.trim();
  let url;
  try {
    url = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`);
  } catch {
    throw new Error(`This is not an address. Enter one such as ${DEFAULT_SERVER}.`);
  }
  if (!["http:", "https:"].includes(url.protocol)) throw new Error("The address must begin with http:// or https://.");
  if (url.username || url.password) {
    throw new Error("Leave out the user name and password: your browser asks for them when the server does.");
  }
  if (url.search || url.hash) throw new Error("Enter the address of the server alone, without ? or #.");
  return (url.origin + url.pathname).replace(/\/+$/, "");
}
