// Where a picture goes on the network's canvas, and the way back for boxes. The rules are those of
// docs/model-file.md; src/maskwatch/media/images.py does the same in Python.

export interface Size {
  width: number;
  height: number;
}

export type ResizeRule = "letterbox" | "squash";

/** Left, top, right, bottom in pixels; corners are continuous. */
export type BoxXyxy = [number, number, number, number];

/** Rounds halves to the even neighbour, as Python and OpenCV do. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Size of the resized picture, which lies top-left on the canvas. */
export function fittedSize(picture: Size, canvas: Size, rule: ResizeRule): Size {
  if (rule === "squash") return { ...canvas };
  const scale = Math.min(canvas.height / picture.height, canvas.width / picture.width);
  return {
    width: Math.max(1, roundHalfEven(picture.width * scale)),
    height: Math.max(1, roundHalfEven(picture.height * scale)),
  };
}

/** A box in canvas pixels → picture pixels, clipped to the picture. */
export function toPicture(box: BoxXyxy, fitted: Size, picture: Size): BoxXyxy {
  const x = (value: number) => clamp((value * picture.width) / fitted.width, 0, picture.width);
  const y = (value: number) => clamp((value * picture.height) / fitted.height, 0, picture.height);
  return [x(box[0]), y(box[1]), x(box[2]), y(box[3])];
}

/** Boxes of a picture that was looked at in another size → pixels of this one. */
export function scaleBox(box: BoxXyxy, from: Size, to: Size): BoxXyxy {
  return toPicture(box, from, to);
}

/** The largest size of the same shape whose sides are at most `side`; never larger than the picture. */
export function within(picture: Size, side: number): Size {
  const scale = Math.min(1, side / Math.max(picture.width, picture.height));
  return {
    width: Math.max(1, Math.round(picture.width * scale)),
    height: Math.max(1, Math.round(picture.height * scale)),
  };
}

export function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
