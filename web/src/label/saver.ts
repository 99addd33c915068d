// Saves every edit at once: soon after it, one request at a time for a picture, again and again while the
// server is away. What is not acknowledged is kept as a draft.

import { Problem } from "../api";
import { sameBoxes } from "./annotation";
import { Conflict, type PictureRecord, type PutBody, type Saved } from "./api";
import type { Draft, DraftBox, Drafts } from "./drafts";

export type SaveState =
  | { kind: "waiting" | "saving" }
  /** Tried again later. */
  | { kind: "unsaved"; reason: string; status: number }
  /** Not tried again before the next edit. */
  | { kind: "refused"; reason: string }
  | { kind: "conflict"; current: PictureRecord };

interface Entry {
  draft: Draft;
  state: SaveState;
  edits: number;
  failures: number;
  timer: ReturnType<typeof setTimeout> | null;
  inFlight: boolean;
}

export interface SaverEvents {
  put(imageId: string, body: PutBody, revision: string): Promise<Saved>;
  /** The server has it; `sent` are the boxes in the order of those that it gives. */
  saved(imageId: string, saved: Saved, sent: readonly DraftBox[]): void;
  conflict(draft: Draft, current: PictureRecord): void;
  /** Some picture's state changed. */
  changed(): void;
}

const DEBOUNCE_MS = 300;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;
const PASSING = [0, 401, 403, 408, 425, 429]; // the server is away, restarted with another token, or busy

/** Milliseconds to wait after so many failures in a row. */
export function retryDelay(failures: number): number {
  return Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1));
}

export class Saver {
  private readonly entries = new Map<string, Entry>();

  constructor(
    private readonly events: SaverEvents,
    private readonly drafts: Pick<Drafts, "keep" | "drop">,
  ) {}

  /** The newest boxes of a picture; saved soon. */
  edit(draft: Draft): void {
    const entry = this.entries.get(draft.image_id);
    // Once it is edited here, the answers to what was sent tell the revision.
    const revision = entry?.draft.revision ?? draft.revision;
    this.take({ ...draft, revision }, DEBOUNCE_MS);
  }

  /** Saves over `revision`, whatever this window thought before: the answer to a conflict. */
  resolve(draft: Draft): void {
    this.take(draft, 0);
  }

  /** Forgets the edits of a picture: the other version is taken. */
  forget(imageId: string): void {
    const entry = this.entries.get(imageId);
    if (entry?.timer) clearTimeout(entry.timer);
    this.entries.delete(imageId);
    this.drafts.drop(imageId);
    this.events.changed();
  }

  /** Sends what waits for its pause to end, or for the server. */
  flush(): void {
    for (const entry of this.entries.values()) {
      if (entry.state.kind === "waiting" || entry.state.kind === "unsaved") this.schedule(entry, 0);
    }
  }

  pending(imageId: string): Draft | null {
    return this.entries.get(imageId)?.draft ?? null;
  }

  stateOf(imageId: string): SaveState | null {
    return this.entries.get(imageId)?.state ?? null;
  }

  /** Pictures that are not saved, the worst first. */
  states(): { imageId: string; state: SaveState }[] {
    const order = ["conflict", "refused", "unsaved", "saving", "waiting"];
    return [...this.entries]
      .map(([imageId, { state }]) => ({ imageId, state }))
      .sort((a, b) => order.indexOf(a.state.kind) - order.indexOf(b.state.kind));
  }

  private take(draft: Draft, delay: number): void {
    const before = this.entries.get(draft.image_id);
    const entry: Entry = before ?? { draft, state: { kind: "waiting" }, edits: 0, failures: 0, timer: null, inFlight: false };
    const inConflict = entry.state.kind === "conflict" && draft.revision === entry.draft.revision;
    entry.draft = draft;
    entry.edits += 1;
    this.entries.set(draft.image_id, entry);
    this.drafts.keep(draft);
    if (inConflict) return; // kept, and sent once the person has decided
    if (!entry.inFlight && entry.state.kind !== "unsaved") entry.state = { kind: "waiting" };
    this.schedule(entry, entry.state.kind === "unsaved" ? retryDelay(entry.failures) : delay);
    this.events.changed();
  }

  private schedule(entry: Entry, delay: number): void {
    if (entry.timer) clearTimeout(entry.timer);
    entry.timer = null;
    if (delay === 0) void this.send(entry);
    else entry.timer = setTimeout(() => void this.send(entry), delay);
  }

  private async send(entry: Entry): Promise<void> {
    if (entry.inFlight) return; // sent again after the answer
    const { edits, draft } = entry;
    entry.inFlight = true;
    entry.state = { kind: "saving" };
    this.events.changed();
    try {
      const saved = await this.events.put(draft.image_id, bodyOf(draft), draft.revision);
      this.acknowledge(entry, edits, draft, saved);
    } catch (error) {
      entry.inFlight = false;
      if (this.entries.get(draft.image_id) === entry) this.fail(entry, edits, draft, error);
    }
    this.events.changed();
  }

  private acknowledge(entry: Entry, edits: number, sent: Draft, saved: Saved): void {
    entry.inFlight = false;
    entry.failures = 0;
    this.events.saved(sent.image_id, saved, sent.boxes);
    if (this.entries.get(sent.image_id) !== entry) return;
    if (entry.edits === edits) {
      this.entries.delete(sent.image_id);
      this.drafts.drop(sent.image_id);
      return;
    }
    entry.draft = rebased(entry.draft, sent, saved);
    entry.state = { kind: "waiting" };
    this.drafts.keep(entry.draft);
    this.schedule(entry, DEBOUNCE_MS);
  }

  private fail(entry: Entry, edits: number, sent: Draft, error: unknown): void {
    if (error instanceof Conflict && error.status === 412) {
      const { current } = error;
      const same = sameBoxes(current.boxes, sent.boxes) && (current.state === "empty") === sent.empty;
      // It was written, and only the answer was lost.
      if (same) return this.acknowledge(entry, edits, sent, current);
      entry.state = { kind: "conflict", current };
      return this.events.conflict(entry.draft, current);
    }
    const reason = error instanceof Error ? error.message : String(error);
    const status = error instanceof Problem ? error.status : 0;
    if (status !== 0 && status < 500 && !PASSING.includes(status)) {
      entry.state = { kind: "refused", reason };
      return;
    }
    entry.failures += 1;
    entry.state = { kind: "unsaved", reason, status };
    this.schedule(entry, retryDelay(entry.failures));
  }
}

/** What is sent of a draft. */
export function bodyOf({ boxes, empty, undecided, refused }: Draft): PutBody {
  return {
    boxes: boxes.map(({ id, box_xyxy, class: name, difficult, ignore }) => ({ id, box_xyxy, class: name, difficult, ignore })),
    empty,
    undecided,
    refused,
  };
}

/** A newer draft after an older one was saved: with its revision and the ids that the server gave. */
export function rebased(newer: Draft, sent: Draft, saved: Saved): Draft {
  const ids = new Map(sent.boxes.map(({ key }, i) => [key, saved.boxes[i]?.id ?? null]));
  return {
    ...newer,
    revision: saved.revision,
    boxes: newer.boxes.map((box) => ({ ...box, id: ids.get(box.key) ?? box.id })),
  };
}
