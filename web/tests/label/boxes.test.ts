import { describe, expect, it } from "vitest";
import { clipped, drawn, handleAt, hits, iou, moved, resized, sizeText } from "../../src/label/boxes";

const SIZE = { width: 100, height: 80 };

describe("a box", () => {
  it("is drawn in whole pixels within the picture, in either direction", () => {
    expect(drawn({ x: 10.4, y: 20.6 }, { x: 30.5, y: 40.2 }, SIZE)).toEqual([10, 21, 31, 40]);
    expect(drawn({ x: 30, y: 40 }, { x: -5, y: 200 }, SIZE)).toEqual([0, 40, 30, 80]);
  });

  it("keeps its size where it is moved against an edge", () => {
    expect(moved([10, 10, 30, 20], 100, -100, SIZE)).toEqual([80, 0, 100, 10]);
    expect(moved([10.5, 10, 30.5, 20], 1, 0, SIZE)).toEqual([11.5, 10, 31.5, 20]);
  });

  it("changes only the edges that the handle holds", () => {
    expect(resized([10.25, 10, 30, 20.5], "e", 5, 99, SIZE)).toEqual([10.25, 10, 35, 20.5]);
    expect(resized([10, 10, 30, 20], "nw", -20, 4, SIZE)).toEqual([0, 14, 30, 20]);
  });

  it("turns over where it is pulled past the other side, and never vanishes", () => {
    expect(resized([10, 10, 30, 20], "e", -25, 0, SIZE)).toEqual([5, 10, 10, 20]);
    expect(resized([10, 10, 30, 20], "s", 0, -10, SIZE)).toEqual([10, 10, 30, 11]);
    expect(resized([90, 10, 100, 20], "w", 50, 0, SIZE)).toEqual([99, 10, 100, 20]);
  });

  it("is cut off at the edges of another picture", () => {
    expect(clipped([90, 70, 120, 90], SIZE)).toEqual([90, 70, 100, 80]);
    expect(clipped([100, 0, 120, 20], SIZE)).toBeNull();
  });

  it("is read as size and place", () => {
    expect(sizeText([10, 20.25, 44, 60])).toBe("34 × 40 at 10, 20");
  });
});

describe("what lies below a point", () => {
  const outer = { box_xyxy: [0, 0, 100, 80] as [number, number, number, number] };
  const inner = { box_xyxy: [40, 30, 60, 50] as [number, number, number, number] };

  it("is the smallest box first, then the nearest within reach", () => {
    expect(hits([outer, inner], { x: 50, y: 40 }, 0)).toEqual([inner, outer]);
    expect(hits([inner], { x: 70, y: 40 }, 9)).toEqual([]);
    expect(hits([inner], { x: 70, y: 40 }, 10)).toEqual([inner]);
  });

  it("is a handle near a corner, but never in the middle of a small box", () => {
    expect(handleAt([0, 0, 90, 90], { x: 4, y: 3 }, 8)).toBe("nw");
    expect(handleAt([0, 0, 90, 90], { x: 45, y: 93 }, 8)).toBe("s");
    expect(handleAt([0, 0, 9, 9], { x: 4.5, y: 4.5 }, 20)).toBeNull();
    expect(handleAt([0, 0, 9, 9], { x: 14, y: 14 }, 20)).toBe("se");
  });
});

it("the overlap of boxes is the shared part of both", () => {
  expect(iou([0, 0, 10, 10], [5, 0, 15, 10])).toBeCloseTo(1 / 3);
  expect(iou([0, 0, 10, 10], [20, 0, 30, 10])).toBe(0);
});
