// What is known of one picture while it is edited. Never changed in place: every edit makes a new one.

import type { BoxXyxy, Size } from "../geometry";
import { clipped, iou } from "./boxes";

/** A box that is saved; `key` names it in this window, whatever the server calls it. */
export interface LabelBox {
  key: string;
  box_xyxy: BoxXyxy;
  class: string;
  difficult: boolean;
  ignore: boolean;
}

/** A box that the model proposes; it is saved once it is accepted. */
export interface Proposal {
  key: string;
  box_xyxy: BoxXyxy;
  class: string;
  score: number | null;
}

export interface Annotation {
  boxes: readonly LabelBox[];
  proposals: readonly Proposal[];
  /** Proposals that are wrong; they do not come again. */
  refused: readonly Proposal[];
  /** Looked at, and there is nothing to find. */
  empty: boolean;
}

const SAME_IOU = 0.5; // a proposal that overlaps a box this much is about the same face
const COPY_IOU = 0.9;

// Drafts of another window bring their keys along.
const WINDOW = Math.random().toString(36).slice(2, 8);
let counter = 0;

export function newKey(): string {
  return `${WINDOW}-${++counter}`;
}

/** A box that is drawn over a proposal takes its place. */
export function withBox(before: Annotation, box: LabelBox): Annotation {
  return { ...before, boxes: [...before.boxes, box], proposals: undecided(before.proposals, [box]), empty: false };
}

/** The annotation with another place, class or mark of a box; changing a proposal accepts it. */
export function changed(before: Annotation, key: string, change: Partial<Omit<LabelBox, "key">>): Annotation {
  const after = before.proposals.some((one) => one.key === key) ? accepted(before, [key]) : before;
  return { ...after, boxes: after.boxes.map((one) => (one.key === key ? { ...one, ...change } : one)) };
}

/** Without a box, or with a proposal refused. */
export function without(before: Annotation, key: string): Annotation {
  if (before.proposals.some((one) => one.key === key)) return refused(before, [key]);
  return { ...before, boxes: before.boxes.filter((one) => one.key !== key) };
}

/** Proposals with these keys are wrong. */
export function refused(before: Annotation, keys: readonly string[]): Annotation {
  const chosen = before.proposals.filter((one) => keys.includes(one.key));
  if (chosen.length === 0) return before;
  const proposals = before.proposals.filter((one) => !chosen.includes(one));
  return { ...before, proposals, refused: [...before.refused, ...chosen] };
}

/** Proposals, or those with these keys, become boxes. */
export function accepted(before: Annotation, keys: readonly string[] | null = null): Annotation {
  const chosen = before.proposals.filter((one) => keys === null || keys.includes(one.key));
  if (chosen.length === 0) return before;
  const boxes = chosen.map(({ key, box_xyxy, class: name }) => ({
    key, box_xyxy, class: name, difficult: false, ignore: false,
  }));
  return {
    ...before,
    boxes: [...before.boxes, ...boxes],
    proposals: before.proposals.filter((one) => !chosen.includes(one)),
    empty: false,
  };
}

/** Nothing to find in this picture, so that all proposals are wrong. */
export function emptied(before: Annotation): Annotation {
  return { boxes: [], proposals: [], refused: [...before.refused, ...before.proposals], empty: true };
}

/** The annotation with the boxes of another picture, as far as they fit in and are not there yet. */
export function withCopies(before: Annotation, boxes: readonly LabelBox[], size: Size): Annotation {
  const copies = boxes.flatMap((one) => {
    const box_xyxy = clipped(one.box_xyxy, size);
    const there = before.boxes.some((other) => box_xyxy && iou(other.box_xyxy, box_xyxy) > COPY_IOU);
    return box_xyxy && !there ? [{ ...one, key: newKey(), box_xyxy }] : [];
  });
  if (copies.length === 0) return before;
  return { ...before, boxes: [...before.boxes, ...copies], proposals: undecided(before.proposals, copies), empty: false };
}

/** Proposals that are not about a face with a box. */
export function undecided<T extends { box_xyxy: BoxXyxy }>(
  proposals: readonly T[],
  boxes: readonly { box_xyxy: BoxXyxy }[],
): T[] {
  return proposals.filter((one) => !boxes.some((box) => iou(box.box_xyxy, one.box_xyxy) >= SAME_IOU));
}

/** All boxes of two versions; a box that is the same in both stands once. */
export function merged<T extends Omit<LabelBox, "key">>(theirs: readonly T[], mine: readonly T[]): T[] {
  return [...theirs, ...mine.filter((one) => !theirs.some((other) => sameBox(one, other)))];
}

type Comparable = Omit<LabelBox, "key">;

/** Whether two lists hold the same boxes, in whatever order. */
export function sameBoxes(one: readonly Comparable[], other: readonly Comparable[]): boolean {
  return (
    one.length === other.length &&
    one.every((box) => other.some((twin) => sameBox(box, twin))) &&
    other.every((box) => one.some((twin) => sameBox(box, twin)))
  );
}

function sameBox(one: Comparable, other: Comparable): boolean {
  return (
    one.class === other.class &&
    one.difficult === other.difficult &&
    one.ignore === other.ignore &&
    // Files of whole pixels round.
    one.box_xyxy.every((value, i) => Math.abs(value - other.box_xyxy[i]!) <= 0.5)
  );
}
