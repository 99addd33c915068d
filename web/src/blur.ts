// Faces → patches in which nobody can be recognised; the same as src/maskwatch/drawing/blur.py, where it says why.

import { type BoxXyxy, clamp, roundHalfEven, type Size } from "./geometry";

const CELLS = 3; // mean colours along each side of a patch: all that is left of a face
const MARGIN = 0.25;
const SMALLEST_CELL = 4;
const SMALLEST_PATCH = 12;

/** Whole pixels that are covered, and where its cells begin and end inside it. */
export interface Patch {
  left: number;
  top: number;
  columns: number[];
  rows: number[];
}

/** Patches over boxes, the largest last; those outside the picture are left out. */
export function patches(boxes: BoxXyxy[], picture: Size): Patch[] {
  return boxes
    .map(grown)
    .sort((a, b) => areaOf(a) - areaOf(b))
    .map((box) => patch(box, picture))
    .filter((one) => one !== null);
}

function grown([x1, y1, x2, y2]: BoxXyxy): BoxXyxy {
  const width = Math.max((x2 - x1) * (1 + 2 * MARGIN), SMALLEST_PATCH);
  const height = Math.max((y2 - y1) * (1 + 2 * MARGIN), SMALLEST_PATCH);
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  return [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
}

function areaOf([x1, y1, x2, y2]: BoxXyxy): number {
  return (x2 - x1) * (y2 - y1);
}

function patch([x1, y1, x2, y2]: BoxXyxy, picture: Size): Patch | null {
  const left = Math.floor(clamp(x1, 0, picture.width));
  const top = Math.floor(clamp(y1, 0, picture.height));
  const width = Math.ceil(clamp(x2, 0, picture.width)) - left;
  const height = Math.ceil(clamp(y2, 0, picture.height)) - top;
  if (width <= 0 || height <= 0) return null;
  return { left, top, columns: edges(width, x2 - x1), rows: edges(height, y2 - y1) };
}

/** Half a face at the border gets half the cells: what is left of it does not get finer. */
function edges(visible: number, whole: number): number[] {
  const wanted = Math.min(roundHalfEven((CELLS * visible) / whole), Math.floor(visible / SMALLEST_CELL));
  const cells = Math.max(1, wanted);
  return Array.from({ length: cells + 1 }, (_, i) => roundHalfEven((visible * i) / cells));
}

/** The mean colours of a patch's cells as RGBA, row by row, from the RGBA bytes of the patch. */
export function meanColors(pixels: Uint8ClampedArray, { columns, rows }: Patch): Uint8ClampedArray<ArrayBuffer> {
  const width = columns[columns.length - 1] ?? 0;
  const colors = new Uint8ClampedArray((columns.length - 1) * (rows.length - 1) * 4);
  let at = 0;
  for (let row = 0; row + 1 < rows.length; row++) {
    for (let column = 0; column + 1 < columns.length; column++, at += 4) {
      const sums = [0, 0, 0];
      for (let y = rows[row]; y < rows[row + 1]; y++) {
        for (let x = columns[column]; x < columns[column + 1]; x++) {
          for (let c = 0; c < 3; c++) sums[c] += pixels[4 * (y * width + x) + c];
        }
      }
      const count = (rows[row + 1] - rows[row]) * (columns[column + 1] - columns[column]);
      colors.set([...sums.map((sum) => sum / count), 255], at);
    }
  }
  return colors;
}
