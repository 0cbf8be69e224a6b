// Nodes with their figures. Events bring the figures; which model is loaded comes from the vision workers' list.

import { get } from "./api.js";
import { setTime } from "./clock.js";
import { byId, part, reconcile, setParts, setText } from "./dom.js";
import { report } from "./errors.js";
import { celsius, grouped, joined, noValue, percentage } from "./format.js";
import { limited } from "./timing.js";

const SHOW_MS = 200;
const FIGURES = ["cpu", "memory", "gpu", "gpu_memory", "disk", "temperature"];

let nodes = new Map();
let workers = new Map();

export async function refreshNodes() {
  const [{ nodes: list }] = await Promise.all([get("/api/nodes"), refreshWorkers()]);
  nodes = new Map(list.map((node) => [node.id, node]));
  show();
}

export async function refreshWorkers() {
  const { nodes: list } = await get("/api/vision/nodes");
  workers = new Map(list.map((worker) => [worker.node_id, worker]));
  show();
}

export function nodeUpdate(node) {
  if (!workers.has(node.id)) refreshWorkers().catch(report);
  nodes.set(node.id, node);
  show();
}

const show = limited(() => {
  const rows = [...nodes.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  reconcile(byId("nodes"), rows, (node) => node.id, "node-template", update);
  setText(byId("online"), grouped(rows.filter(isThere).length));
  setText(byId("nodes-more"), "");
}, SHOW_MS);

function update(element, node) {
  const offline = !isThere(node);
  const worker = workers.get(node.id);
  element.dataset.status = statusOf(node, worker);
  setParts(element, {
    id: node.id,
    status: element.dataset.status,
    model: offline ? "" : worker?.loaded_model || "no model loaded",
    place: joined(node.ip, node.cluster),
    reason: node.reason ?? "",
  });
  element.dataset.there = String(!offline);
  setTime(part(element, "seen"), node.last_seen);
  for (const name of FIGURES) {
    const value = node[name];
    const text = name === "temperature" ? celsius(value) : percentage(value);
    setText(element.querySelector(`[data-figure="${name}"]`), offline ? noValue() : text);
    element.querySelector(`[data-meter="${name}"]`).value = offline ? 0 : (value ?? 0);
  }
}

const isThere = (node) => node.status === "online" || node.status === "degraded";

function statusOf(node, worker) {
  if (node.status !== "online") return node.status.replaceAll("_", " ");
  if (!worker) return "online";
  return worker.status === "offline" ? "no engine" : worker.status;
}
