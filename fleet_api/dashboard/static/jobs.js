// What a job looks like in a line; fleet_api/dashboard/rows.py does the same for the first paint.

import { excerpt, grouped, joined, size, soon } from "./format.js";

export const titleOf = (job) => excerpt(String(job.payload?.prompt ?? "")) || job.job_type;

export function detailOf(job) {
  const { width, height, steps } = job.payload ?? {};
  const sides = width !== undefined && height !== undefined ? size(width, height) : "";
  return joined(job.model, sides, steps !== undefined ? `${steps} steps` : "");
}

export function placeOf(job) {
  if (job.status === "processing") return `${job.node_id ?? ""} · ${job.progress ?? 0}%`;
  return job.reason ?? joined(`position ${grouped(job.queue_position)}`, soon(job.wait_seconds));
}
