// Work that many events ask for is done once for all of them.

import { report } from "./errors.js";

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Return a function that runs `work`: at once if the last run is `ms` ago, else as soon as it is. However often it is called,
// there is one run at a time, and one more if it was asked for meanwhile.
export function limited(work, ms) {
  let asked = false;
  let running = null;
  let last = -Infinity;
  async function run() {
    while (asked) {
      await pause(Math.max(0, last + ms - performance.now()));
      asked = false;
      try {
        await work();
      } catch (error) {
        report(error);
      }
      last = performance.now();
    }
    running = null;
  }
  return () => {
    asked = true;
    running ??= run();
    return running;
  };
}
