import { expect, it } from "vitest";
import { accepted, without } from "../../src/label/annotation";
import type { PictureRecord, SavedBox } from "../../src/label/api";
import { OpenPicture, over } from "../../src/label/open_picture";

const saved = (id: string | null, left: number): SavedBox => ({
  id, box_xyxy: [left, 0, left + 10, 10], class: "mask", difficult: false, ignore: false,
});
const RECORD: PictureRecord = {
  image_id: "a.jpg", width: 100, height: 50, revision: "r0", state: "labelled", boxes: [saved("4", 0), saved("5", 30)],
  proposals: [
    { box_xyxy: [31, 0, 41, 10], class: "mask", score: 0.9 },
    { box_xyxy: [60, 0, 70, 10], class: "mask", score: 0.8 },
  ],
  undecided: 0, refused: [], suspects: [], note: null,
};

it("a draft names the boxes as the server does, and new ones by nothing", () => {
  const picture = new OpenPicture(RECORD);
  expect(picture.annotation.proposals.map(({ box_xyxy }) => box_xyxy[0])).toEqual([60]);
  picture.history.push(accepted(picture.annotation));
  expect(picture.draft().boxes.map(({ id }) => id)).toEqual(["4", "5", null]);
});

it("after saving it has the server's revision and ids; a deleted box that comes back has its old one", () => {
  const picture = new OpenPicture(RECORD);
  picture.history.push(without(picture.annotation, picture.annotation.boxes[0]!.key));
  picture.acknowledge({ revision: "r1", state: "labelled", undecided: 0, boxes: [saved("0", 30)] }, picture.draft().boxes);
  picture.history.undo();
  expect(picture.draft()).toMatchObject({ revision: "r1", boxes: [{ id: "4" }, { id: "0" }] });
});

it("a draft says which proposals are left and which were refused, unless the picture was done before", () => {
  const proposals = [60, 80, 20].map((left) => ({ box_xyxy: [left, 0, left + 10, 10] as [number, number, number, number], class: "mask", score: 0.8 }));
  const record: PictureRecord = { ...RECORD, state: "unlabelled", boxes: [], proposals };
  const picture = new OpenPicture(record);
  const [first, second] = picture.annotation.proposals;
  picture.history.push(without(accepted(picture.annotation, [first!.key]), second!.key));
  const draft = picture.draft();
  expect(draft).toMatchObject({ undecided: [proposals[2]], refused: [proposals[1]] });
  const again = new OpenPicture(record, draft);
  expect(again.annotation.proposals.map(({ box_xyxy }) => box_xyxy[0])).toEqual([20]);
  expect(again.draft()).toEqual(draft);
  const done = new OpenPicture({ ...RECORD, refused: [proposals[0]!] });
  expect(done.annotation.proposals).toEqual([]);
  const labelled = new OpenPicture(RECORD);
  expect(labelled.annotation.proposals).toHaveLength(1);
  expect(labelled.draft().undecided).toEqual([]);
});

it("late proposals appear in every state and are no step", () => {
  const picture = new OpenPicture({ ...RECORD, proposals: null });
  picture.history.push(without(picture.annotation, picture.annotation.boxes[1]!.key));
  picture.propose(RECORD.proposals!);
  expect(picture.annotation.proposals).toHaveLength(2);
  picture.history.undo();
  expect(picture.annotation.proposals).toHaveLength(1);
  picture.propose(RECORD.proposals!);
  expect(picture.annotation.proposals).toHaveLength(1);
});

it("a draft laid over another version takes the ids of the boxes that lie there", () => {
  const boxes = [saved("4", 31), saved("5", 80)].map((box, i) => ({ ...box, key: String(i) }));
  const before = new OpenPicture(RECORD).draft();
  const draft = over(before, boxes, { ...RECORD, revision: "r7", boxes: [saved("0", 30), saved("1", 0)] });
  expect(draft).toMatchObject({ revision: "r7", boxes: [{ id: "0" }, { id: null }] });
});
