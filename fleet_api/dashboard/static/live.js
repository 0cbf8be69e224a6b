// The socket of events: opened again when it closes, whatever the reason (a slow reader is closed by the server with 1013).

import { report } from "./errors.js";
import { parse } from "./json.js";
import { pause } from "./timing.js";

const TYPES = "node_update,job_progress,job_complete";
const FIRST_WAIT = 300;
const LONGEST_WAIT = 5000;
const OPEN_TIMEOUT = 10_000;

export class Live {
  #socket = null;
  #wait = FIRST_WAIT;

  // `up` reads a snapshot: events that come meanwhile are given out at once, so that none is missed. `down` is told of every failed try.
  constructor({ event, up, down }) {
    this.event = event;
    this.up = up;
    this.down = down;
  }

  async run() {
    for (;;) {
      await this.#once();
      await this.down();
      await pause(this.#wait * (0.75 + Math.random() / 2));
      this.#wait = Math.min(LONGEST_WAIT, this.#wait * 1.6);
    }
  }

  // Let go of a socket that seems open and is dead.
  drop() {
    this.#socket?.close();
  }

  #once() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws?types=${TYPES}`);
    this.#socket = socket;
    return new Promise((ended) => {
      socket.addEventListener("open", async () => {
        try {
          await this.up();
          this.#wait = FIRST_WAIT;
        } catch (error) {
          report(error);
          socket.close();
        }
      });
      socket.addEventListener("message", (message) => {
        const { type, data } = parse(message.data);
        this.event(type, data);
      });
      // A closing handshake with a dead peer takes a minute; nobody waits for it here.
      const close = socket.close.bind(socket);
      socket.close = () => {
        close();
        ended();
      };
      socket.addEventListener("close", () => ended());
      setTimeout(() => socket.readyState === WebSocket.CONNECTING && socket.close(), OPEN_TIMEOUT);
    });
  }
}
