// The prompt box: from the form to a request.

import { call } from "./api.js";
import { byId, setText } from "./dom.js";
import { write } from "./json.js";
import { saying } from "./notices.js";
import { refreshQueue } from "./queue.js";
import { addResults } from "./results.js";

const NUMBERS = ["width", "height", "steps", "guidance_scale", "count"];
const PREVIEW_EVERY = 1; // step; nodes show two a second at most
const TEXTS = ["negative_prompt", "seed", "model", "scheduler"];

const form = byId("composer"); // a viewer has none
const fields = form?.elements;
let attempt = null;

// What was left empty is left out, so that the API's own default holds.
function request() {
  const body = { prompt: fields.prompt.value.trim() };
  for (const name of NUMBERS) if (fields[name].value !== "") body[name] = Number(fields[name].value);
  for (const name of TEXTS) if (fields[name].value.trim() !== "") body[name] = fields[name].value.trim();
  if (fields.previews.checked) body.preview_every = PREVIEW_EVERY;
  return body;
}

// The same request sent again after a lost answer carries the same key, and so makes no second picture.
function keyOf(text) {
  if (attempt?.text !== text) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    attempt = { text, key: Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("") };
  }
  return attempt.key;
}

async function send(event) {
  event.preventDefault();
  const button = form.querySelector('[type="submit"]');
  if (button.disabled) return;
  button.disabled = true;
  await saying(byId("composer-error"), async () => {
    const body = request();
    const text = write(body);
    const answer = await call("POST", "/api/vision/generate", { text, headers: { "Idempotency-Key": keyOf(text) } });
    attempt = null;
    addResults(answer.job_ids, body, answer.queue_position ?? 1);
    refreshQueue();
  });
  button.disabled = false;
}

function showShape() {
  const value = `${fields.width.value}x${fields.height.value}`;
  for (const radio of form.querySelectorAll('[name="shape"]')) radio.checked = radio.value === value;
}

// Fill the box with the settings of a picture. What it did not have goes back to the default.
export function useSettings(settings) {
  form.reset();
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null) continue;
    const field = fields[name];
    if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) {
      field.add(new Option(value)); // the fleet may not have it now; the API says so when it is asked
    }
    field.value = String(value);
  }
  showShape();
  setText(byId("composer-error"), "");
  byId("options").open = true;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  form.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "center" });
  fields.prompt.focus({ preventScroll: true });
}

export function startComposer() {
  if (!form) return;
  form.addEventListener("submit", send);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("input", (event) => {
    if (event.target.name === "shape") [fields.width.value, fields.height.value] = event.target.value.split("x");
    else if (event.target === fields.width || event.target === fields.height) showShape();
  });
}
