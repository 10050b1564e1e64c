/** One run of the tracker through the clip: its masks, progress, rate, and its cancelling. */

import { ApiError } from "../server/api.js";

/** Frames over which the rate is taken. */
const WINDOW = 24;

export class Tracking {
  constructor(api, project) {
    this.api = api;
    this.project = project;
    this.running = null;
  }

  /**
   * Tracks in a direction ("forward", "backward", "both"), from frame `start` or, where that is
   * null, from the first prompt, unless `signal` is aborted. Gives how it ended: "complete" or "cancelled". Throws ApiError.
   */
  async run(direction, start, signal) {
    const { api, project } = this;
    const times = [performance.now()];
    this.running = { done: 0, total: 0, rate: null, left: null, cancelling: false, follow: true };
    project.changed();
    try {
      let end = null;
      // to the end of the answer: only then the server takes another one
      for await (const line of api.propagate(project.id, { direction, start }, signal)) {
        if (line.end) {
          end = line;
          continue;
        }
        project.putMasks(line);
        this.#note(line, times);
        if (this.running.follow) project.goTo(line.frame);
      }
      if (end) return ended(end, project);
      throw new ApiError(0, "The server ended its answer in the middle. Track again.");
    } finally {
      this.running = null;
      project.changed();
    }
  }

  async cancel() {
    if (!this.running || this.running.cancelling) return;
    this.running.cancelling = true;
    this.project.changed();
    await this.api.cancel(this.project.id);
  }

  #note({ done, total }, times) {
    times.push(performance.now());
    if (times.length > WINDOW) times.shift();
    const rate = (1000 * (times.length - 1)) / Math.max(1, times.at(-1) - times[0]);
    Object.assign(this.running, { done, total, rate, left: (total - done) / rate });
  }
}

function ended({ end, error }, project) {
  if (end === "failed") throw new ApiError(0, error ?? "Tracking failed.");
  if (end === "complete") project.stale = false;
  return end;
}

/** "3 s", "2 min 5 s": a time that is left, in seconds. */
export function duration(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
