// One picture in large, with all that made it.

import { call, get } from "./api.js";
import { byId, setText } from "./dom.js";
import { exactly, size } from "./format.js";
import { announce, saying } from "./notices.js";

const JOB_ID = /^image_([0-9a-f-]{36})\.png$/;
const SETTINGS = ["prompt", "negative_prompt", "width", "height", "steps", "guidance_scale", "seed", "model", "scheduler"];

const dialog = byId("detail");
const find = (selector) => dialog.querySelector(selector);

let shown = null;
let job = null;

// `image` has the fields of the gallery; what only the job knows (sampler, steps, what to avoid) is read when it is opened.
export async function openDetail(image) {
  shown = image;
  job = null;
  showState();
  setText(find(".error"), "");
  const picture = find(".stage img");
  picture.src = image.deleted_at ? image.thumbnail_url : image.url;
  picture.alt = image.prompt;
  setText(byId("detail-title"), image.prompt);
  find('[data-action="download"]').href = image.url;
  showFacts();
  if (!dialog.open) dialog.showModal();
  byId("detail-title").focus();
  const id = JOB_ID.exec(image.filename)?.[1];
  const found = id ? await get(`/api/queue/jobs/${id}`).catch(() => null) : null;
  if (found && shown === image) {
    job = found;
    showFacts();
  }
}

// `useSettings` fills the prompt box, `neighbour` finds the next picture, `deleted` is told the name of a file that is gone,
// `changed` of a picture that got or lost its star, `restored` that one is back.
export function startDetail({ useSettings, neighbour, deleted, changed, restored }) {
  dialog.addEventListener("click", (event) => {
    const action = event.target.closest("[data-action]")?.dataset.action;
    if (action === "close" || event.target === dialog) dialog.close();
    if (action === "delete") remove(deleted);
    if (action === "restore") restore(restored);
    if (action === "star") star(changed);
    if (action === "again") {
      dialog.close();
      useSettings(settings());
    }
  });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const next = step && shown ? neighbour(shown.filename, step) : undefined;
    if (next) openDetail(next);
  });
  dialog.addEventListener("close", () => {
    shown = null;
    find(".stage img").removeAttribute("src");
  });
}

function settings() {
  const from = { ...shown, ...job?.payload };
  return Object.fromEntries(SETTINGS.map((name) => [name, from[name]]));
}

function facts() {
  const { payload = {}, result = {} } = job ?? {};
  return [
    ["Seed", shown.seed],
    ["Model", shown.model || undefined],
    ["LoRA", shown.lora || undefined],
    ["Size", size(shown.width, shown.height)],
    ["Made at", result.scaled ? size(result.native_width, result.native_height) : undefined],
    ["Steps", result.steps ?? payload.steps],
    ["Sampler", result.sampler ?? payload.scheduler],
    ["Guidance", payload.guidance_scale ?? (job ? "the model’s own" : undefined)],
    ["Avoid", payload.negative_prompt || undefined],
    ["Node", shown.node_id || undefined],
    ["Made in", result.generation_time === undefined ? undefined : `${result.generation_time.toFixed(1)} s`],
    ["Time", exactly(shown.created_at)],
    ["Notes", result.warnings?.join(" ") || undefined],
  ].filter(([, value]) => value !== undefined && value !== null && value !== "");
}

function showFacts() {
  const rows = facts().map(([name, value]) => {
    const row = document.createElement("div");
    for (const [tag, text] of [["dt", name], ["dd", String(value)]]) row.appendChild(document.createElement(tag)).textContent = text;
    return row;
  });
  find("dl").replaceChildren(...rows);
}

// Which actions there are: a picture in the bin can be had back for a day.
function showState() {
  const binned = Boolean(shown.deleted_at);
  for (const name of ["delete", "star", "download"]) {
    const action = find(`[data-action="${name}"]`);
    if (action) action.hidden = binned;
  }
  const back = find('[data-action="restore"]');
  if (back) back.hidden = !binned;
  const mark = find('[data-action="star"]');
  if (mark) {
    mark.setAttribute("aria-pressed", String(shown.starred));
    setText(mark, shown.starred ? "★ Starred" : "☆ Star");
  }
  setText(find(".bin-note"), binned ? "In the bin: it goes for good a day after it was deleted." : "");
}

const place = (image, rest = "") => `/api/vision/gallery/${encodeURIComponent(image.filename)}${rest}`;

async function star(changed) {
  const image = shown;
  await saying(find(".error"), async () => {
    const answer = await call(image.starred ? "DELETE" : "PUT", place(image, "/star"));
    changed(answer.image);
    if (shown !== image) return;
    shown = answer.image;
    showState();
  });
}

async function remove(deleted) {
  const image = shown;
  await saying(find(".error"), async () => {
    await call("DELETE", `/api/vision/outputs/${encodeURIComponent(image.filename)}`);
    deleted(image.filename);
    announce("The picture is in the bin for a day.");
    if (shown !== image) return;
    shown = { ...image, deleted_at: new Date().toISOString() };
    showState();
    find('[data-action="restore"]').focus();
  });
}

async function restore(restored) {
  const image = shown;
  await saying(find(".error"), async () => {
    const answer = await call("POST", place(image, "/restore"));
    restored();
    announce("The picture is back.");
    if (shown !== image) return;
    shown = answer.image;
    showState();
  });
}
