/**
 * COCO's compressed run lengths: {size: [height, width], counts: text}.
 *
 * Runs go down the columns and begin with background. A character holds five bits of a run, low
 * bits first; from the fourth run on the text holds differences from the run before the last.
 */

const FIRST = 48; // "0"
const MORE = 0x20;
const SIGN = 0x10;
/** Characters of one run, at most: 30 bits are far more pixels than a frame has. */
const LONGEST = 6;

/** The run lengths of the text, as Uint32Array. RangeError where it is damaged. */
export function runsFromCounts(counts) {
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let value = 0;
    let code = MORE;
    for (let part = 0; code & MORE; part++) {
      code = counts.charCodeAt(at++) - FIRST;
      if (!(code >= 0 && code < 64) || part === LONGEST) {
        throw new RangeError(`run lengths are damaged at character ${at}`);
      }
      value |= (code & 0x1f) << (5 * part);
      if (!(code & MORE) && code & SIGN) value |= -1 << (5 * (part + 1));
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    if (value < 0) throw new RangeError(`run ${runs.length} is negative`);
    runs.push(value);
  }
  return Uint32Array.from(runs);
}

/** The text of run lengths; the inverse of runsFromCounts. */
export function countsFromRuns(runs) {
  let text = "";
  runs.forEach((run, index) => {
    let value = index > 2 ? run - runs[index - 2] : run;
    for (let more = true; more;) {
      let code = value & 0x1f;
      value >>= 5;
      more = code & SIGN ? value !== -1 : value !== 0;
      if (more) code |= MORE;
      text += String.fromCharCode(code + FIRST);
    }
  });
  return text;
}

/** Column-major pixels, 0 or 1: pixel (x, y) is at x * height + y. RangeError if they do not fit. */
export function pixelsFromMask({ size: [height, width], counts }) {
  const pixels = new Uint8Array(height * width);
  let at = 0;
  runsFromCounts(counts).forEach((run, index) => {
    if (index % 2) pixels.fill(1, at, at + run);
    at += run;
  });
  if (at !== pixels.length) {
    throw new RangeError(`runs of ${at} pixels do not fill a mask of ${height} x ${width}`);
  }
  return pixels;
}

/** A mask for questions about single pixels, which costs as little memory as its runs. */
export class MaskPoints {
  constructor({ size: [height, width], counts }) {
    this.height = height;
    this.width = width;
    let at = 0;
    this.ends = runsFromCounts(counts).map((run) => (at += run));
  }

  /** Whether pixel (x, y), whole numbers or not, is in the mask. */
  has(x, y) {
    if (!(x >= 0 && y >= 0 && x < this.width && y < this.height)) return false;
    const index = Math.floor(x) * this.height + Math.floor(y);
    let low = 0;
    let high = this.ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] <= index) low = middle + 1;
      else high = middle;
    }
    return low % 2 === 1;
  }
}
