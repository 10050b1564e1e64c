/** Messages of the live stream. */

const HEAD = 18;
const ENTRY = 12;

/**
 * One tracked frame from a binary message (ArrayBuffer): {frame, dropped, width, height, objects:
 * [{object, score, mask}]}. RangeError where the message is cut off.
 */
export function trackedFrame(buffer) {
  const view = new DataView(buffer);
  const [frame, dropped, width, height] = [0, 4, 8, 12].map((at) => view.getUint32(at, true));
  const objects = [];
  let at = HEAD;
  for (let left = view.getUint16(16, true); left; left--) {
    const object = view.getUint32(at, true);
    const score = view.getFloat32(at + 4, true);
    const length = view.getUint32(at + 8, true);
    const text = new Uint8Array(buffer, at + ENTRY, length);
    const mask = { size: [height, width], counts: new TextDecoder("ascii").decode(text) };
    objects.push({ object, score, mask });
    at += ENTRY + length;
  }
  return { frame, dropped, width, height, objects };
}
