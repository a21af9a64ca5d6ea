const form = document.querySelector("form");
const field = form.querySelector("#server");

chrome.storage.sync.get({ server: "http://localhost:8000" }).then(({ server }) => (field.value = server));
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  await chrome.storage.sync.set({ server: field.value });
  form.querySelector("output").value = "Saved";
});
