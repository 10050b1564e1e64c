/** Sorted ranges of frames, [[first, last], ...], both ends included. */

export function inRanges(ranges, frame) {
  return ranges.some(([first, last]) => first <= frame && frame <= last);
}

/** The ranges with one frame more; neighbours become one. */
export function withFrame(ranges, frame) {
  if (inRanges(ranges, frame)) return ranges;
  const sorted = [...ranges, [frame, frame]].sort((a, b) => a[0] - b[0]);
  const joined = [];
  for (const [first, last] of sorted) {
    const before = joined[joined.length - 1];
    if (before && before[1] + 1 >= first) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return joined;
}
