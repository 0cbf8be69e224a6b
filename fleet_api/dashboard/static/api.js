// Calls to the API. Every failure is an ApiError whose message may be shown as it is.

import { ApiError } from "./errors.js";
import { parse } from "./json.js";

const READ_TIMEOUT = 15_000;
const UNREACHABLE = "The control plane cannot be reached.";

function token() {
  return document.querySelector('meta[name="csrf-token"]')?.content;
}

function read(text) {
  try {
    return text ? parse(text) : null;
  } catch {
    return null;
  }
}

// `text` is the JSON to send. A 401 means that the session has ended, and leads to the sign-in, unless `stay` is set.
export async function call(method, path, { text, headers = {}, stay = false } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (text !== undefined) sent["Content-Type"] = "application/json";
  if (method !== "GET" && token()) sent["X-CSRF-Token"] = token();
  const signal = method === "GET" ? AbortSignal.timeout(READ_TIMEOUT) : undefined;
  let answer;
  let body;
  try {
    answer = await fetch(path, { method, headers: sent, body: text, credentials: "same-origin", cache: "no-store", signal });
    body = read(await answer.text());
  } catch {
    throw new ApiError(0, UNREACHABLE);
  }
  if (answer.ok) return body;
  if (answer.status === 401 && !stay) location.reload();
  throw new ApiError(answer.status, body?.detail ?? `The control plane answered ${answer.status}.`);
}

export const get = (path) => call("GET", path);
