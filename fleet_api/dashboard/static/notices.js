// The lines that speak: connection, news for screen readers, errors.

import { byId, setText } from "./dom.js";

export function connectionLost() {
  document.body.classList.add("stale");
  setText(byId("connection"), "Connection lost, trying again …");
}

export function connected() {
  document.body.classList.remove("stale");
  setText(byId("connection"), "");
}

export function announce(text) {
  setText(byId("news"), text);
}

// Run an action of the user; what goes wrong is said in the element, in the API's words.
export async function saying(errorElement, action) {
  setText(errorElement, "");
  try {
    return await action();
  } catch (error) {
    setText(errorElement, error.message);
    return undefined;
  }
}
