/** Plays the clip at its own rate, or as fast as its frames come. */

const USUAL_RATE = 24;

export class Player {
  #run = 0;

  /** `show(frame)` is a promise that ends when the frame can be seen. */
  constructor(project, show) {
    this.project = project;
    this.show = show;
    this.playing = false;
  }

  toggle() {
    if (this.playing) this.stop();
    else this.#play();
  }

  stop() {
    this.#run++;
    if (!this.playing) return;
    this.playing = false;
    this.project.changed();
  }

  async #play() {
    const { project } = this;
    const run = ++this.#run;
    const pause = 1000 / (project.fps || USUAL_RATE);
    this.playing = true;
    if (project.frame >= project.numFrames - 1) project.goTo(0);
    project.changed();
    while (run === this.#run && project.frame < project.numFrames - 1) {
      const due = performance.now() + pause;
      const next = project.frame + 1;
      await this.show(next).catch(() => this.stop());
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
      if (run === this.#run) project.goTo(next);
    }
    if (run === this.#run) this.stop();
  }
}
