import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { resize } from "../src/resize";

interface Case {
  from: [number, number];
  to: [number, number];
  pixels: number[];
  expected: number[];
}

/** Grey values, row by row → the red channel of the resized picture. */
function grey(values: number[], width: number, to: [number, number]): number[] {
  const rgba = (y: number) =>
    Uint8ClampedArray.from(values.slice(y * width, (y + 1) * width).flatMap((v) => [v, v, v, 255]));
  const from = { width, height: values.length / width };
  const out = resize(rgba, from, { width: to[0], height: to[1] });
  return [...out].filter((_, i) => i % 3 === 0);
}

describe("area averaging", () => {
  it("gives means of whole blocks", () => {
    expect(grey([0, 30, 60, 90, 120, 150, 180, 210, 240], 3, [1, 1])).toEqual([120]);
  });

  it("weighs a pixel that lies in two cells", () => {
    // 3 → 2: the middle pixel goes half to each side: (100 + 0.5 * 40) / 1.5 = 80, (0.5 * 40 + 10) / 1.5 = 20
    expect(grey([100, 40, 10, 100, 40, 10, 100, 40, 10], 3, [2, 2])).toEqual([80, 20, 80, 20]);
  });

  it("rounds halves up where both sides are halved, as OpenCV does", () => {
    expect(grey([0, 1, 1, 0], 2, [1, 1])).toEqual([1]);
  });

  it("rounds halves to even elsewhere", () => {
    expect(grey([0, 1], 2, [1, 1])).toEqual([0]);
    expect(grey([1, 2], 2, [1, 1])).toEqual([2]);
  });
});

describe("bilinear", () => {
  it("keeps the corners and passes smoothly between them", () => {
    expect(grey([0, 100], 2, [4, 1])).toEqual([0, 25, 75, 100]);
  });
});

describe("the same size", () => {
  it("changes nothing", () => {
    expect(grey([1, 2, 3, 4], 2, [2, 2])).toEqual([1, 2, 3, 4]);
  });
});

// tests/test_page_build.py writes pictures with what OpenCV makes of them, and names the file here.
const cases = process.env["MASKWATCH_RESIZE_CASES"] ?? "";

describe.skipIf(!existsSync(cases))("as OpenCV", () => {
  const list = existsSync(cases) ? (JSON.parse(readFileSync(cases, "utf-8")) as Case[]) : [];
  it.each(list)("$from → $to", ({ from, to, pixels, expected }) => {
    const row = (y: number) => {
      const line = new Uint8ClampedArray(from[0] * 4);
      for (let i = 0; i < from[0] * 3; i++) line[4 * Math.floor(i / 3) + (i % 3)] = pixels[y * from[0] * 3 + i];
      return line;
    };
    const out = resize(row, { width: from[0], height: from[1] }, { width: to[0], height: to[1] });
    const differences = expected.map((value, i) => Math.abs(value - out[i]));
    // One grey value here and there: sums of 32-bit floats depend on their order by a last bit, and OpenCV's
    // fixed point differs from processor to processor where it grows.
    const growing = to[0] * to[1] >= from[0] * from[1];
    expect(Math.max(...differences)).toBeLessThanOrEqual(1);
    expect(differences.filter((d) => d > 0).length / differences.length).toBeLessThan(growing ? 0.05 : 0.005);
  });
});
