import { expect, it } from "vitest";
import { boxToScreen, fit, middleBox, panned, revealing, toPicture, zoomed } from "../../src/label/viewport";

const PICTURE = { width: 1000, height: 500 };
const STAGE = { width: 516, height: 400 };

it("a picture is seen whole and in the middle; a small one is enlarged 4 times at most", () => {
  expect(fit(PICTURE, STAGE)).toEqual({ scale: 0.5, x: 8, y: 75 });
  expect(fit({ width: 10, height: 10 }, STAGE).scale).toBe(4);
});

it("zooming keeps the point below the pointer", () => {
  const at = { x: 100, y: 120 };
  const before = fit(PICTURE, STAGE);
  const after = zoomed(before, 3, at, PICTURE, STAGE);
  expect(after.scale).toBeCloseTo(1.5);
  expect(toPicture(after, at).x).toBeCloseTo(toPicture(before, at).x);
  expect(toPicture(after, at).y).toBeCloseTo(toPicture(before, at).y);
  expect(zoomed(before, 1e-9, at, PICTURE, STAGE).scale).toBe(0.25);
});

it("a part of the picture stays on the stage", () => {
  const far = panned(fit(PICTURE, STAGE), 9999, -9999, PICTURE, STAGE);
  expect([far.x, far.y]).toEqual([516 - 48, 48 - 250]);
});

it("a box outside is brought in by the shortest way", () => {
  const view = { scale: 2, x: 0, y: 0 };
  const [left, top, right] = boxToScreen(revealing(view, [300, 10, 320, 30], STAGE), [300, 10, 320, 30]);
  expect([left, right]).toEqual([516 - 24 - 40, 516 - 24]);
  expect(top).toBe(24);
  expect(revealing(view, [100, 100, 120, 120], STAGE)).toEqual(view);
});

it("a new box from the keyboard is in the middle of what is seen", () => {
  expect(middleBox(fit(PICTURE, STAGE), PICTURE, STAGE)).toEqual([438, 188, 563, 313]);
  expect(middleBox({ scale: 10, x: 0, y: 0 }, PICTURE, STAGE)).toEqual([21, 15, 31, 25]);
});
