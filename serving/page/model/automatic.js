/** Masks of everything in a frame, to choose objects from. */

import { ApiError } from "../server/api.js";
import { MaskPoints } from "../masks/rle.js";

/**
 * Points across the frame, and how sure and how steady a mask must be. A person chooses among
 * what is found, so that finer searches may also find less certain masks.
 */
const SEARCHES = {
  coarse: { points_per_side: 8, pred_iou_thresh: 0.8, stability_score_thresh: 0.95 },
  normal: { points_per_side: 16, pred_iou_thresh: 0.7, stability_score_thresh: 0.92 },
  fine: { points_per_side: 32, pred_iou_thresh: 0.6, stability_score_thresh: 0.9 },
};

export class Automatic {
  constructor(api, project) {
    this.api = api;
    this.project = project;
    this.clear();
  }

  clear() {
    this.frame = null;
    this.found = [];
    this.hovered = null;
    this.progress = null;
    this.project.changed();
  }

  /** Whether there are masks to choose from on the frame that is shown. */
  get choosing() {
    return this.frame === this.project.frame && this.found.length > 0;
  }

  get running() {
    return this.progress !== null;
  }

  /**
   * Searches the frame with a detail "coarse", "normal" or "fine". Gives the number of masks, or
   * null for a search that was cancelled.
   */
  async search(detail, signal) {
    const { api, project } = this;
    const frame = project.frame;
    this.clear();
    this.progress = 0;
    try {
      const options = { frame, ...SEARCHES[detail] };
      let end = null;
      for await (const line of api.automatic(project.id, options, signal)) {
        if (line.end) end = line;
        else this.progress = line.done / Math.max(1, line.total);
        project.changed();
      }
      if (end) return this.#ended(end, frame);
      throw new ApiError(0, "The server ended its answer in the middle. Search again.");
    } finally {
      this.progress = null;
      project.changed();
    }
  }

  cancel() {
    return this.api.cancel(this.project.id);
  }

  /** The smallest mask at a place of the frame, or null. */
  at(x, y) {
    // the largest come first
    return this.found.findLast((entry) => entry.pixels.has(x, y)) ?? null;
  }

  hover(x, y) {
    const hovered = this.choosing ? this.at(x, y) : null;
    if (hovered === this.hovered) return;
    this.hovered = hovered;
    this.project.changed();
  }

  /** Takes a mask out of the choice: it is an object now. */
  take(entry) {
    this.found = this.found.filter((other) => other !== entry);
    this.hovered = null;
    this.project.changed();
  }

  #ended({ end, error, masks }, frame) {
    if (end === "failed") throw new ApiError(0, error ?? "The search failed.");
    if (end === "cancelled") return null;
    this.frame = frame;
    this.found = masks.map((entry) => ({ ...entry, pixels: new MaskPoints(entry.mask) }));
    return masks.length;
  }
}
