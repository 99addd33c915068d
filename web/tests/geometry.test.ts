import { describe, expect, it } from "vitest";
import { fittedSize, roundHalfEven, scaleBox, toPicture, within } from "../src/geometry";

const canvas = { width: 320, height: 320 };

describe("letterbox", () => {
  it("keeps the shape, up and down", () => {
    expect(fittedSize({ width: 1280, height: 720 }, canvas, "letterbox")).toEqual({ width: 320, height: 180 });
    expect(fittedSize({ width: 100, height: 160 }, canvas, "letterbox")).toEqual({ width: 200, height: 320 });
  });

  it("leaves at least one pixel", () => {
    expect(fittedSize({ width: 5000, height: 1 }, canvas, "letterbox")).toEqual({ width: 320, height: 1 });
  });

  it("rounds halves to even, as Python does", () => {
    // 3 · 320 / 640 = 1.5 → 2, 5 · 320 / 640 = 2.5 → 2
    expect(fittedSize({ width: 640, height: 3 }, canvas, "letterbox").height).toBe(2);
    expect(fittedSize({ width: 640, height: 5 }, canvas, "letterbox").height).toBe(2);
    expect([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 3]);
  });

  it("brings boxes back, x and y each with its own scale, clipped to the picture", () => {
    const picture = { width: 640, height: 5 };
    const fitted = { width: 320, height: 2 };
    expect(toPicture([10, 1, 400, 320], fitted, picture)).toEqual([20, 2.5, 640, 5]);
  });
});

describe("squash", () => {
  it("fills the canvas", () => {
    expect(fittedSize({ width: 1280, height: 720 }, canvas, "squash")).toEqual(canvas);
  });
});

describe("frames", () => {
  it("are made smaller, never larger", () => {
    expect(within({ width: 1920, height: 1080 }, 960)).toEqual({ width: 960, height: 540 });
    expect(within({ width: 640, height: 480 }, 960)).toEqual({ width: 640, height: 480 });
  });

  it("get their boxes back in their own pixels", () => {
    const from = { width: 960, height: 540 };
    expect(scaleBox([10, 20, 30, 40], from, { width: 1920, height: 1080 })).toEqual([20, 40, 60, 80]);
  });
});
