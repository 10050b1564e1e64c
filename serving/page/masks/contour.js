/** Outlines of masks along the edges of pixels, for drawing that stays sharp at every zoom. */

import { pixelsFromMask, runsFromCounts } from "./rle.js";

// headings: east, south, west, north
const STEP_X = [1, 0, -1, 0];
const STEP_Y = [0, 1, 0, -1];
// the pixels ahead on the left and on the right of a corner, as offsets from it
const LEFT = [
  [0, -1],
  [0, 0],
  [-1, 0],
  [-1, -1],
];
const RIGHT = [
  [0, 0],
  [-1, 0],
  [-1, -1],
  [0, -1],
];
/** A pixel whose upper edge is part of a loop already. */
const SEEN = 2;

/**
 * The loops around a mask, holes included: arrays [x, y, x, y, ...] of corners in frame pixels.
 * The mask lies on the right of the way. Pixels that touch at a corner alone are apart.
 */
export function loopsAround(mask) {
  const [height, width] = mask.size;
  const pixels = pixelsFromMask(mask);
  const loops = [];
  let end = 0;
  runsFromCounts(mask.counts).forEach((run, index) => {
    let at = end;
    end += run;
    // a run of the mask has upper edges where it begins, and where it begins another column
    for (; index % 2 && at < end; at += height - (at % height)) {
      if (pixels[at] === SEEN) continue;
      loops.push(loopFrom(Math.floor(at / height), at % height, pixels, height, width));
    }
  });
  return loops;
}

/** Every loop has an upper edge that goes east: follow it from there until it comes back. */
function loopFrom(startX, startY, pixels, height, width) {
  const on = (x, y) => x >= 0 && y >= 0 && x < width && y < height && pixels[x * height + y] > 0;
  const corners = [];
  let [x, y, heading] = [startX, startY, 0];
  do {
    if (heading === 0) pixels[x * height + y] = SEEN;
    x += STEP_X[heading];
    y += STEP_Y[heading];
    const right = on(x + RIGHT[heading][0], y + RIGHT[heading][1]);
    const left = on(x + LEFT[heading][0], y + LEFT[heading][1]);
    const turn = !right ? 1 : left ? 3 : 0;
    if (turn) corners.push(x, y);
    heading = (heading + turn) % 4;
  } while (x !== startX || y !== startY || heading !== 0);
  return corners;
}

/** Adds the loops to a Path2D, each corner cut by half a pixel, which evens out the stairs. */
export function addLoops(path, loops) {
  for (const corners of loops) {
    const count = corners.length;
    for (let i = 0; i < count; i += 2) {
      const [x, y] = [corners[i], corners[i + 1]];
      const [nextX, nextY] = [corners[(i + 2) % count], corners[(i + 3) % count]];
      const [stepX, stepY] = [Math.sign(nextX - x) / 2, Math.sign(nextY - y) / 2];
      if (i === 0) path.moveTo(x + stepX, y + stepY);
      else path.lineTo(x + stepX, y + stepY);
      path.lineTo(nextX - stepX, nextY - stepY);
    }
    path.closePath();
  }
  return path;
}

/** Paths of masks that were drawn lately: those of a long clip would fill the memory. */
const paths = new Map();
const MOST_PATHS = 500;

/** The Path2D around a mask, made once while it is in use; fill it with the rule "evenodd". */
export function pathAround(mask) {
  const path = paths.get(mask) ?? addLoops(new Path2D(), loopsAround(mask));
  paths.delete(mask);
  paths.set(mask, path);
  // the newest come last
  if (paths.size > MOST_PATHS) paths.delete(paths.keys().next().value);
  return path;
}
