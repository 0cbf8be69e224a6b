// Times on the page are written as how long ago they were, and written anew as they age.

import { ago, exactly } from "./format.js";
import { setText } from "./dom.js";

const EVERY = 15_000;

export function setTime(element, rfc3339) {
  element.dateTime = rfc3339 ?? "";
  element.title = exactly(rfc3339);
  setText(element, ago(rfc3339));
}

export function startClock() {
  const tick = () => {
    for (const element of document.querySelectorAll("time[data-part]")) setTime(element, element.getAttribute("datetime") || null);
  };
  tick();
  setInterval(tick, EVERY);
}
