// Area averaging and bilinear interpolation with OpenCV's arithmetic (modules/imgproc/src/resize.cpp,
// INTER_AREA and INTER_LINEAR of 8-bit pictures): the model was trained on pictures made that way, and the
// browser must give the same boxes as the server.

import { roundHalfEven, type Size } from "./geometry";

/** Row `y` of a picture as RGBA bytes. Rows are asked for from top to bottom. */
export type RowReader = (y: number) => Uint8ClampedArray;

/** How much of which source pixel goes into which target pixel. */
interface Share {
  to: number;
  from: number;
  weight: number;
}

/** Resizes to RGB bytes (to.height * to.width * 3): area averaging when it shrinks, bilinear when it grows. */
export function resize(row: RowReader, from: Size, to: Size): Uint8Array {
  if (from.width === to.width && from.height === to.height) return copy(row, from);
  if (to.width * to.height >= from.width * from.height) return linear(row, from, to, growing);
  const shrinksBothWays = from.width >= to.width && from.height >= to.height;
  return shrinksBothWays ? area(row, from, to) : linear(row, from, to, averaging);
}

function copy(row: RowReader, size: Size): Uint8Array {
  const out = new Uint8Array(size.width * size.height * 3);
  for (let y = 0, at = 0; y < size.height; y++) {
    const pixels = row(y);
    for (let x = 0; x < size.width; x++, at += 3) {
      out[at] = pixels[4 * x];
      out[at + 1] = pixels[4 * x + 1];
      out[at + 2] = pixels[4 * x + 2];
    }
  }
  return out;
}

function area(row: RowReader, from: Size, to: Size): Uint8Array {
  if (from.width === 2 * to.width && from.height === 2 * to.height) return halve(row, to);
  const columns = shares(from.width, to.width);
  const out = new Uint8Array(to.width * to.height * 3);
  const sums = new Float32Array(to.width * 3);
  const line = new Float32Array(to.width * 3);
  let target = 0;
  let last = -1;
  for (const { to: y, from: source, weight } of shares(from.height, to.height)) {
    if (y !== target) {
      store(sums, out, target);
      sums.fill(0);
      target = y;
    }
    if (source !== last) averageRow(row(source), columns, line);
    last = source;
    for (let i = 0; i < sums.length; i++) sums[i] += weight * line[i];
  }
  store(sums, out, target);
  return out;
}

function averageRow(pixels: Uint8ClampedArray, columns: Share[], line: Float32Array): void {
  line.fill(0);
  for (const { to, from, weight } of columns) {
    line[3 * to] += weight * pixels[4 * from];
    line[3 * to + 1] += weight * pixels[4 * from + 1];
    line[3 * to + 2] += weight * pixels[4 * from + 2];
  }
}

function store(sums: Float32Array, out: Uint8Array, y: number): void {
  const start = y * sums.length;
  for (let i = 0; i < sums.length; i++) out[start + i] = Math.min(255, roundHalfEven(sums[i]));
}

/** OpenCV rounds halves up where both sides are halved, and only there. */
function halve(row: RowReader, to: Size): Uint8Array {
  const out = new Uint8Array(to.width * to.height * 3);
  for (let y = 0, at = 0; y < to.height; y++) {
    const upper = row(2 * y);
    const lower = row(2 * y + 1);
    for (let x = 0; x < to.width; x++) {
      for (let i = 8 * x; i < 8 * x + 3; i++, at++) {
        out[at] = (upper[i] + upper[i + 4] + lower[i] + lower[i + 4] + 2) >> 2;
      }
    }
  }
  return out;
}

function shares(from: number, to: number): Share[] {
  const scale = 1 / (to / from);
  const found: Share[] = [];
  for (let i = 0; i < to; i++) {
    const start = i * scale;
    const end = start + scale;
    const whole = Math.min(scale, from - start);
    const last = Math.min(Math.floor(end), from - 1);
    const first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) found.push({ to: i, from: first - 1, weight: Math.fround((first - start) / whole) });
    for (let j = first; j < last; j++) found.push({ to: i, from: j, weight: Math.fround(1 / whole) });
    const rest = Math.min(end - last, 1, whole);
    if (end - last > 1e-3) found.push({ to: i, from: last, weight: Math.fround(rest / whole) });
  }
  return found;
}

/** Of two neighbours, the first one and how much of the second one. */
type Blend = (i: number, scale: number) => [number, number];

const growing: Blend = (i, scale) => {
  const at = Math.fround((i + 0.5) * scale - 0.5);
  return [Math.floor(at), Math.fround(at - Math.floor(at))];
};

/** What OpenCV makes of area averaging where one side shrinks and the other grows. */
const averaging: Blend = (i, scale) => {
  const first = Math.floor(i * scale);
  const part = Math.fround(i + 1 - (first + 1) / scale);
  return [first, part <= 0 ? 0 : Math.fround(part - Math.floor(part))];
};

const ONE = 2048; // OpenCV's fixed point: 11 bits

function linear(row: RowReader, from: Size, to: Size, blend: Blend): Uint8Array {
  const columns = blends(from.width, to.width, blend);
  const lines = new Map<number, Int32Array>();
  const line = (y: number): Int32Array => {
    let found = lines.get(y);
    if (!found) {
      found = blendRow(row(y), columns, from.width);
      for (const old of lines.keys()) if (old < y - 1) lines.delete(old);
      lines.set(y, found);
    }
    return found;
  };
  const out = new Uint8Array(to.width * to.height * 3);
  let at = 0;
  for (const [first, part] of blends(from.height, to.height, blend)) {
    const upper = line(first);
    const lower = line(Math.min(first + 1, from.height - 1));
    for (let i = 0; i < upper.length; i++, at++) {
      const sum = (((ONE - part) * (upper[i] >> 4)) >> 16) + ((part * (lower[i] >> 4)) >> 16);
      out[at] = Math.min(255, (sum + 2) >> 2);
    }
  }
  return out;
}

function blends(from: number, to: number, blend: Blend): [number, number][] {
  const scale = 1 / (to / from);
  return Array.from({ length: to }, (_, i) => {
    const [first, part] = blend(i, scale);
    if (first < 0) return [0, 0];
    return first >= from - 1 ? [from - 1, 0] : [first, roundHalfEven(part * ONE)];
  });
}

function blendRow(pixels: Uint8ClampedArray, columns: [number, number][], width: number): Int32Array {
  const line = new Int32Array(columns.length * 3);
  let at = 0;
  for (const [first, part] of columns) {
    const second = Math.min(first + 1, width - 1);
    for (let c = 0; c < 3; c++, at++) {
      line[at] = pixels[4 * first + c] * (ONE - part) + pixels[4 * second + c] * part;
    }
  }
  return line;
}
