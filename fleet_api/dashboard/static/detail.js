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
let sure = false;

// `image` has the fields of the gallery; what only the job knows (sampler, steps, what to avoid) is read when it is opened.
export async function openDetail(image) {
  shown = image;
  job = null;
  askAgain();
  setText(find(".error"), "");
  const picture = find(".stage img");
  picture.src = image.url;
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

// `useSettings` fills the prompt box, `neighbour` finds the next picture, `deleted` is told the name of a file that is gone.
export function startDetail({ useSettings, neighbour, deleted }) {
  dialog.addEventListener("click", (event) => {
    const action = event.target.closest("[data-action]")?.dataset.action;
    if (action === "close" || event.target === dialog) dialog.close();
    if (action === "delete") remove(deleted);
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
    ["Model", shown.model],
    ["Size", size(shown.width, shown.height)],
    ["Made at", result.scaled ? size(result.native_width, result.native_height) : undefined],
    ["Steps", result.steps ?? payload.steps],
    ["Sampler", result.sampler ?? payload.scheduler],
    ["Guidance", payload.guidance_scale ?? (job ? "the model’s own" : undefined)],
    ["Avoid", payload.negative_prompt || undefined],
    ["Node", shown.node_id],
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

function askAgain() {
  sure = false;
  setText(find('[data-action="delete"]'), "Delete");
}

async function remove(deleted) {
  if (!sure) {
    sure = true;
    setText(find('[data-action="delete"]'), "Delete for good?");
    return;
  }
  const { filename } = shown;
  await saying(find(".error"), async () => {
    await call("DELETE", `/api/vision/outputs/${encodeURIComponent(filename)}`);
    deleted(filename);
    announce("The picture is deleted.");
    dialog.close();
  });
  askAgain();
}
