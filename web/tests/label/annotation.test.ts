import { describe, expect, it } from "vitest";
import {
  accepted, changed, emptied, merged, refused, sameBoxes, undecided, withBox, withCopies, without, type Annotation, type LabelBox,
} from "../../src/label/annotation";

const box = (key: string, left: number, name = "mask"): LabelBox => ({
  key, box_xyxy: [left, 0, left + 10, 10], class: name, difficult: false, ignore: false,
});
const BEFORE: Annotation = {
  boxes: [box("a", 0)],
  proposals: [
    { key: "p", box_xyxy: [20, 0, 30, 10], class: "mask", score: 0.9 },
    { key: "q", box_xyxy: [40, 0, 50, 10], class: "no_mask", score: 0.6 },
  ],
  refused: [],
  empty: false,
};

describe("proposals", () => {
  it("become boxes, one or all", () => {
    const one = accepted(BEFORE, ["q"]);
    expect(one.boxes.at(-1)).toEqual({ key: "q", box_xyxy: [40, 0, 50, 10], class: "no_mask", difficult: false, ignore: false });
    expect(one.proposals.map(({ key }) => key)).toEqual(["p"]);
    expect(accepted(BEFORE).boxes.map(({ key }) => key)).toEqual(["a", "p", "q"]);
    expect(accepted(one, ["a"])).toBe(one);
  });

  it("are accepted by a change", () => {
    const after = changed(BEFORE, "p", { class: "no_mask" });
    expect(after.boxes.at(-1)).toMatchObject({ key: "p", class: "no_mask" });
    expect(after.proposals).toHaveLength(1);
  });

  it("are refused one by one, all, or with the whole picture", () => {
    const keys = (one: Annotation) => [one.proposals, one.refused].map((list) => list.map(({ key }) => key));
    expect(keys(without(BEFORE, "p"))).toEqual([["q"], ["p"]]);
    expect(keys(refused(without(BEFORE, "q"), ["p"]))).toEqual([[], ["q", "p"]]);
    expect(keys(emptied(without(BEFORE, "q")))).toEqual([[], ["q", "p"]]);
    expect(refused(BEFORE, ["a"])).toBe(BEFORE);
  });

  it("are decided by a box that is drawn or copied over them", () => {
    expect(withBox(BEFORE, box("n", 21)).proposals.map(({ key }) => key)).toEqual(["q"]);
    expect(withCopies(BEFORE, [box("n", 39)], { width: 100, height: 100 }).proposals.map(({ key }) => key)).toEqual(["p"]);
  });

  it("are left out where a box is about the same face", () => {
    expect(undecided(BEFORE.proposals, [{ box_xyxy: [21, 0, 31, 10] }]).map(({ key }) => key)).toEqual(["q"]);
  });
});

it("a box or a proposal is deleted, and what is left stays as it is", () => {
  expect(without(BEFORE, "a")).toEqual({ ...BEFORE, boxes: [] });
  expect(without(BEFORE, "p").proposals).toHaveLength(1);
  expect(without(BEFORE, "p").boxes).toBe(BEFORE.boxes);
  expect(BEFORE.boxes).toHaveLength(1);
});

it("a new box ends “nothing to find here”", () => {
  expect(withBox(emptied(BEFORE), box("n", 5)).empty).toBe(false);
});

it("copies fit into the picture and come once", () => {
  const copies = withCopies(BEFORE, [box("x", 0), box("y", 95), box("z", 100)], { width: 100, height: 100 });
  expect(copies.boxes.map((one) => one.box_xyxy)).toEqual([[0, 0, 10, 10], [95, 0, 100, 10]]);
  expect(new Set(copies.boxes.map(({ key }) => key)).size).toBe(2);
});

it("both versions together hold what is the same once", () => {
  const theirs = [box("1", 0), box("2", 50)];
  const mine = [box("a", 0.5), box("b", 50, "no_mask")];
  expect(merged(theirs, mine).map(({ key }) => key)).toEqual(["1", "2", "b"]);
  expect(sameBoxes(theirs, [box("c", 50), box("d", 0)])).toBe(true);
  expect(sameBoxes(theirs, mine)).toBe(false);
});
