/** Colours of objects: those that the overlays of the command line have, for the same ids. */

const SATURATION = 0.85;

/** [red, green, blue], 0..255, always the same for an id; neighbouring ids differ most. */
export function objectColour(id) {
  // steps of the golden ratio never come back to a hue, and spread any first few evenly
  const hue = (0.58 + id * 0.618033988749895) % 1;
  const value = [0.95, 0.75][Math.floor(id / 8) % 2];
  return rgbFromHsv(hue, SATURATION, value).map((part) => Math.round(part * 255));
}

function rgbFromHsv(hue, saturation, value) {
  const sector = Math.floor(hue * 6);
  const part = hue * 6 - sector;
  const low = value * (1 - saturation);
  const falling = value * (1 - saturation * part);
  const rising = value * (1 - saturation * (1 - part));
  return [
    [value, rising, low],
    [falling, value, low],
    [low, value, rising],
    [low, falling, value],
    [rising, low, value],
    [value, low, falling],
  ][sector % 6];
}

/** The colour as CSS, with an opacity. */
export function css(id, opacity = 1) {
  return `rgb(${objectColour(id).join(" ")} / ${opacity})`;
}

/** Black or white, whichever reads better on the object's colour. */
export function ink(id) {
  const [red, green, blue] = objectColour(id);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 128 ? "#000" : "#fff";
}
