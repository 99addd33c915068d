// Boxes, labels and blurred faces on a canvas, in the look of src/maskwatch/drawing/annotate.py.

import { meanColors, patches } from "./blur";
import { type BoxXyxy, clamp, type Size } from "./geometry";
import { colorOf, css, textOn } from "./labels";
import type { Detection } from "./records";
import { spoken } from "./threshold";

export type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

export interface Drawing {
  image: CanvasImageSource;
  /** Detections whose boxes are drawn, and those whose faces are covered, in pixels of the picture. */
  drawn: Detection[];
  covered: Detection[];
}

/** Draws a picture of `picture` pixels so that it fills the canvas. */
export function paint(context: Context, canvas: Size, picture: Size, drawing: Drawing): void {
  context.drawImage(drawing.image, 0, 0, canvas.width, canvas.height);
  const scaled = ({ box }: Detection): BoxXyxy => {
    const [x, y] = [canvas.width / picture.width, canvas.height / picture.height];
    return [box[0] * x, box[1] * y, box[2] * x, box[3] * y];
  };
  cover(context, drawing.covered.map(scaled), canvas);
  const line = Math.max(1, Math.round(Math.hypot(canvas.width, canvas.height) / 400));
  const found = drawing.drawn.map((detection) => ({ detection, box: scaled(detection) }));
  for (const { detection, box } of [...found].reverse()) frame(context, box, detection, line);
  for (const { detection, box } of [...found].reverse()) label(context, box, detection, canvas);
}

function cover(context: Context, boxes: BoxXyxy[], canvas: Size): void {
  for (const patch of patches(boxes, canvas)) {
    const width = patch.columns[patch.columns.length - 1];
    const height = patch.rows[patch.rows.length - 1];
    const pixels = context.getImageData(patch.left, patch.top, width, height).data;
    const [columns, rows] = [patch.columns.length - 1, patch.rows.length - 1];
    const small = new OffscreenCanvas(columns, rows);
    small.getContext("2d")?.putImageData(new ImageData(meanColors(pixels, patch), columns, rows), 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(small, patch.left, patch.top, width, height);
  }
}

function frame(context: Context, [x1, y1, x2, y2]: BoxXyxy, detection: Detection, wanted: number): void {
  const line = Math.max(1, Math.min(wanted, (x2 - x1) / 6, (y2 - y1) / 6));
  // A thin dark edge on both sides keeps the line visible on a background of its own colour.
  const edge = line > 2 ? Math.max(1, line / 3) : 0;
  context.strokeStyle = "#000";
  context.lineWidth = line + 2 * edge;
  if (edge > 0) context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.strokeStyle = css(colorOf(detection.class_id));
  context.lineWidth = line;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

/** Never 100%: the network's sigmoid does not get there, and a reader would take it for certainty. */
export function percent(score: number): string {
  return `${Math.min(99, Math.floor(100 * score))}%`;
}

function label(context: Context, [x1, y1, x2, y2]: BoxXyxy, detection: Detection, canvas: Size): void {
  const diagonal = Math.hypot(canvas.width, canvas.height);
  const size = Math.round(clamp((x2 - x1) / 6, Math.max(10, diagonal / 110), Math.max(11, diagonal / 38)));
  context.font = `600 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  const text = `${spoken(detection.class)} ${percent(detection.score)}`;
  const width = context.measureText(text).width + 0.6 * size;
  const height = 1.4 * size;
  const left = clamp(x1, 0, Math.max(0, canvas.width - width));
  const top = y1 >= height ? y1 - height : y2 + height <= canvas.height ? y2 : y1;
  context.fillStyle = css(colorOf(detection.class_id));
  context.fillRect(left, top, width, height);
  context.fillStyle = textOn(colorOf(detection.class_id));
  context.textBaseline = "middle";
  context.fillText(text, left + 0.3 * size, top + height / 2);
}
