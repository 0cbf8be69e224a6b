// How far a running job's picture is. A new one takes the place of the last when it has loaded, so that none is ever broken or half there.

import { part } from "./dom.js";

const wanted = new WeakMap(); // by element: the newest, undefined for none
const loading = new WeakSet();

// `step` is what the job's newest preview shows, undefined while it has none.
export function showPreview(element, { id, step, title }) {
  const address = `/api/queue/jobs/${encodeURIComponent(id)}/preview?step=${step}`;
  wanted.set(element, step === undefined ? undefined : { address, alt: `Preview: ${title}` });
  if (step === undefined) hide(part(element, "preview"));
  else catchUp(element);
}

// A page that nobody sees loads none, and catches up when it is seen again.
export function startPreviews() {
  document.addEventListener("visibilitychange", () => {
    for (const element of document.querySelectorAll('[data-previews="true"]')) catchUp(element);
  });
}

async function catchUp(element) {
  if (loading.has(element)) return;
  loading.add(element);
  while (!document.hidden) {
    const newest = wanted.get(element);
    if (!newest || part(element, "preview").getAttribute("src") === newest.address) break;
    const next = await load(part(element, "preview"), newest);
    if (!next) break; // the job has ended meanwhile
    if (wanted.get(element)) part(element, "preview").replaceWith(next);
  }
  loading.delete(element);
}

// Return a copy of an image that shows this address, once it is there; null if it does not come.
function load(image, { address, alt }) {
  const next = image.cloneNode();
  Object.assign(next, { alt, hidden: false });
  return new Promise((done) => {
    next.addEventListener("load", () => done(next));
    next.addEventListener("error", () => done(null));
    next.src = address;
  });
}

function hide(image) {
  image.hidden = true;
  image.removeAttribute("src");
  image.alt = "";
}
