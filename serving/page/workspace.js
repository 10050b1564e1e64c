/**
 * The stage with its tools, keys and list of objects, which clips, pictures and cameras share.
 * What a click means is up to the mode that is in it: see enter().
 */

import { byId, choice } from "./view/dom.js";
import { Gestures } from "./view/gestures.js";
import { showHelp } from "./view/help.js";
import { listenToKeys } from "./view/keys.js";
import { ObjectList } from "./view/objects.js";
import { Stage } from "./view/stage.js";
import { Timeline } from "./view/timeline.js";

const STEP = 1.4;

export class Workspace {
  constructor() {
    this.mode = null;
    this.tool = "plus";
    this.stage = new Stage(byId("canvas"));
    this.gestures = new Gestures(this.stage, {
      tool: () => this.tool,
      onClick: (x, y, label) => this.mode?.click(x, y, label),
      onBox: (box) => this.mode?.box(box),
      onHover: (x, y) => this.mode?.hover?.(x, y),
      onView: () => this.#viewChanged(),
    });
    this.objects = new ObjectList({
      choose: (object) => this.mode?.choose(object),
      rename: (object, name) => this.mode?.rename(object, name),
      remove: (object) => this.mode?.remove(object),
      toggle: (object) => this.mode?.toggle(object),
    });
    this.timeline = new Timeline((frame) => this.mode?.seek(frame));
    this.showTool = choice(byId("tools"), "tool", (tool) => this.setTool(tool));
    this.#wireButtons();
    listenToKeys(this.#keys());
    this.stage.onView = () => this.#viewChanged();
  }

  /**
   * Hands the stage to a mode: an object with click(x, y, label), box(box), choose(object),
   * remove(object), newObject(), keys (by name, see view/keys.js), and as far as it has them
   * hover, rename, toggle, seek, viewChanged, undo, redo, toggleMasks.
   */
  enter(mode) {
    this.mode = mode;
    byId("opener").hidden = true;
    byId("editor").hidden = false;
    this.stage.cross = null;
    this.setTool("plus");
    this.stage.viewport.fit();
  }

  leave() {
    this.mode = null;
    this.gestures.cancel();
    this.stage.show({});
    this.busy(null);
    this.hint(null);
    byId("editor").hidden = true;
    byId("opener").hidden = false;
  }

  setTool(tool) {
    this.tool = tool;
    this.showTool(tool);
    byId("stage").classList.toggle("hand", tool === "hand");
  }

  /** A line over the stage that says what to do; null for none. */
  hint(text) {
    byId("hint").hidden = !text;
    byId("hint").textContent = text ?? "";
  }

  /** What is waited for; null for nothing. It shows once it takes a moment. */
  busy(text) {
    byId("stage-busy").hidden = !text;
    if (text) byId("busy-text").textContent = text;
  }

  #viewChanged() {
    const { viewport } = this.stage;
    byId("zoom-value").textContent = `${Math.round(viewport.scale * 100)}%`;
    this.mode?.viewChanged?.();
  }

  #zoom(factor) {
    if (factor) this.stage.viewport.zoom(factor);
    else this.stage.viewport.fit();
    this.stage.redraw();
    this.#viewChanged();
  }

  #wireButtons() {
    const actions = {
      undo: () => this.mode?.undo?.(),
      redo: () => this.mode?.redo?.(),
      "masks-shown": () => this.mode?.toggleMasks?.(),
      "zoom-in": () => this.#zoom(STEP),
      "zoom-out": () => this.#zoom(1 / STEP),
      "zoom-fit": () => this.#zoom(null),
      "new-object": () => this.mode?.newObject(),
      "help-button": showHelp,
    };
    for (const [id, act] of Object.entries(actions)) byId(id).addEventListener("click", act);
  }

  #keys() {
    const own = {
      fit: () => this.#zoom(null),
      zoomIn: () => this.#zoom(STEP),
      zoomOut: () => this.#zoom(1 / STEP),
      help: showHelp,
      box: () => this.setTool("box"),
      hand: () => this.setTool("hand"),
      switchSign: () => this.setTool(this.tool === "plus" ? "minus" : "plus"),
      undo: () => this.mode?.undo?.(),
      redo: () => this.mode?.redo?.(),
      masks: () => this.mode?.toggleMasks?.(),
      newObject: () => this.mode?.newObject(),
      up: (event) => this.#moveCross(event, 0, -1),
      down: (event) => this.#moveCross(event, 0, 1),
      left: (event) => this.#moveCross(event, -1, 0) || this.mode?.keys.left?.(event),
      right: (event) => this.#moveCross(event, 1, 0) || this.mode?.keys.right?.(event),
      enter: (event) => this.#clickCross(event.shiftKey),
    };
    const names = [
      "first",
      "last",
      "play",
      "track",
      "automatic",
      "remove",
      "rename",
      "choose",
      "cancel",
    ];
    for (const name of names) own[name] = (event) => this.mode?.keys[name]?.(event);
    const canvas = byId("canvas");
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && this.#showCross());
    canvas.addEventListener("blur", () => this.#setCross(null));
    return own;
  }

  #showCross() {
    const { width, height } = this.stage.viewport.frame;
    this.#setCross([width / 2, height / 2]);
  }

  #setCross(place) {
    this.stage.cross = place;
    this.stage.redraw();
  }

  #moveCross(event, x, y) {
    const { cross, viewport } = this.stage;
    if (!cross) return false;
    const step = (event.shiftKey ? 40 : 8) / viewport.scale;
    this.#setCross(viewport.nearest(cross[0] + x * step, cross[1] + y * step));
    this.mode?.hover?.(...this.stage.cross);
    return true;
  }

  #clickCross(excludes) {
    const { cross } = this.stage;
    if (cross) this.mode?.click(...cross, excludes || this.tool === "minus" ? 0 : 1);
  }
}
