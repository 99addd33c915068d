import { describe, expect, it } from "vitest";
import { meanColors, patches } from "../src/blur";

const picture = { width: 100, height: 80 };

describe("patches", () => {
  it("have a margin of a quarter on each side, and three cells", () => {
    const [patch] = patches([[20, 20, 40, 40]], picture);
    expect(patch).toEqual({ left: 15, top: 15, columns: [0, 10, 20, 30], rows: [0, 10, 20, 30] });
  });

  it("are not smaller than 12 pixels", () => {
    const [patch] = patches([[50, 50, 52, 52]], picture);
    expect(patch).toEqual({ left: 45, top: 45, columns: [0, 4, 8, 12], rows: [0, 4, 8, 12] });
  });

  it("get no finer at the border", () => {
    // Of a patch of 30 pixels from -15 to 15 half is inside: 1.5 cells, which is rounded to 2.
    expect(patches([[-10, 20, 10, 40]], picture)[0]?.columns).toEqual([0, 8, 15]);
  });

  it("come largest last; what lies outside is left out", () => {
    const found = patches([[0, 0, 60, 60], [10, 10, 20, 20], [200, 0, 220, 20]], picture);
    expect(found.map((one) => one.left)).toEqual([7, 0]);
  });
});

describe("mean colours", () => {
  it("are all that is left", () => {
    const pixels = Uint8ClampedArray.from([10, 0, 0, 255, 30, 0, 0, 255, 0, 50, 0, 255, 0, 70, 0, 255]);
    const patch = { left: 0, top: 0, columns: [0, 2], rows: [0, 1, 2] };
    expect([...meanColors(pixels, patch)]).toEqual([20, 0, 0, 255, 0, 60, 0, 255]);
  });
});
