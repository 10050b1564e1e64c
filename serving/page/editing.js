/** The mode in which a clip or a picture is open: clicks become prompts of its session. */

import { Automatic } from "./model/automatic.js";
import { Edits } from "./model/edits.js";
import { Frames } from "./model/frames.js";
import { Tracking } from "./model/tracking.js";
import { save } from "./view/save.js";
import { byId } from "./view/dom.js";
import { notify } from "./view/notices.js";
import { Player } from "./view/player.js";
import * as panel from "./view/panel.js";
import { sceneOf } from "./view/scene.js";

/** Wider frames come at this width until they are looked at closely. */
const USUAL_WIDTH = 1280;
const TOUCH = matchMedia("(pointer: coarse)");

export class Editing {
  #loading = false;
  #unreadable = null;
  #saving = null;
  #closing = new AbortController();

  /** `expired(project)` is called when the server no longer knows the session. */
  constructor(api, workspace, project, expired) {
    Object.assign(this, { api, workspace, project, expired });
    this.frames = new Frames(api, project.id);
    this.edits = new Edits(api, project, (error) => this.fail(error));
    this.tracking = new Tracking(api, project);
    this.automatic = new Automatic(api, project);
    this.player = new Player(project, (frame) => this.#ready(frame));
    this.shown = { frame: null, bitmap: null, width: null };
    this.keys = this.#keys();
    this.unlisten = project.listen(() => this.#render());
    byId("timeline").hidden = !project.isVideo;
    byId("automatic").hidden = false;
    byId("download-card").hidden = false;
    workspace.enter(this);
    this.#render();
  }

  close() {
    this.#closing.abort();
    this.unlisten();
    this.player.stop();
    this.frames.close();
    this.workspace.leave();
  }

  /** The session is another one now; its prompts have to be given to it. */
  async reopen(session) {
    this.frames = new Frames(this.api, session.session);
    this.automatic.clear();
    await this.edits.reopen(session);
  }

  // what the workspace asks for

  click(x, y, label) {
    const { automatic, project } = this;
    if (this.shown.frame !== project.frame) return;
    const chosen = automatic.choosing && label === 1 ? automatic.at(x, y) : null;
    if (chosen) this.#adopt(chosen);
    else this.edits.click(project.frame, this.#object(), [x, y], label);
  }

  box(box) {
    if (this.shown.frame === this.project.frame)
      this.edits.box(this.project.frame, this.#object(), box);
  }

  hover(x, y) {
    this.automatic.hover(x, y);
  }

  choose(object) {
    const { project } = this;
    project.choose(object);
    const frames = project.allPrompts().filter((entry) => entry.object === object);
    // an object is where it was clicked, unless it can be seen here
    if (frames.length && !project.maskOf({ frame: project.frame, object }))
      this.seek(frames[0].frame);
  }

  newObject() {
    this.project.startObject();
  }

  rename(object, name) {
    this.edits.rename(object, name);
  }

  remove(object) {
    this.edits.remove(object);
  }

  toggle(object) {
    const { project } = this;
    if (!project.hidden.delete(object)) project.hidden.add(object);
    project.changed();
  }

  toggleMasks() {
    this.project.masksShown = !this.project.masksShown;
    this.project.changed();
  }

  seek(frame) {
    this.player.stop();
    if (this.tracking.running) this.tracking.running.follow = false;
    this.project.goTo(frame);
  }

  undo() {
    this.edits.undo();
  }

  redo() {
    this.edits.redo();
  }

  viewChanged() {
    this.#follow();
  }

  // what the panel asks for

  async track(direction, fromFrame) {
    if (this.#works || !this.project.objects.length) return;
    this.player.stop();
    try {
      const start = fromFrame ? this.project.frame : null;
      const end = await this.tracking.run(direction, start, this.#closing.signal);
      if (end === "cancelled") notify("Cancelled. The frames so far are kept.", "info");
    } catch (error) {
      await this.fail(error);
    }
  }

  async find(detail) {
    if (this.#works) return;
    try {
      const count = await this.automatic.search(detail, this.#closing.signal);
      if (count === 0) notify("Nothing found. Try a finer search, or click.", "info");
    } catch (error) {
      await this.fail(error);
    }
  }

  leaveFind() {
    if (this.automatic.running) this.automatic.cancel().catch((error) => this.fail(error));
    else this.automatic.clear();
  }

  async download(file) {
    const { api, project } = this;
    if (this.#saving) return;
    this.#saving = file;
    project.changed();
    try {
      const name = file === "overlay" ? `overlay.${project.isVideo ? "mp4" : "png"}` : file;
      save(await api.result(project.id, name, this.#closing.signal), project.title, name);
    } catch (error) {
      await this.fail(error);
    } finally {
      this.#saving = null;
      project.changed();
    }
  }

  /** Says what went wrong; a session that is gone can be opened again. */
  async fail(error) {
    // what was under way when the clip was closed
    if (this.#closing.signal.aborted) return;
    if (error.status === 404) {
      const gone = await this.api.session(this.project.id).then(
        () => false,
        (other) => other.status === 404,
      );
      if (gone) {
        this.expired(this);
        return;
      }
    }
    if (!error.status && error.name !== "ApiError") console.error(error);
    notify(error.message);
  }

  /** The server does one of the two at a time. */
  get #works() {
    return this.tracking.running !== null || this.automatic.running;
  }

  #object() {
    const { project } = this;
    if (project.active === null) project.startObject();
    return project.active;
  }

  #adopt(entry) {
    const { automatic, project } = this;
    const frame = automatic.frame;
    const empty = project.active !== null && project.isWaiting;
    if (!empty) {
      project.active = null;
      project.startObject();
    }
    automatic.take(entry);
    this.edits.adopt(frame, project.active, entry.mask);
  }

  // what is seen

  #render() {
    const { project, workspace, edits, tracking, automatic } = this;
    const waits = project.isWaiting ? [this.#waitingRow()] : [];
    workspace.objects.render([...project.objects.map((object) => this.#row(object)), ...waits]);
    panel.renderTools(project, edits, this.player.playing);
    panel.renderTracking(project, tracking.running, automatic.running);
    panel.renderAutomatic(automatic, project.isVideo, tracking.running !== null);
    panel.renderDownloads(project, this.#saving);
    if (project.isVideo) workspace.timeline.render(project);
    workspace.hint(this.#hint());
    workspace.busy(edits.busy ? "Segmenting" : this.#loading ? "Loading" : null);
    this.#draw();
    this.#follow();
  }

  #row(object) {
    const { project } = this;
    return {
      object,
      name: project.nameOf(object),
      own: project.names.get(object) ?? "",
      text: panel.objectText(project, object),
      active: object === project.active,
      hidden: project.hidden.has(object),
      waiting: false,
    };
  }

  #waitingRow() {
    const object = this.project.active;
    return {
      object,
      name: `Object ${object}`,
      own: "",
      text: "click on it in the frame",
      active: true,
      hidden: false,
      waiting: true,
    };
  }

  #hint() {
    const { project, automatic } = this;
    if (this.shown.frame === null || project.pending.length) return null;
    if (automatic.choosing)
      return TOUCH.matches ? "Tap on what becomes an object" : "Click on what becomes an object";
    if (project.objects.length && !project.isWaiting) return null;
    const more = project.objects.length ? "the next object" : "an object";
    return TOUCH.matches ? `Tap on ${more}` : `Click on ${more}, or drag a box around it`;
  }

  #draw() {
    if (this.shown.bitmap)
      this.workspace.stage.show(sceneOf(this.project, this.shown, this.automatic));
  }

  #width() {
    const { project, player, workspace } = this;
    if (project.width <= USUAL_WIDTH) return null;
    const seen = project.width * workspace.stage.viewport.scale * devicePixelRatio;
    return player.playing || seen <= USUAL_WIDTH ? USUAL_WIDTH : null;
  }

  /** Loads what is to be seen; while one frame comes others are passed over, the newest wins. */
  async #follow() {
    if (this.#loading) return;
    const { project, shown } = this;
    const [frame, width] = [project.frame, this.#width()];
    if ((shown.frame === frame && shown.width === width) || this.#unreadable === frame) {
      this.#fetchMasks(frame);
      return;
    }
    this.#loading = true;
    try {
      const [bitmap] = await Promise.all([this.frames.get(frame, width), this.#fetchMasks(frame)]);
      this.shown = { frame, bitmap, width };
      this.#unreadable = null;
      this.frames.get(Math.min(frame + 1, project.numFrames - 1), width).catch(() => {});
    } catch (error) {
      this.#unreadable = frame;
      this.fail(error);
    } finally {
      this.#loading = false;
      project.changed();
    }
  }

  async #fetchMasks(frame) {
    const { api, project } = this;
    if (!project.lacksMasks(frame) || this.asked === frame) return;
    this.asked = frame;
    try {
      const masks = await api.masks(project.id, frame, this.#closing.signal);
      if (project.lacksMasks(frame)) project.putMasks(masks);
    } catch (error) {
      this.fail(error);
    } finally {
      this.asked = null;
    }
  }

  async #ready(frame) {
    await Promise.all([this.frames.get(frame, this.#width()), this.#fetchMasks(frame)]);
  }

  #keys() {
    const step = (by) => (event) =>
      this.project.isVideo && this.seek(this.project.frame + (event.shiftKey ? 10 * by : by));
    return {
      left: step(-1),
      right: step(1),
      first: () => this.project.isVideo && this.seek(0),
      last: () => this.project.isVideo && this.seek(this.project.numFrames - 1),
      play: () => this.project.isVideo && this.player.toggle(),
      track: () => this.project.isVideo && byId("track").click(),
      automatic: () => byId("find").click(),
      remove: () =>
        this.project.objects.includes(this.project.active) && this.remove(this.project.active),
      rename: () =>
        this.project.objects.includes(this.project.active) &&
        this.workspace.objects.rename(this.project.active),
      choose: ({ key }) =>
        Number(key) <= this.project.objects.length && this.choose(this.project.objects[key - 1]),
      cancel: () => this.#escape(),
    };
  }

  #escape() {
    this.workspace.gestures.cancel();
    if (this.tracking.running) byId("track-cancel").click();
    else if (this.automatic.running || this.automatic.choosing) this.leaveFind();
    else if (this.project.isWaiting) this.project.choose(this.project.objects.at(-1) ?? null);
  }
}
