/** Where the frame lies in the stage: frame pixels to CSS pixels of the stage and back. */

const LARGEST = 40;
const MARGIN = 14;

export class Viewport {
  constructor() {
    Object.assign(this, { scale: 1, x: 0, y: 0, isFitted: true });
    this.stage = { width: 1, height: 1 };
    this.frame = { width: 1, height: 1 };
  }

  setStage(width, height) {
    this.stage = { width, height };
    this.#keep();
  }

  /** Another frame size starts fitted again; gives whether it is another one. */
  setFrame(width, height) {
    if (width === this.frame.width && height === this.frame.height) return false;
    this.frame = { width, height };
    this.fit();
    return true;
  }

  get fittedScale() {
    const across = (this.stage.width - 2 * MARGIN) / this.frame.width;
    const down = (this.stage.height - 2 * MARGIN) / this.frame.height;
    return Math.max(0.01, Math.min(across, down));
  }

  fit() {
    this.scale = this.fittedScale;
    this.x = (this.stage.width - this.frame.width * this.scale) / 2;
    this.y = (this.stage.height - this.frame.height * this.scale) / 2;
    this.isFitted = true;
  }

  /** Scales by a factor about a place of the stage, which stays where it is. */
  zoom(factor, x = this.stage.width / 2, y = this.stage.height / 2) {
    const fitted = this.fittedScale;
    const scale = Math.min(Math.max(LARGEST, fitted), Math.max(fitted, this.scale * factor));
    if (scale === fitted) {
      this.fit();
      return;
    }
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.isFitted = false;
    this.#keep();
  }

  pan(byX, byY) {
    if (this.isFitted) return;
    this.x += byX;
    this.y += byY;
    this.#keep();
  }

  toFrame(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  toStage(x, y) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  contains(frameX, frameY) {
    const { width, height } = this.frame;
    return frameX >= 0 && frameY >= 0 && frameX < width && frameY < height;
  }

  /** The place of the frame next to one that may lie outside. */
  nearest(frameX, frameY) {
    const { width, height } = this.frame;
    return [Math.min(width - 1, Math.max(0, frameX)), Math.min(height - 1, Math.max(0, frameY))];
  }

  /** No way to push the frame out of sight. */
  #keep() {
    if (this.isFitted) {
      this.fit();
      return;
    }
    this.x = kept(this.x, this.frame.width * this.scale, this.stage.width);
    this.y = kept(this.y, this.frame.height * this.scale, this.stage.height);
  }
}

function kept(at, length, room) {
  if (length <= room - 2 * MARGIN) return (room - length) / 2;
  return Math.min(MARGIN, Math.max(room - length - MARGIN, at));
}
