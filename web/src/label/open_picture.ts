// The picture that is edited: what the server gave, the edits with their history, and which box is which there.

import type { Size } from "../geometry";
import { newKey, undecided, type Annotation, type LabelBox, type Proposal } from "./annotation";
import type { ModelBox, PictureRecord, Saved, SavedBox } from "./api";
import { iou } from "./boxes";
import type { Draft, DraftBox } from "./drafts";
import { History } from "./history";

const SAME_BOX_IOU = 0.5;

export class OpenPicture {
  readonly history: History<Annotation>;
  revision: string;
  private readonly ids = new Map<string, SavedBox["id"]>();
  private proposed: boolean;
  private readonly wasDone: boolean;

  /** @param draft edits that the server does not have yet. */
  constructor(
    public record: PictureRecord,
    draft: Draft | null = null,
  ) {
    this.revision = draft?.revision ?? record.revision;
    const drafted = draft?.boxes ?? record.boxes.map((box) => ({ ...box, key: newKey() }));
    for (const { key, id } of drafted) this.ids.set(key, id);
    this.proposed = record.proposals !== null;
    this.wasDone = isDone(record);
    const boxes = drafted.map(labelBox);
    const refused = (draft?.refused ?? record.refused).map(keyed);
    const offered = draft?.undecided.length ? draft.undecided : (record.proposals ?? []);
    const proposals = draft?.empty ? [] : undecided(offered, [...boxes, ...refused]).map(keyed);
    this.history = new History<Annotation>({ boxes, proposals, refused, empty: draft?.empty ?? record.state === "empty" });
  }

  get imageId(): string {
    return this.record.image_id;
  }

  get size(): Size {
    return { width: this.record.width, height: this.record.height };
  }

  get annotation(): Annotation {
    return this.history.current;
  }

  draft(): Draft {
    const { boxes, proposals, refused, empty } = this.annotation;
    return {
      image_id: this.imageId,
      revision: this.revision,
      boxes: boxes.map((box) => ({ ...box, id: this.ids.get(box.key) ?? null })),
      empty,
      undecided: this.wasDone ? [] : proposals.map(modelBox), // an edit does not take back what was done
      refused: refused.map(modelBox),
    };
  }

  /** The server has `sent` now; it gives the ids in the same order. */
  acknowledge(saved: Saved, sent: readonly DraftBox[]): void {
    this.revision = saved.revision;
    this.record = { ...this.record, ...saved };
    // A deleted box keeps its id: where undo brings it back, the server knows what its file held beyond the box.
    sent.forEach(({ key }, i) => this.ids.set(key, saved.boxes[i]?.id ?? null));
  }

  /** Proposals that were computed after the picture was opened; true where the picture has edits to send again. */
  propose(proposals: readonly ModelBox[]): boolean {
    if (this.proposed) return false;
    this.proposed = true;
    const found = proposals.map(keyed);
    this.history.amend((state) => (state.empty ? state : { ...state, proposals: undecided(found, [...state.boxes, ...state.refused]) }));
    return this.history.canUndo && this.annotation.proposals.length > 0;
  }
}

/** Whether a picture has labels, or nothing to find, and no proposal is left to decide. */
export function isDone({ state, undecided: left }: Pick<PictureRecord, "state" | "undecided">): boolean {
  return state !== "unlabelled" && left === 0;
}

/** A draft over another version of the picture: each of these boxes takes the id of the one that lies there. */
export function over(draft: Draft, boxes: readonly DraftBox[], current: PictureRecord): Draft {
  const free = [...current.boxes];
  const matched = boxes.map((box) => {
    const best = free.reduce<SavedBox | null>((a, b) => (a && iou(a.box_xyxy, box.box_xyxy) >= iou(b.box_xyxy, box.box_xyxy) ? a : b), null);
    if (!best || iou(best.box_xyxy, box.box_xyxy) < SAME_BOX_IOU) return { ...box, id: null };
    free.splice(free.indexOf(best), 1);
    return { ...box, id: best.id };
  });
  return { ...draft, revision: current.revision, boxes: matched, empty: draft.empty && boxes.length === 0 };
}

function labelBox({ key, box_xyxy, class: name, difficult, ignore }: DraftBox): LabelBox {
  return { key, box_xyxy, class: name, difficult, ignore };
}

function keyed(one: ModelBox): Proposal {
  return { ...one, key: newKey() };
}

function modelBox({ box_xyxy, class: name, score }: Proposal): ModelBox {
  return { box_xyxy, class: name, score };
}
