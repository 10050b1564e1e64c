/**
 * Changes of a project, each sent to the server: one after the other, in the order in which they
 * were asked for, and each can be undone.
 */

import { History } from "./history.js";
import { NOTHING, isNothing } from "./project.js";

export class Edits {
  #queue = Promise.resolve();
  #waiting = 0;

  /** `failed(error)` is told what went wrong; the project is then what the server says it is. */
  constructor(api, project, failed) {
    this.api = api;
    this.project = project;
    this.failed = failed;
    this.history = new History();
  }

  /** Whether the server has not answered yet. */
  get busy() {
    return this.#waiting > 0;
  }

  /** Adds a click [x, y], label 1 (part of the object) or 0. */
  click(frame, object, point, label) {
    const mark = { frame, object, point, label };
    this.project.pending.push(mark);
    const added = (prompt) => ({
      ...prompt,
      points: [...prompt.points, point],
      labels: [...prompt.labels, label],
      mask: null,
    });
    return this.#changePrompt(frame, object, added).finally(() => {
      this.project.pending = this.project.pending.filter((other) => other !== mark);
      this.project.changed();
    });
  }

  /** A box [x0, y0, x1, y1] in place of the one there was. */
  box(frame, object, box) {
    return this.#changePrompt(frame, object, (prompt) => ({ ...prompt, box, mask: null }));
  }

  /** A mask becomes the object as it is. */
  adopt(frame, object, mask) {
    return this.#changePrompt(frame, object, () => ({ ...NOTHING, mask }));
  }

  rename(object, name) {
    return this.#enqueue(() => {
      const before = this.project.names.get(object) ?? "";
      const set = async (value) => {
        this.project.names.set(object, value);
        this.project.changed();
        await this.api.rename(this.project.id, object, value);
      };
      return this.#do(
        this.project.frame,
        object,
        () => set(name),
        () => set(before),
      );
    });
  }

  remove(object) {
    return this.#enqueue(() => {
      const { api, project } = this;
      const prompts = project.allPrompts().filter((entry) => entry.object === object);
      const redo = async () => project.describe(await api.remove(project.id, object));
      const undo = async () => {
        for (const { frame, prompt } of prompts) await this.#send(frame, object, prompt);
        if (project.isVideo) project.stale = true;
      };
      return this.#do(project.frame, object, redo, undo);
    });
  }

  undo() {
    return this.#enqueue(async () => this.#show(await this.history.undo()));
  }

  redo() {
    return this.#enqueue(async () => this.#show(await this.history.redo()));
  }

  /** Gives the prompts of the project to a new session, in place of one that is gone. */
  reopen(session) {
    return this.#enqueue(async () => {
      const { project } = this;
      const prompts = project.allPrompts();
      const named = new Map(project.names);
      const { frame, active, wasTracked } = project;
      project.masks.clear();
      project.describe(session);
      project.names = named;
      for (const entry of prompts) await this.#send(entry.frame, entry.object, entry.prompt);
      project.stale = wasTracked;
      project.goTo(frame);
      project.choose(active);
    });
  }

  #changePrompt(frame, object, change) {
    const { names } = this.project;
    if (!names.has(object)) names.set(object, "");
    return this.#enqueue(() => {
      const before = this.project.prompt(frame, object);
      const after = change(before);
      return this.#do(
        frame,
        object,
        () => this.#send(frame, object, after),
        () => this.#send(frame, object, before),
      );
    });
  }

  async #do(frame, object, redo, undo) {
    await this.history.run({ frame, object, redo, undo });
  }

  #show(action) {
    if (!action) return;
    this.project.goTo(action.frame);
    if (this.project.objects.includes(action.object)) this.project.choose(action.object);
  }

  /** Replaces what the object has on the frame, here and on the server. */
  async #send(frame, object, prompt) {
    const { api, project } = this;
    const isNew = !project.objects.includes(object);
    project.setPrompt(frame, object, prompt);
    if (isNothing(prompt)) {
      project.putMasks(await api.clearPrompt(project.id, object, frame));
      // the last prompt takes the object with it
      project.describe(await api.session(project.id));
    } else {
      project.putMasks(await api.prompt(project.id, sent(frame, object, prompt)));
      const name = project.names.get(object) ?? "";
      project.names.set(object, name);
      if (isNew && name) await api.rename(project.id, object, name);
    }
    if (project.wasTracked) project.stale = true;
    project.changed();
  }

  #enqueue(task) {
    this.#waiting++;
    this.project.changed();
    const done = this.#queue.then(task).catch((error) => this.#repair(error));
    this.#queue = done.finally(() => {
      this.#waiting--;
      this.project.changed();
    });
    return this.#queue;
  }

  async #repair(error) {
    this.failed(error);
    try {
      this.project.describe(await this.api.session(this.project.id));
    } catch {
      // the first error says it all
    }
  }
}

function sent(frame, object, { points, labels, box, mask }) {
  if (mask) return { frame, object, mask };
  const clicks = points.length ? { points, labels } : {};
  return { frame, object, ...clicks, ...(box ? { box } : {}) };
}
