/** Turns pointers on the stage into clicks, boxes, and moves of the picture. */

/** CSS pixels a pointer may move and still click. */
const STILL = { mouse: 4, pen: 6, touch: 10 };
const SMALLEST_BOX = 3;

export class Gestures {
  #pointers = new Map();
  #pinch = null;

  /**
   * `tool()` gives "plus", "minus", "box" or "hand". Calls `onClick(x, y, label)`,
   * `onBox([x0, y0, x1, y1])` and `onHover(x, y)` in pixels of the frame, `onView()` when the
   * picture has moved.
   */
  constructor(stage, { tool, onClick, onBox, onHover, onView }) {
    Object.assign(this, { stage, tool, onClick, onBox, onHover, onView });
    const { canvas } = stage;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#forget(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    // a press of the mouse must not move the focus: arrow keys go on stepping through frames
    canvas.addEventListener("mousedown", (event) => event.preventDefault());
  }

  /** Leaves a box that is being dragged. */
  cancel() {
    this.#pointers.clear();
    this.#pinch = null;
    this.#draft(null);
  }

  #place({ clientX, clientY }) {
    const { left, top } = this.stage.canvas.getBoundingClientRect();
    return [clientX - left, clientY - top];
  }

  #down(event) {
    const { canvas } = this.stage;
    canvas.setPointerCapture(event.pointerId);
    const at = this.#place(event);
    this.#pointers.set(event.pointerId, { start: at, at, moved: false, button: event.button });
    if (this.#pointers.size === 2) {
      this.#draft(null);
      this.#pinch = this.#spread();
    }
  }

  #move(event) {
    const at = this.#place(event);
    const pointer = this.#pointers.get(event.pointerId);
    if (!pointer) {
      this.onHover(...this.stage.viewport.toFrame(...at));
      return;
    }
    const [byX, byY] = [at[0] - pointer.at[0], at[1] - pointer.at[1]];
    const [farX, farY] = [at[0] - pointer.start[0], at[1] - pointer.start[1]];
    pointer.moved ||= Math.hypot(farX, farY) > (STILL[event.pointerType] ?? STILL.mouse);
    pointer.at = at;
    if (this.#pinch) this.#pinched();
    else if (pointer.moved && this.#pans(pointer, event)) this.#pan(byX, byY);
    else if (pointer.moved && pointer.button === 0) this.#draft(this.#boxOf(pointer));
  }

  #up(event) {
    const pointer = this.#pointers.get(event.pointerId);
    const wasPinch = this.#pinch !== null;
    const box = this.stage.draft;
    this.#forget(event);
    if (!pointer || wasPinch) return;
    if (box) {
      if (box[2] - box[0] >= SMALLEST_BOX && box[3] - box[1] >= SMALLEST_BOX) this.onBox(box);
      return;
    }
    const tool = this.tool();
    if (pointer.moved || pointer.button === 1 || tool === "hand") return;
    const [x, y] = this.stage.viewport.toFrame(...pointer.at);
    if (!this.stage.viewport.contains(x, y)) return;
    const excludes = pointer.button === 2 || event.shiftKey || tool === "minus";
    this.onClick(x, y, excludes ? 0 : 1);
  }

  #forget(event) {
    this.#pointers.delete(event.pointerId);
    // the second finger of a pinch that is left over does nothing
    if (this.#pointers.size === 0) this.#pinch = null;
    this.#draft(null);
    this.stage.canvas.parentElement.classList.remove("dragging");
  }

  /** A mouse draws boxes by dragging, a finger only with the tool for it. */
  #pans({ button }, { pointerType }) {
    const tool = this.tool();
    return button === 1 || tool === "hand" || (pointerType === "touch" && tool !== "box");
  }

  #pan(byX, byY) {
    this.stage.canvas.parentElement.classList.add("dragging");
    this.stage.viewport.pan(byX, byY);
    this.#viewChanged();
  }

  #spread() {
    const [[x0, y0], [x1, y1]] = [...this.#pointers.values()].slice(0, 2).map(({ at }) => at);
    return {
      x: (x0 + x1) / 2,
      y: (y0 + y1) / 2,
      length: Math.max(1, Math.hypot(x1 - x0, y1 - y0)),
    };
  }

  #pinched() {
    if (this.#pointers.size < 2) return;
    const [before, now] = [this.#pinch, this.#spread()];
    this.stage.viewport.zoom(now.length / before.length, before.x, before.y);
    this.stage.viewport.pan(now.x - before.x, now.y - before.y);
    this.#pinch = now;
    this.#viewChanged();
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const step = Math.max(-120, Math.min(120, event.deltaY * lines));
    this.stage.viewport.zoom(
      Math.exp(-step * (event.ctrlKey ? 0.01 : 0.002)),
      ...this.#place(event),
    );
    this.#viewChanged();
  }

  #boxOf({ start, at }) {
    const { viewport } = this.stage;
    const [x0, y0] = viewport.nearest(...viewport.toFrame(...start));
    const [x1, y1] = viewport.nearest(...viewport.toFrame(...at));
    return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
  }

  #draft(box) {
    if (this.stage.draft === box) return;
    this.stage.draft = box;
    this.stage.redraw();
  }

  #viewChanged() {
    this.stage.redraw();
    this.onView();
  }
}
