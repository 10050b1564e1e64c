/** Something that tells its listeners once that it changed, however often it did just now. */

export class Signal {
  #listeners = new Set();
  #waiting = false;

  /** Calls `listener` after each round of changes; returns what ends that. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed() {
    if (this.#waiting) return;
    this.#waiting = true;
    queueMicrotask(() => {
      this.#waiting = false;
      for (const listener of [...this.#listeners]) listener();
    });
  }
}
