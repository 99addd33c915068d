import { describe, expect, it } from "vitest";
import type { Detection } from "../src/records";
import { asked, countByClass, counting, sliderPercent, sliderText, summary, thresholdsFor } from "../src/threshold";

const own = { mask: 0.36, no_mask: 0.43, mask_incorrect: 0.51 };
const classes = Object.keys(own);

function face(name: string, score: number): Detection {
  return { class: name, class_id: classes.indexOf(name), score, box: [0, 0, 10, 10] };
}

const faces = [face("mask", 0.9), face("no_mask", 0.43), face("mask", 0.37), face("mask_incorrect", 0.5)];

describe("the slider", () => {
  it("takes the model's own thresholds until it is moved", () => {
    expect(thresholdsFor(null, own)).toEqual(own);
    expect(thresholdsFor(0.5, own)).toEqual({ mask: 0.5, no_mask: 0.5, mask_incorrect: 0.5 });
  });

  it("counts what is above the threshold, not what is at it", () => {
    expect(counting(faces, own).map((one) => one.score)).toEqual([0.9, 0.37]);
    expect(counting(faces, thresholdsFor(0.1, own))).toHaveLength(4);
    expect(counting(faces, thresholdsFor(0.95, own))).toEqual([]);
  });

  it("asks the detector for all that it could show", () => {
    expect(asked(own)).toBe(0.1);
    expect(asked({ mask: 0.05 })).toBe(0.05);
  });

  it("says where it stands", () => {
    expect(sliderPercent(null, own)).toBe(43);
    expect(sliderPercent(0.72, own)).toBe(72);
    expect(sliderText(0.72, own)).toBe("72%");
    expect(sliderText(null, own)).toBe("the model's own: mask 36%, no mask 43%, mask incorrect 51%");
  });
});

describe("the count", () => {
  it("has every class, also those that were not found", () => {
    expect([...countByClass(faces, classes)]).toEqual([["mask", 2], ["no_mask", 1], ["mask_incorrect", 1]]);
  });

  it("is a sentence", () => {
    expect(summary([], classes)).toBe("No face found");
    expect(summary([faces[1]], classes)).toBe("1 face: 1 no mask");
    expect(summary(faces, classes)).toBe("4 faces: 2 mask, 1 no mask, 1 mask incorrect");
  });
});
