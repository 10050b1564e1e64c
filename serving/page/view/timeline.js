/** The frames of a clip: which are tracked, where prompts are, which one is shown. */

import { css } from "../masks/colour.js";
import { byId } from "./dom.js";

const BAR = 6;
const DOT = 4;
const EDGE = 7;

export class Timeline {
  /** `seek(frame)` is called when another frame is asked for. */
  constructor(seek) {
    this.canvas = byId("track-canvas");
    this.context = this.canvas.getContext("2d");
    this.input = byId("scrub");
    this.input.addEventListener("input", () => seek(Number(this.input.value)));
    new ResizeObserver(() => this.#draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  render(project) {
    this.project = project;
    const { frame, numFrames } = project;
    this.input.max = numFrames - 1;
    this.input.value = frame;
    this.input.setAttribute("aria-valuetext", `frame ${frame + 1} of ${numFrames}`);
    byId("frame-number").replaceChildren(strong(frame + 1), ` / ${numFrames}`);
    this.#draw();
  }

  #draw() {
    const { canvas, context, project } = this;
    const { width, height } = canvas.getBoundingClientRect();
    if (!project || !width) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const at = (frame) => EDGE + (frame / Math.max(1, project.numFrames - 1)) * (width - 2 * EDGE);
    const middle = height / 2;
    const bar = (first, last, fill) => {
      context.fillStyle = fill;
      context.beginPath();
      context.roundRect(first - BAR / 2, middle - BAR / 2, last - first + BAR, BAR, BAR / 2);
      context.fill();
    };
    bar(EDGE, width - EDGE, colour("--line"));
    for (const [first, last] of project.tracked) bar(at(first), at(last), colour("--accent"));
    context.fillStyle = colour("--text");
    context.beginPath();
    context.roundRect(at(project.frame) - 1.5, 2, 3, height - 4, 1.5);
    context.fill();
    this.#prompts(at, middle, colour("--surface"));
  }

  /** A dot for each prompted object, one over the other where a frame has several. */
  #prompts(at, middle, ground) {
    const { context, project } = this;
    const stacked = new Map();
    for (const { frame, object } of project.allPrompts()) {
      const level = stacked.get(frame) ?? 0;
      stacked.set(frame, level + 1);
      if (level > 2) continue;
      context.beginPath();
      context.arc(at(frame), middle + [0, -10, 10][level], DOT, 0, 2 * Math.PI);
      context.fillStyle = css(object);
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = ground;
      context.stroke();
    }
  }
}

function strong(number) {
  const element = document.createElement("b");
  element.textContent = number;
  return element;
}
