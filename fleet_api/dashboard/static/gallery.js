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
const SEARCH_MS = 250;

let images = [];
let total = 0;
let next = null; // the cursor of the page after what is shown
let wanted = ""; // what the search asks for, as parameters

const read = (from = "") => get(`/api/vision/gallery?limit=${PAGE}${wanted}${from}`);

// Put the newest page before what is shown. Where the two do not meet, too much has happened: then the newest page is all.
export async function readGallery() {
  const asked = wanted;
  const page = await read();
  if (asked !== wanted) return; // another search has begun
  const fresh = new Set(page.images.map((image) => image.filename));
  const last = images.findLastIndex((image) => fresh.has(image.filename));
  if (last < 0 || images.length <= page.images.length) next = page.next;
  images = last < 0 ? page.images : [...page.images, ...images.slice(last + 1)];
  total = page.total;
  if (images.length > total) {
    images = page.images;
    next = page.next;
  }
  show();
}

export const refreshGallery = limited(readGallery, REFRESH_MS);

export function removeFromGallery(filename) {
  if (!images.some((image) => image.filename === filename)) return;
  images = images.filter((image) => image.filename !== filename);
  total -= 1;
  show();
}

export function changeInGallery(image) {
  images = images.map((each) => (each.filename === image.filename ? image : each));
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
  byId("gallery-search").addEventListener("input", limited(search, SEARCH_MS));
  byId("gallery-search").addEventListener("submit", (event) => event.preventDefault());
}

async function more() {
  const asked = wanted;
  const page = await read(`&cursor=${next}`);
  if (asked !== wanted) return;
  const known = new Set(images.map((image) => image.filename));
  const older = page.images.filter((image) => !known.has(image.filename));
  images = [...images, ...older];
  total = page.total;
  next = page.next;
  show();
  byId("pictures").querySelector(`[data-key="${CSS.escape(older[0]?.filename ?? "")}"] a`)?.focus({ preventScroll: true });
}

function search() {
  const form = new FormData(byId("gallery-search"));
  const text = form.get("q").trim();
  const parts = [text && `&q=${encodeURIComponent(text)}`, form.has("starred") && "&starred=true", form.has("deleted") && "&deleted=true"];
  wanted = parts.filter(Boolean).join("");
  images = [];
  return saying(byId("gallery-error"), readGallery);
}

function show() {
  reconcile(byId("pictures"), images, (image) => image.filename, "picture-template", update);
  setText(byId("gallery-total"), total ? counted(total, "picture", "pictures") : "");
  byId("more").hidden = next === null || images.length >= total;
  byId("gallery-none").hidden = !wanted || images.length > 0;
}

function update(element, image) {
  const link = element.querySelector("a");
  if (link.getAttribute("href") !== image.url) {
    link.href = image.url;
    if (image.thumbnail_url) element.querySelector("img").src = image.thumbnail_url;
  }
  element.dataset.starred = String(image.starred);
  setParts(element, {
    title: excerpt(image.prompt),
    origin: joined(image.model, image.node_id),
    seed: `seed ${image.seed}`,
    size: size(image.width, image.height),
  });
  setTime(part(element, "created"), image.created_at);
}
