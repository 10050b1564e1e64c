/** Draws a scene: the frame, its masks, the clicks and boxes, and what the pointer is doing. */

import { css, ink } from "../masks/colour.js";
import { pathAround } from "../masks/contour.js";
import { Viewport } from "./viewport.js";

/** Nothing to see. A scene has these fields; marks are {object, points, labels, box}. */
export const EMPTY = Object.freeze({
  bitmap: null,
  size: null,
  masks: [],
  marks: [],
  candidates: [],
  hovered: null,
  active: null,
});

const MASK = 0.4;

export class Stage {
  #waiting = false;

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.viewport = new Viewport();
    this.scene = EMPTY;
    this.draft = null;
    this.cross = null;
    this.onView = () => {};
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#resize();
  }

  /** Shows another scene. `size` [width, height] is that of the frame, whatever the bitmap's. */
  show(scene) {
    this.scene = { ...EMPTY, ...scene };
    if (scene.size && this.viewport.setFrame(...scene.size)) this.onView();
    this.redraw();
  }

  /** Draws before the browser shows its next picture. */
  redraw() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#draw();
    });
  }

  #resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.viewport.setStage(width, height);
    this.onView();
    this.#draw();
  }

  #draw() {
    const { context, ratio, viewport, scene } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const { scale, x, y } = viewport;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    if (scene.bitmap && scene.size) {
      // enlarged pixels show as what they are
      context.imageSmoothingEnabled = scale * ratio < 4;
      context.imageSmoothingQuality = "high";
      context.drawImage(scene.bitmap, 0, 0, ...scene.size);
    }
    context.lineJoin = "round";
    for (const entry of scene.candidates) this.#candidate(entry);
    for (const entry of scene.masks) this.#mask(entry);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const mark of scene.marks) this.#mark(mark);
    if (this.draft) this.#box(this.draft, scene.active ?? 1, true);
    if (this.cross) this.#cross(...viewport.toStage(...this.cross));
  }

  #mask({ object, mask }) {
    const { context, viewport, scene } = this;
    const path = pathAround(mask);
    context.fillStyle = css(object, MASK);
    context.fill(path, "evenodd");
    context.strokeStyle = css(object);
    context.lineWidth = (object === scene.active ? 2.4 : 1.6) / viewport.scale;
    context.stroke(path);
  }

  #candidate(entry) {
    const { context, viewport, scene } = this;
    const path = pathAround(entry.mask);
    const hovered = entry === scene.hovered;
    context.fillStyle = hovered ? "rgb(255 255 255 / .45)" : "rgb(255 255 255 / .08)";
    context.fill(path, "evenodd");
    for (const [colour, width] of [
      ["rgb(0 0 0 / .55)", hovered ? 4 : 3],
      ["#fff", hovered ? 2 : 1.2],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = width / viewport.scale;
      context.stroke(path);
    }
  }

  #mark({ object, points, labels, box, pending }) {
    if (box) this.#box(box, object, false);
    points.forEach(([x, y], index) => {
      const at = this.viewport.toStage(x, y);
      this.#click(...at, labels[index], object, pending);
    });
  }

  #click(x, y, label, object, pending) {
    const { context } = this;
    context.globalAlpha = pending ? 0.6 : 1;
    context.beginPath();
    context.arc(x, y, 7, 0, 2 * Math.PI);
    context.fillStyle = label ? css(object) : "#fff";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = label ? "#fff" : css(object);
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3.2, y);
    context.lineTo(x + 3.2, y);
    if (label) {
      context.moveTo(x, y - 3.2);
      context.lineTo(x, y + 3.2);
    }
    context.strokeStyle = label ? ink(object) : "#000";
    context.stroke();
    context.globalAlpha = 1;
  }

  #box([x0, y0, x1, y1], object, isDraft) {
    const { context, viewport } = this;
    const [left, top] = viewport.toStage(x0, y0);
    const [right, bottom] = viewport.toStage(x1, y1);
    for (const [colour, width] of [
      ["rgb(0 0 0 / .5)", 4],
      [isDraft ? "#fff" : css(object), 2],
    ]) {
      context.setLineDash(isDraft ? [6, 5] : []);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    context.setLineDash([]);
  }

  #cross(x, y) {
    const { context } = this;
    for (const [colour, width] of [
      ["rgb(0 0 0 / .7)", 4],
      ["#fff", 1.6],
    ]) {
      context.beginPath();
      for (const [dx, dy] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 16 * dx, y + 16 * dy);
      }
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke();
    }
  }
}
