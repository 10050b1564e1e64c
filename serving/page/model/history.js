/** What was done and can be undone. An action is {frame, object, redo(), undo()}. */

const LONGEST = 500;

export class History {
  #done = [];
  #undone = [];

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** Does the action, and remembers it if that succeeds. */
  async run(action) {
    await action.redo();
    this.#done.push(action);
    if (this.#done.length > LONGEST) this.#done.shift();
    this.#undone = [];
  }

  /** The action undone, or undefined where there is none. */
  async undo() {
    const action = this.#done.at(-1);
    if (!action) return undefined;
    await action.undo();
    this.#undone.push(this.#done.pop());
    return action;
  }

  async redo() {
    const action = this.#undone.at(-1);
    if (!action) return undefined;
    await action.redo();
    this.#done.push(this.#undone.pop());
    return action;
  }
}
