const form = document.querySelector("form");
const field = form.querySelector("#server");
const said = form.querySelector("output");

serverUrl().then((server) => (field.value = server));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  let server;
  try {
    server = readServer(field.value);
  } catch (error) {
    field.setAttribute("aria-invalid", "true");
    said.value = error.message;
    return field.focus();
  }
  field.removeAttribute("aria-invalid");
  field.value = server;
  await chrome.storage.sync.set({ server });
  // Whether a server answers there, people see for themselves: the extension may not ask it.
  const link = Object.assign(document.createElement("a"), { href: server, target: "_blank", textContent: "Open it" });
  said.replaceChildren("Saved. ", link);
});
