// The jobs that run and the first of those that wait. The order is the API's; what each job asks for is read once and kept.

import { call, get } from "./api.js";
import { byId, part, reconcile, setParts, setText } from "./dom.js";
import { counted, grouped } from "./format.js";
import { detailOf, placeOf, titleOf } from "./jobs.js";
import { refreshWorkers } from "./nodes.js";
import { saying } from "./notices.js";
import { showPreview } from "./previews.js";
import { limited } from "./timing.js";

const RUNNING = 30;
const WAITING = 12;
const REFRESH_MS = 400;
const SHOW_MS = 50;

let running = [];
let runningTotal = 0;
let waiting = [];
let waitingTotal = 0;
let asked = new Map();
let tellWaiting = () => {};
const ended = new Set(); // since the last read began
const started = new Set(); // those beyond the ones shown too: each is worth one look

export async function readQueue() {
  ended.clear();
  const [line, page] = await Promise.all([
    get(`/api/vision/queue?limit=${WAITING}`),
    get(`/api/queue/jobs?status=processing&limit=${RUNNING}`),
    refreshWorkers(),
  ]);
  const jobs = await Promise.all(line.queue.map((entry) => known(entry.job_id)));
  asked = new Map(jobs.filter(Boolean).map((job) => [job.job_id, job]));
  waiting = line.queue
    .filter((entry) => asked.has(entry.job_id) && !ended.has(entry.job_id))
    .map((entry) => ({
      ...asked.get(entry.job_id),
      status: "queued",
      queue_position: entry.position,
      wait_seconds: entry.wait_seconds,
    }));
  waitingTotal = line.length;
  const waits = new Set(waiting.map((job) => job.job_id));
  running = page.jobs.filter((job) => !ended.has(job.job_id) && !waits.has(job.job_id));
  runningTotal = page.total;
  tellWaiting(waiting);
  show();
}

export const refreshQueue = limited(readQueue, REFRESH_MS);

// A submission is no event of the socket, so the head of the queue is looked at from time to time: it costs the server no query.
export async function lookAtQueue() {
  const line = await get(`/api/vision/queue?limit=${WAITING}`);
  const shown = waiting.map((job) => job.job_id).join();
  if (line.length !== waitingTotal || line.queue.map((entry) => entry.job_id).join() !== shown) refreshQueue();
}

export function jobProgress({ job_id: id, progress, node_id: node, status, preview }) {
  ended.delete(id);
  const job = running.find((each) => each.job_id === id);
  if (job && status !== "queued") {
    job.progress = progress;
    job.node_id = node ?? job.node_id;
    job.preview = preview ?? job.preview;
    show();
  } else if (status === "queued" || !started.has(id)) {
    refreshQueue();
  }
  if (status === "queued") started.delete(id);
  else started.add(id);
}

export function jobComplete({ job_id: id }) {
  ended.add(id);
  started.delete(id);
  running = running.filter((job) => job.job_id !== id);
  waiting = waiting.filter((job) => job.job_id !== id);
  show();
  refreshQueue();
}

export const cancel = (id) => call("POST", `/api/vision/jobs/${encodeURIComponent(id)}/cancel`);

// `onWaiting` is told of the first waiting jobs whenever they were read.
export function startQueue(onWaiting) {
  tellWaiting = onWaiting;
  byId("jobs").addEventListener("click", async (event) => {
    const button = event.target.closest('[data-action="cancel"]');
    if (!button) return;
    button.disabled = true;
    await saying(byId("queue-error"), () => cancel(button.closest("li").dataset.key));
    button.disabled = false;
    refreshQueue();
  });
}

async function known(id) {
  // A job that nobody could serve may have found its node meanwhile.
  const job = asked.get(id);
  if (job && !job.reason) return job;
  return get(`/api/queue/jobs/${encodeURIComponent(id)}`).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
}

const show = limited(() => {
  reconcile(byId("jobs"), [...running, ...waiting], (job) => job.job_id, "job-template", update);
  setText(byId("running"), grouped(runningTotal));
  setText(byId("waiting"), grouped(waitingTotal));
  const more = waitingTotal - waiting.length;
  setText(byId("queue-more"), more > 0 && waiting.length ? `and ${counted(more, "more waits", "more wait")}` : "");
}, SHOW_MS);

function update(element, job) {
  const title = titleOf(job);
  element.dataset.state = job.status;
  element.dataset.previews = String(Boolean(job.payload?.preview_every));
  setParts(element, { title, detail: detailOf(job), place: placeOf(job) });
  part(element, "progress").value = job.progress ?? 0;
  showPreview(element, { id: job.job_id, step: job.preview, title });
  element.querySelector('[data-action="cancel"]')?.setAttribute("aria-label", `Cancel: ${title}`);
}
