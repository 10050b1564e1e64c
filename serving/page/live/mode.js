/** The mode in which the camera is open: clicks go to a live tracker, its masks come back. */

import { byId } from "../view/dom.js";
import { notify } from "../view/notices.js";
import { LiveStream } from "./stream.js";

/** A click is shown for so long, in milliseconds. */
const MARK_SHOWN = 1200;
const RATE_WINDOW = 20;

export class Live {
  #stopped = false;
  #objects = [];
  #active = null;
  #next = 1;
  #marks = [];
  #latest = null;
  #times = [];
  #masksShown = true;

  constructor(api, workspace, camera, ended) {
    Object.assign(this, { workspace, camera, ended });
    this.keys = {
      remove: () => this.#objects.includes(this.#active) && this.remove(this.#active),
      choose: ({ key }) =>
        Number(key) <= this.#objects.length && this.choose(this.#objects[key - 1]),
      cancel: () => workspace.gestures.cancel(),
    };
    this.stream = new LiveStream(api.liveAddress(), {
      onReady: () => (byId("facts").textContent = camera.size.join(" × ")),
      onFrame: (tracked) => this.#tracked(tracked),
      onError: notify,
      onEnd: (line) => this.stop(line),
    });
    for (const id of ["timeline", "track-card", "download-card", "automatic"])
      byId(id).hidden = true;
    for (const id of ["undo", "redo"]) byId(id).disabled = true;
    byId("live-card").hidden = byId("live-facts").hidden = false;
    workspace.enter(this);
    this.#render();
    this.#loop();
  }

  /** Ends the camera and the stream; `line` says why where it was not asked for. */
  stop(line = null) {
    if (this.#stopped) return;
    this.#stopped = true;
    this.stream.close();
    this.camera.close();
    byId("live-card").hidden = byId("live-facts").hidden = true;
    this.workspace.leave();
    if (line) notify(line);
    this.ended();
  }

  click(x, y, label) {
    this.#prompt({ points: [[x, y]], labels: [label] });
  }

  box(box) {
    this.#prompt({ box });
  }

  choose(object) {
    this.#active = object;
    this.#render();
  }

  newObject() {
    this.#active = this.#next;
    this.#render();
  }

  remove(object) {
    this.stream.sendAction({ remove: object });
    this.#objects = this.#objects.filter((other) => other !== object);
    if (this.#active === object) this.#active = this.#objects.at(-1) ?? null;
    if (!this.#objects.length) this.#latest = null;
    this.#render();
  }

  toggleMasks() {
    this.#masksShown = !this.#masksShown;
    byId("masks-shown").setAttribute("aria-pressed", String(this.#masksShown));
  }

  /** A prompt belongs to the frame that was seen: that one goes out next, once more. */
  async #prompt(prompt) {
    const seen = this.#latest ?? (await this.camera.take());
    if (this.#stopped) return;
    const object = this.#active ?? this.#next;
    if (!this.#objects.includes(object)) this.#objects.push(object);
    this.#next = Math.max(this.#next, object + 1);
    this.#active = object;
    this.stream.sendAction({ prompt: { object, ...prompt } });
    this.stream.sendFrame(seen.bitmap, seen.blob);
    const mark = { object, points: [], labels: [], box: null, ...prompt };
    this.#marks.push(mark);
    setTimeout(() => (this.#marks = this.#marks.filter((other) => other !== mark)), MARK_SHOWN);
    this.#render();
  }

  #tracked(tracked) {
    this.#latest = tracked;
    this.#times.push(performance.now());
    if (this.#times.length > RATE_WINDOW) this.#times.shift();
    this.#facts();
  }

  /** Once for each picture of the screen. */
  #loop() {
    if (this.#stopped) return;
    requestAnimationFrame(() => this.#loop());
    const { camera, stream, workspace } = this;
    this.#checkSize();
    if (this.#objects.length && stream.isFree && !this.taking) {
      this.taking = true;
      camera.take().then(({ bitmap, blob }) => {
        this.taking = false;
        if (!this.#stopped && stream.isFree && blob) stream.sendFrame(bitmap, blob);
      });
    }
    const latest = this.#objects.length ? this.#latest : null;
    const masks =
      latest && this.#masksShown
        ? latest.objects.filter(({ object }) => this.#objects.includes(object))
        : [];
    workspace.stage.show({
      bitmap: latest?.bitmap ?? camera.video,
      size: camera.size,
      masks,
      marks: this.#marks,
      active: this.#active,
    });
  }

  /** A phone that is turned gives pictures of another size, which the tracker does not know. */
  #checkSize() {
    const size = this.camera.size.join(" × ");
    if (this.size && this.size !== size) {
      byId("facts").textContent = size;
      if (this.#objects.length) {
        this.stream.sendAction({ reset: true });
        this.#objects = [];
        this.#active = this.#latest = null;
        notify("The picture has another size now: click on the objects again.", "info");
        this.#render();
      }
    }
    this.size = size;
  }

  #facts() {
    const [times, latest] = [this.#times, this.#latest];
    const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : 0;
    const passed = latest?.dropped ? ` · ${latest.dropped} left out` : "";
    byId("live-facts").textContent = this.#objects.length
      ? `${rate.toFixed(1)} frames/s${passed}`
      : "Live";
  }

  #render() {
    const waits = this.#active !== null && !this.#objects.includes(this.#active);
    const rows = [...this.#objects, ...(waits ? [this.#active] : [])].map((object) => ({
      object,
      name: `Object ${object}`,
      own: "",
      text: this.#objects.includes(object) ? "tracked" : "click on it in the picture",
      active: object === this.#active,
      hidden: false,
      waiting: !this.#objects.includes(object),
    }));
    // a camera's objects have no names and cannot be hidden
    this.workspace.objects.render(rows, { simple: true });
    this.workspace.hint(this.#objects.length ? null : "Click on an object while it is in view");
    this.#facts();
  }
}
