/** The live stream: frames go out, tracked frames come back; what is in between is kept here. */

import { trackedFrame } from "../server/live_wire.js";

/** Frames on their way at most: one in work, one that waits for it. */
const UNDERWAY = 2;
/** A frame that has had no answer for so long gets none any more. */
const PATIENCE = 3000;

export class LiveStream {
  #socket;
  #sent = new Map();
  #count = 0;

  /** `onFrame({frame, dropped, objects, bitmap, blob})`, `onError(line)`, `onEnd(line or null)`. */
  constructor(address, { onReady, onFrame, onError, onEnd }) {
    Object.assign(this, { onReady, onFrame, onError });
    this.#socket = new WebSocket(address);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onmessage = ({ data }) => this.#message(data);
    this.#socket.onclose = ({ code, reason }) => {
      const told = reason || (code === 1000 || code === 1005 ? null : "The live stream has ended.");
      if (!this.closing) onEnd(told);
    };
  }

  /** Whether the server keeps up: another frame may go out. */
  get isFree() {
    for (const [index, { time }] of this.#sent) {
      if (performance.now() - time > PATIENCE) this.#sent.delete(index);
    }
    return this.#socket.readyState === WebSocket.OPEN && this.#sent.size < UNDERWAY;
  }

  sendFrame(bitmap, blob) {
    this.#sent.set(this.#count++, { bitmap, blob, time: performance.now() });
    this.#socket.send(blob);
  }

  /** {prompt: ...}, {remove: object} or {reset: true}. */
  sendAction(action) {
    this.#socket.send(JSON.stringify(action));
  }

  close() {
    this.closing = true;
    this.#socket.close(1000);
  }

  #message(data) {
    if (typeof data !== "string") {
      const tracked = trackedFrame(data);
      const sent = this.#sent.get(tracked.frame);
      // frames before it were passed over
      for (const index of this.#sent.keys()) if (index <= tracked.frame) this.#sent.delete(index);
      if (sent) this.onFrame({ ...tracked, bitmap: sent.bitmap, blob: sent.blob });
      return;
    }
    const message = JSON.parse(data);
    if (message.error) {
      this.#sent.clear();
      this.onError(message.error);
    } else if (message.session) this.onReady(message);
  }
}
