// Signing in: the key goes to the API once, and comes back as a cookie that no script can read.

import { call } from "./api.js";
import { byId, setText } from "./dom.js";

const form = byId("sign-in");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  setText(byId("sign-in-error"), "");
  try {
    await call("POST", "/api/session", { text: JSON.stringify({ key: form.key.value.trim() }), stay: true });
    location.reload();
  } catch (error) {
    setText(byId("sign-in-error"), error.message);
    form.key.select();
  } finally {
    button.disabled = false;
  }
});
