// Geometry of editing: boxes in pixels of the picture, edges that are moved land on whole pixels.

import { clamp, type BoxXyxy, type Size } from "../geometry";

export interface Point {
  x: number;
  y: number;
}

/** An edge or a corner, by compass. */
export type Handle = "nw" | "n" | "ne" | "e" | "se" | "s" | "sw" | "w";

export const HANDLES: readonly Handle[] = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

/** The box between two corners that were pointed at, in whole pixels and within the picture. */
export function drawn(from: Point, to: Point, size: Size): BoxXyxy {
  const x = (value: number) => clamp(Math.round(value), 0, size.width);
  const y = (value: number) => clamp(Math.round(value), 0, size.height);
  const [left, right] = [x(Math.min(from.x, to.x)), x(Math.max(from.x, to.x))];
  const [top, bottom] = [y(Math.min(from.y, to.y)), y(Math.max(from.y, to.y))];
  return [left, top, right, bottom];
}

/** The box elsewhere; it keeps its size and stays within the picture. */
export function moved(box: BoxXyxy, dx: number, dy: number, size: Size): BoxXyxy {
  const [left, top, right, bottom] = box;
  const x = clamp(Math.round(dx), -left, Math.max(-left, size.width - right));
  const y = clamp(Math.round(dy), -top, Math.max(-top, size.height - bottom));
  return [left + x, top + y, right + x, bottom + y];
}

/** The box with an edge or corner elsewhere; pulled past the other side it turns over, at least a pixel remains. */
export function resized(box: BoxXyxy, handle: Handle, dx: number, dy: number, size: Size): BoxXyxy {
  const pull = (value: number, delta: number, most: number) => clamp(Math.round(value + delta), 0, most);
  let [left, top, right, bottom] = box;
  if (handle.includes("w")) left = pull(left, dx, size.width);
  if (handle.includes("e")) right = pull(right, dx, size.width);
  if (handle.includes("n")) top = pull(top, dy, size.height);
  if (handle.includes("s")) bottom = pull(bottom, dy, size.height);
  const [x1, x2] = apart(left, right, size.width);
  const [y1, y2] = apart(top, bottom, size.height);
  return [x1, y1, x2, y2];
}

function apart(one: number, other: number, most: number): [number, number] {
  const [low, high] = [Math.min(one, other), Math.max(one, other)];
  if (high - low >= 1) return [low, high];
  return low + 1 <= most ? [low, low + 1] : [most - 1, most];
}

/** Where the handles of a box are. */
export function handlePoint([left, top, right, bottom]: BoxXyxy, handle: Handle): Point {
  const middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
  return {
    x: handle.includes("w") ? left : handle.includes("e") ? right : middle.x,
    y: handle.includes("n") ? top : handle.includes("s") ? bottom : middle.y,
  };
}

/** The handle within reach of a point. The middle third of a small box is kept free, so that it can be moved. */
export function handleAt(box: BoxXyxy, at: Point, reach: number): Handle | null {
  const side = Math.min(box[2] - box[0], box[3] - box[1]);
  const inside = distance(box, at) === 0;
  const limit = inside ? Math.min(reach, side / 3) : reach;
  let best: Handle | null = null;
  let least = limit;
  for (const handle of HANDLES) {
    const point = handlePoint(box, handle);
    const away = Math.hypot(point.x - at.x, point.y - at.y);
    if (away <= least) [best, least] = [handle, away];
  }
  return best;
}

/** Pixels from a point to a box; 0 inside. */
export function distance([left, top, right, bottom]: BoxXyxy, { x, y }: Point): number {
  return Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom));
}

/** What lies below a point or at most `slack` pixels from it: the nearest first, of those below it the smallest. */
export function hits<T extends { box_xyxy: BoxXyxy }>(candidates: readonly T[], at: Point, slack: number): T[] {
  return candidates
    .map((one) => ({ one, away: distance(one.box_xyxy, at), area: area(one.box_xyxy) }))
    .filter(({ away }) => away <= slack)
    .sort((a, b) => a.away - b.away || a.area - b.area)
    .map(({ one }) => one);
}

export function area([left, top, right, bottom]: BoxXyxy): number {
  return Math.max(0, right - left) * Math.max(0, bottom - top);
}

/** Intersection over union. */
export function iou(a: BoxXyxy, b: BoxXyxy): number {
  const shared = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  const union = area(a) + area(b) - shared;
  return union > 0 ? shared / union : 0;
}

/** Within a picture of another size: cut off at its edges, or null where nothing remains. */
export function clipped(box: BoxXyxy, size: Size): BoxXyxy | null {
  const cut: BoxXyxy = [
    clamp(box[0], 0, size.width),
    clamp(box[1], 0, size.height),
    clamp(box[2], 0, size.width),
    clamp(box[3], 0, size.height),
  ];
  return cut[2] - cut[0] >= 1 && cut[3] - cut[1] >= 1 ? cut : null;
}

/** "34 × 40 at 10, 20", in whole pixels. */
export function sizeText([left, top, right, bottom]: BoxXyxy): string {
  const [width, height, x, y] = [right - left, bottom - top, left, top].map(Math.round);
  return `${width} × ${height} at ${x}, ${y}`;
}
