import { expect, it } from "vitest";
import type { PictureItem } from "../../src/label/api";
import { inkOn, rgbOf } from "../../src/label/color";
import { summary } from "../../src/label/dialogs";
import { boxesTitle, endOfList, neighbour, nextWhere, paceText, rowsInSight, stateText } from "../../src/label/listing";

const item = (image_id: string, rest: Partial<PictureItem> = {}): PictureItem => ({
  image_id, width: 1, height: 1, state: "unlabelled", boxes: 0, undecided: 0, suspects: 0, uncertainty: null, duplicate_of: null,
  split: null, ...rest,
});
const LIST = [item("a"), item("b", { state: "labelled", boxes: 1 }), item("c")];

it("goes to neighbours, and round the list for what is searched", () => {
  expect(neighbour(LIST, "a", 1)?.image_id).toBe("b");
  expect(neighbour(LIST, "c", 1)).toBeNull();
  expect(neighbour(LIST, "gone", 1)?.image_id).toBe("a");
  const unlabelled = (one: PictureItem) => one.state === "unlabelled";
  expect(nextWhere(LIST, "c", unlabelled)?.image_id).toBe("a");
  expect(nextWhere(LIST, "a", unlabelled)?.image_id).toBe("c");
  expect(nextWhere(LIST, "a", (one) => one.suspects > 0)).toBeNull();
});

it("says at an end of the list whether anything is left", () => {
  expect(endOfList(-1, 2)).toMatch("first picture");
  expect(endOfList(1, 0)).toMatch("every picture of the list is done");
  expect(endOfList(1, 2)).toMatch("next of 2 that are not done");
});

it("draws the rows in sight alone", () => {
  expect(rowsInSight(0, 560, 56, 10_000)).toEqual([0, 14]);
  expect(rowsInSight(56 * 5000, 560, 56, 10_000)).toEqual([4996, 5014]);
  expect(rowsInSight(0, 560, 56, 3)).toEqual([0, 3]);
});

it("says how far it is", () => {
  expect(paceText(139.6)).toBe(" · 140 boxes an hour");
  expect(paceText(null)).toBe("");
  expect(boxesTitle(1, 2, false)).toBe("1 box, 2 proposals");
  expect([boxesTitle(0, 1, false), boxesTitle(2, 0, false), boxesTitle(0, 0, false)]).toEqual(["1 proposal", "2 boxes", "No box yet"]);
  expect(stateText(LIST[1]!)).toBe("1 box");
  expect(stateText({ ...LIST[1]!, undecided: 2 })).toBe("1 box, 2 proposals left");
  expect(stateText(item("d", { state: "empty", suspects: 2, duplicate_of: "a" }))).toBe("nothing to find, 2 suspects, near-duplicate");
  expect(summary([{ class: "no_mask" }, { class: "mask" }, { class: "no_mask" }])).toBe("3 boxes: 2 no mask, 1 mask");
});

it("reads colours, and writes on them in black or white", () => {
  expect(rgbOf("#009e73")).toEqual([0, 158, 115]);
  expect(rgbOf("green")).toEqual([160, 160, 160]);
  expect([inkOn("#f0e442"), inkOn("#0072b2")]).toEqual(["#000", "#fff"]);
});
