/** What is known of the open clip or picture: objects, prompts, masks. Changes tell listeners. */

import { Signal } from "./signal.js";
import { inRanges, withFrame } from "./ranges.js";

/** Nothing clicked: the prompt of an object that has none on a frame. */
export const NOTHING = Object.freeze({ points: [], labels: [], box: null, mask: null });

export function isNothing(prompt) {
  return !prompt.points.length && !prompt.box && !prompt.mask;
}

export class Project extends Signal {
  /** `session`: the server's description; `source`: how to open it again; `title`: its name. */
  constructor(session, source, title) {
    super();
    this.source = source;
    this.title = title;
    this.frame = 0;
    this.active = null;
    this.masksShown = true;
    this.hidden = new Set();
    this.pending = [];
    this.stale = false;
    this.names = new Map();
    this.prompts = new Map();
    this.masks = new Map();
    this.describe(session);
    this.active = this.objects[0] ?? null;
    this.frame = session.prompts[0]?.frame ?? 0;
  }

  /** Takes over what the server says of the session. */
  describe(session) {
    const { session: id, kind, width, height, num_frames: numFrames, fps } = session;
    Object.assign(this, { id, kind, width, height, numFrames, fps, tracked: session.tracked });
    this.objects = session.objects.map(({ object }) => object);
    for (const { object, name } of session.objects) this.names.set(object, name);
    const before = this.prompts;
    this.prompts = new Map(
      session.prompts.map((prompt) => {
        const key = keyOf(prompt.frame, prompt.object);
        // the server says that there is a mask, and keeps which one
        const mask = prompt.mask ? (before.get(key)?.mask ?? this.maskOf(prompt)) : null;
        const { points = [], labels = [], box = null } = prompt;
        return [key, { points, labels, box, mask }];
      }),
    );
    this.#forget((object) => !this.objects.includes(object));
    this.changed();
  }

  get isVideo() {
    return this.kind === "video";
  }

  get hasMasks() {
    return this.tracked.length > 0 && this.objects.length > 0;
  }

  /** Whether there are masks on frames without a prompt. */
  get wasTracked() {
    const prompted = new Set(this.allPrompts().map(({ frame }) => frame)).size;
    const known = this.tracked.reduce((sum, [first, last]) => sum + last - first + 1, 0);
    return known > prompted;
  }

  prompt(frame, object) {
    return this.prompts.get(keyOf(frame, object)) ?? NOTHING;
  }

  setPrompt(frame, object, prompt) {
    if (isNothing(prompt)) this.prompts.delete(keyOf(frame, object));
    else this.prompts.set(keyOf(frame, object), prompt);
    if (!isNothing(prompt) && !this.objects.includes(object)) this.objects.push(object);
    this.changed();
  }

  /** [{frame, object, prompt}] of all prompts, by frame. */
  allPrompts() {
    return [...this.prompts]
      .map(([key, prompt]) => {
        const [frame, object] = key.split(":").map(Number);
        return { frame, object, prompt };
      })
      .sort((a, b) => a.frame - b.frame);
  }

  /** The masks of a frame as the server gave them: {frame, objects}. */
  putMasks({ frame, objects }) {
    this.masks.set(frame, objects);
    if (objects.length) this.tracked = withFrame(this.tracked, frame);
    this.changed();
  }

  maskOf({ frame, object }) {
    return this.masks.get(frame)?.find((entry) => entry.object === object)?.mask ?? null;
  }

  /** Whether the server has masks of this frame that are not here yet. */
  lacksMasks(frame) {
    return !this.masks.has(frame) && inRanges(this.tracked, frame);
  }

  /** Whether the active object has had no prompt yet. */
  get isWaiting() {
    return this.active !== null && !this.names.has(this.active);
  }

  /** Makes an object that waits for its first prompt the active one; its id is new. */
  startObject() {
    if (this.isWaiting) return;
    const id = Math.max(0, ...this.names.keys(), ...this.objects) + 1;
    this.choose(id);
  }

  nameOf(object) {
    return this.names.get(object) || `Object ${object}`;
  }

  goTo(frame) {
    this.frame = Math.min(this.numFrames - 1, Math.max(0, Math.round(frame)));
    this.changed();
  }

  choose(object) {
    this.active = object;
    this.changed();
  }

  #forget(gone) {
    for (const [frame, entries] of this.masks) {
      const left = entries.filter(({ object }) => !gone(object));
      if (left.length !== entries.length) this.masks.set(frame, left);
    }
    if (this.active !== null && gone(this.active)) this.active = this.objects.at(-1) ?? null;
  }
}

function keyOf(frame, object) {
  return `${frame}:${object}`;
}
