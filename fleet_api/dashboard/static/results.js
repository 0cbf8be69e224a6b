// The pictures that were asked for here, from the moment of asking until they are put away.

import { get } from "./api.js";
import { openDetail } from "./detail.js";
import { byId, copyOf, focusNear, part, setParts, setText } from "./dom.js";
import { excerpt } from "./format.js";
import { announce } from "./notices.js";
import { showPreview } from "./previews.js";
import { cancel } from "./queue.js";

const KEEP = 16;
const SAY_EVERY = 25; // percent, for screen readers
const ENDED = new Set(["completed", "failed", "cancelled"]);

const results = new Map();

// Show that these jobs were queued for this request, then ask how they stand: they may be done already.
export function addResults(jobIds, request, position) {
  for (const [place, id] of jobIds.entries()) {
    const element = copyOf("result-template");
    const title = excerpt(request.prompt);
    const result = { id, element, request, title, state: "queued", step: undefined, said: 0 };
    element.dataset.key = id;
    element.dataset.previews = String(Boolean(request.preview_every));
    element.querySelector(".frame").style.aspectRatio = `${request.width ?? 1024} / ${request.height ?? 1024}`;
    setParts(element, { title, state: `Queued, position ${position + place}` });
    results.set(id, result);
  }
  byId("results").prepend(...jobIds.map((id) => results.get(id).element));
  tidy();
  announce(jobIds.length > 1 ? `${jobIds.length} pictures are queued.` : "The picture is queued.");
  for (const id of jobIds) check(id);
}

// After a connection was lost: how do those stand that were not done?
export async function refreshResults() {
  await Promise.all([...results.values()].filter((result) => !ENDED.has(result.state)).map((result) => check(result.id)));
}

export function resultProgress({ job_id: id, progress, node_id: node, status, preview }) {
  const result = results.get(id);
  if (!result || ENDED.has(result.state)) return;
  if (status === "queued") {
    show(result, "queued", "Queued again", 0);
    return;
  }
  result.step = preview ?? result.step;
  show(result, "processing", node ? `${progress}% on ${node}` : `${progress}%`, progress);
  if (progress >= result.said + SAY_EVERY) {
    result.said = progress - (progress % SAY_EVERY);
    announce(`The picture is ${result.said}% done.`);
  }
}

// The queue has moved: `jobs` are the first that wait.
export function resultsWaiting(jobs) {
  for (const job of jobs) {
    const result = results.get(job.job_id);
    if (result?.state === "queued") show(result, "queued", waitingText(job), 0);
  }
}

export function resultComplete({ job_id: id, status, result: made, error }) {
  const result = results.get(id);
  if (!result || ENDED.has(result.state)) return;
  if (status === "completed") finish(result, made);
  else show(result, status, status === "failed" ? (error ?? "It failed.") : "Cancelled", 0);
  announce({ completed: "The picture is ready.", failed: `The picture failed: ${error}`, cancelled: "The picture is cancelled." }[status]);
}

// Put away the result that shows this file, which was deleted.
export function removeResult(filename) {
  for (const result of results.values()) if (result.image?.filename === filename) putAway(result);
}

export function startResults() {
  byId("results")?.addEventListener("click", async (event) => {
    const result = results.get(event.target.closest("li")?.dataset.key);
    if (!result) return;
    if (event.target.closest('[data-action="close"]')) {
      if (ENDED.has(result.state)) putAway(result);
      else await cancel(result.id).catch((error) => setText(part(result.element, "state"), error.message));
    } else if (event.target.closest("a") && result.image) {
      event.preventDefault();
      openDetail(result.image);
    }
  });
}

const waitingText = (job) => job.reason ?? `Queued, position ${job.queue_position}`;

async function check(id) {
  const job = await get(`/api/vision/jobs/${encodeURIComponent(id)}`).catch(() => null);
  const result = results.get(id);
  if (!job || !result || ENDED.has(result.state)) return;
  if (ENDED.has(job.status)) resultComplete(job);
  else if (job.status === "processing") resultProgress(job);
  else show(result, "queued", waitingText(job), 0);
}

function finish(result, made) {
  const { request } = result;
  result.image = {
    filename: made.image_url.split("/").pop(),
    url: made.image_url,
    prompt: request.prompt,
    model: made.model,
    seed: made.seed,
    width: made.width,
    height: made.height,
    node_id: made.node_id,
    created_at: new Date().toISOString(),
  };
  const link = result.element.querySelector("a");
  const image = link.querySelector("img");
  link.href = made.image_url;
  image.src = made.image_url;
  // Its preview stays until it can be painted, or never will be.
  image.decode().catch(() => {}).then(() => showPreview(result.element, result));
  image.alt = request.prompt;
  link.hidden = false;
  show(result, "completed", "", 100);
}

function show(result, state, text, progress) {
  const { element } = result;
  result.state = state;
  if (state !== "processing") result.step = undefined;
  if (state !== "completed") showPreview(element, result); // that of a completed one stays until its picture has loaded
  element.dataset.state = state;
  setText(part(element, "state"), text);
  part(element, "progress").value = progress;
  const close = element.querySelector('[data-action="close"]');
  const word = ENDED.has(state) ? "Put away" : "Cancel";
  close.title = word;
  close.setAttribute("aria-label", `${word}: ${part(element, "title").textContent}`);
}

function putAway(result) {
  const focused = result.element.contains(document.activeElement);
  result.element.remove();
  results.delete(result.id);
  if (focused) focusNear(byId("results"));
}

function tidy() {
  const done = [...byId("results").children].slice(KEEP).map((element) => results.get(element.dataset.key));
  for (const result of done) if (ENDED.has(result.state)) putAway(result);
}
