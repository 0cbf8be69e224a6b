// The first page comes alive: what the server painted is taken over, then kept as the events say.

import { call, get } from "./api.js";
import { startClock } from "./clock.js";
import { startComposer, useSettings } from "./composer.js";
import { startDetail } from "./detail.js";
import { byId } from "./dom.js";
import { changeInGallery, neighbour, readGallery, refreshGallery, removeFromGallery, startGallery } from "./gallery.js";
import { Live } from "./live.js";
import { nodeUpdate, refreshNodes } from "./nodes.js";
import { connected, connectionLost } from "./notices.js";
import { startPreviews } from "./previews.js";
import { jobComplete, jobProgress, lookAtQueue, readQueue, startQueue } from "./queue.js";
import { refreshResults, removeResult, resultComplete, resultProgress, resultsWaiting, startResults } from "./results.js";
import { startThemeToggle } from "./theme_toggle.js";

const LOOK_MS = 2000;

let isUp = false;
let looking = false;

async function snapshot() {
  await Promise.all([refreshNodes(), readQueue(), readGallery(), refreshResults()]);
  isUp = true;
  connected();
}

const handlers = {
  node_update: nodeUpdate,
  job_progress(data) {
    jobProgress(data);
    resultProgress(data);
  },
  job_complete(data) {
    jobComplete(data);
    resultComplete(data);
    if (data.status === "completed") refreshGallery();
  },
};

const live = new Live({
  event: (type, data) => handlers[type]?.(data),
  up: snapshot,
  async down() {
    isUp = false;
    connectionLost();
    await get("/api/status").catch(() => {}); // a session that ended is told here; sockets cannot say why they fail
  },
});

async function look() {
  if (!isUp || looking || document.hidden) return;
  looking = true;
  try {
    await lookAtQueue();
  } catch (error) {
    if (error.unreachable) live.drop();
  } finally {
    looking = false;
  }
}

byId("sign-out")?.addEventListener("click", async () => {
  await call("DELETE", "/api/session").catch(() => {});
  location.reload();
});

startThemeToggle(byId("theme"));
startClock();
startQueue(resultsWaiting);
startResults();
startPreviews();
startGallery();
startDetail({
  useSettings,
  neighbour,
  deleted(filename) {
    removeFromGallery(filename);
    removeResult(filename);
  },
  changed: changeInGallery,
  restored: refreshGallery,
});
startComposer();
live.run();
setInterval(look, LOOK_MS);
document.addEventListener("visibilitychange", look);
