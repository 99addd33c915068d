// How the picture lies on the stage: screen = picture × scale + offset, in CSS pixels.

import { clamp, type BoxXyxy, type Size } from "../geometry";
import type { Point } from "./boxes";

export interface Viewport {
  scale: number;
  x: number;
  y: number;
}

const MARGIN = 8;
const SHOWN = 48; // at least this much of the picture stays on the stage
const LARGEST_SCALE = 40;
const REVEAL = 24;

/** The whole picture in the middle of the stage; small ones are not enlarged beyond 4 times. */
export function fit(picture: Size, stage: Size): Viewport {
  const room = { width: Math.max(1, stage.width - 2 * MARGIN), height: Math.max(1, stage.height - 2 * MARGIN) };
  const scale = Math.min(room.width / picture.width, room.height / picture.height, 4);
  return centred(scale, { x: picture.width / 2, y: picture.height / 2 }, stage);
}

/** With this point of the picture in the middle of the stage. */
export function centred(scale: number, point: Point, stage: Size): Viewport {
  return { scale, x: stage.width / 2 - point.x * scale, y: stage.height / 2 - point.y * scale };
}

/** Larger or smaller; the point `at` of the stage shows the same as before. */
export function zoomed(view: Viewport, factor: number, at: Point, picture: Size, stage: Size): Viewport {
  const smallest = fit(picture, stage).scale / 2;
  const scale = clamp(view.scale * factor, smallest, Math.max(smallest, LARGEST_SCALE));
  const point = toPicture(view, at);
  return held({ scale, x: at.x - point.x * scale, y: at.y - point.y * scale }, picture, stage);
}

export function panned(view: Viewport, dx: number, dy: number, picture: Size, stage: Size): Viewport {
  return held({ ...view, x: view.x + dx, y: view.y + dy }, picture, stage);
}

/** Moved as little as needed for a box to be on the stage. */
export function revealing(view: Viewport, box: BoxXyxy, stage: Size): Viewport {
  const [left, top, right, bottom] = boxToScreen(view, box);
  return { ...view, x: view.x + shift(left, right, stage.width), y: view.y + shift(top, bottom, stage.height) };
}

export function toPicture(view: Viewport, at: Point): Point {
  return { x: (at.x - view.x) / view.scale, y: (at.y - view.y) / view.scale };
}

export function boxToScreen({ scale, x, y }: Viewport, box: BoxXyxy): BoxXyxy {
  return [box[0] * scale + x, box[1] * scale + y, box[2] * scale + x, box[3] * scale + y];
}

/** A quarter of what is seen of the picture, in its middle: where a new box from the keyboard appears. */
export function middleBox(view: Viewport, picture: Size, stage: Size): BoxXyxy {
  const from = toPicture(view, { x: 0, y: 0 });
  const to = toPicture(view, { x: stage.width, y: stage.height });
  const [left, right] = [clamp(from.x, 0, picture.width), clamp(to.x, 0, picture.width)];
  const [top, bottom] = [clamp(from.y, 0, picture.height), clamp(to.y, 0, picture.height)];
  const side = Math.max(4, Math.min(right - left, bottom - top) / 4);
  const [x, y] = [Math.round((left + right - side) / 2), Math.round((top + bottom - side) / 2)];
  return [x, y, Math.min(picture.width, x + Math.round(side)), Math.min(picture.height, y + Math.round(side))];
}

function held(view: Viewport, picture: Size, stage: Size): Viewport {
  const hold = (offset: number, length: number, room: number) =>
    clamp(offset, Math.min(SHOWN - length, room - SHOWN), Math.max(SHOWN - length, room - SHOWN));
  return {
    scale: view.scale,
    x: hold(view.x, picture.width * view.scale, stage.width),
    y: hold(view.y, picture.height * view.scale, stage.height),
  };
}

function shift(low: number, high: number, room: number): number {
  if (high - low > room - 2 * REVEAL) return room / 2 - (low + high) / 2;
  if (low < REVEAL) return REVEAL - low;
  return high > room - REVEAL ? room - REVEAL - high : 0;
}
