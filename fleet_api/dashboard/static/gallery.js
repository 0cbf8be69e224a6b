// Finished pictures, newest first, a page at a time.

import { get } from "./api.js";
import { setTime } from "./clock.js";
import { openDetail } from "./detail.js";
import { byId, part, reconcile, setParts, setText } from "./dom.js";
import { counted, excerpt, joined, size } from "./format.js";
import { saying } from "./notices.js";
import { limited } from "./timing.js";

const PAGE = 24;
const REFRESH_MS = 200;

let images = [];
let total = 0;

const read = (offset) => get(`/api/vision/gallery?limit=${PAGE}&offset=${offset}`);

// Put the newest page before what is shown. Where the two do not meet, too much has happened: then the newest page is all.
export async function readGallery() {
  const page = await read(0);
  const fresh = new Set(page.images.map((image) => image.filename));
  const last = images.findLastIndex((image) => fresh.has(image.filename));
  images = last < 0 ? page.images : [...page.images, ...images.slice(last + 1)];
  total = page.total;
  if (images.length > total) images = page.images;
  show();
}

export const refreshGallery = limited(readGallery, REFRESH_MS);

export function removeFromGallery(filename) {
  if (!images.some((image) => image.filename === filename)) return;
  images = images.filter((image) => image.filename !== filename);
  total -= 1;
  show();
}

// Return the picture so many places after this one.
export function neighbour(filename, step) {
  const place = images.findIndex((image) => image.filename === filename);
  return place < 0 ? undefined : images[place + step];
}

export function startGallery() {
  byId("pictures").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a tab of its own
    const key = event.target.closest("li")?.dataset.key;
    const image = images.find((each) => each.filename === key);
    if (!image || !event.target.closest("a")) return;
    event.preventDefault();
    openDetail(image);
  });
  byId("more").addEventListener("click", () => saying(byId("gallery-error"), more));
}

async function more() {
  const page = await read(images.length);
  const known = new Set(images.map((image) => image.filename));
  const older = page.images.filter((image) => !known.has(image.filename));
  images = [...images, ...older];
  total = page.total;
  show();
  byId("pictures").querySelector(`[data-key="${CSS.escape(older[0]?.filename ?? "")}"] a`)?.focus({ preventScroll: true });
}

function show() {
  reconcile(byId("pictures"), images, (image) => image.filename, "picture-template", update);
  setText(byId("gallery-total"), total ? counted(total, "picture", "pictures") : "");
  byId("more").hidden = images.length >= total;
}

function update(element, image) {
  const link = element.querySelector("a");
  if (link.getAttribute("href") !== image.url) {
    link.href = image.url;
    if (image.thumbnail_url) element.querySelector("img").src = image.thumbnail_url;
  }
  setParts(element, {
    title: excerpt(image.prompt),
    origin: joined(image.model, image.node_id),
    seed: `seed ${image.seed}`,
    size: size(image.width, image.height),
  });
  setTime(part(element, "created"), image.created_at);
}
