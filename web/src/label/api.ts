// The labelling server's API; docs/label.md. Boxes are in pixels of the upright picture.

import { Problem } from "../api";
import type { BoxXyxy } from "../geometry";

export interface ClassInfo {
  name: string;
  color: string;
  key: string | null;
}

export interface Counts {
  pictures: number;
  done: number;
  todo: number;
  suspects: number;
  duplicates: number;
}

export interface Project {
  folder: string;
  format: string;
  classes: ClassInfo[];
  model: { name: string; classes: string[] } | null;
  version: string;
  counts: Counts;
  per_class: Record<string, number>;
  boxes_per_hour: number | null;
  /** False: the format cannot mark difficult boxes or regions. */
  marks_ignored: boolean;
  /** Where decisions about suspects go; null: nothing can be written. */
  decisions: "annotations" | "corrections" | null;
  orders: string[];
  filters: { splits: string[]; classes: string[]; sizes: string[] };
  read_only_reason: string | null;
}

export type PictureState = "unlabelled" | "labelled" | "empty";

export interface PictureItem {
  image_id: string;
  width: number;
  height: number;
  state: PictureState;
  boxes: number;
  /** Proposals left to decide in a picture that has labels. */
  undecided: number;
  suspects: number;
  uncertainty: number | null;
  duplicate_of: string | null;
  split: string | null;
}

export interface SavedBox {
  /** Null for a new one. */
  id: string | null;
  box_xyxy: BoxXyxy;
  class: string;
  difficult: boolean;
  /** A region with many faces that are not labelled one by one; a box has at most one of both marks. */
  ignore: boolean;
}

export interface ModelBox {
  box_xyxy: BoxXyxy;
  class: string;
  /** Null where a file that holds proposals has none. */
  score: number | null;
}

export interface Suspect {
  id: string;
  kind: "missing" | "class" | "no_face" | "box";
  box_xyxy: BoxXyxy;
  label: string | null;
  answer: string | null;
  score: number | null;
}

export interface PictureRecord {
  image_id: string;
  width: number;
  height: number;
  revision: string;
  state: PictureState;
  /** Proposals left to decide; the picture is not done before. */
  undecided: number;
  boxes: SavedBox[];
  proposals: ModelBox[] | null;
  refused: ModelBox[];
  suspects: Suspect[];
  note: string | null;
}

export interface PutBody {
  boxes: SavedBox[];
  empty: boolean;
  undecided: ModelBox[];
  refused: ModelBox[];
}

export interface Saved {
  revision: string;
  state: PictureState;
  undecided: number;
  boxes: SavedBox[];
}

export type Filters = Record<"order" | "state" | "class" | "split" | "size" | "q", string>;

/** Another window or program changed the picture; `current` is what it is now. */
export class Conflict extends Problem {
  constructor(
    status: number,
    detail: string,
    readonly current: PictureRecord,
  ) {
    super(status, detail);
  }
}

export class LabelApi {
  /** Names this window among others, so that it knows its own changes again. */
  readonly window = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");

  project(): Promise<Project> {
    return ask("project") as Promise<Project>;
  }

  async pictures(filters: Filters): Promise<PictureItem[]> {
    const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== ""));
    return ((await ask(`pictures?${query}`)) as { pictures: PictureItem[] }).pictures;
  }

  async picture(imageId: string): Promise<PictureRecord> {
    return withMarks((await ask(`pictures/${pathOf(imageId)}`)) as PictureRecord);
  }

  put(imageId: string, body: PutBody, revision: string): Promise<Saved> {
    return this.write("PUT", `pictures/${pathOf(imageId)}`, body, revision);
  }

  decide(suspect: Suspect, decision: "label" | "answer", reason: string, revision: string): Promise<Saved> {
    return this.write("POST", `suspects/${encodeURIComponent(suspect.id)}`, { decision, reason: reason || null }, revision);
  }

  imageUrl(imageId: string): string {
    return address(`images/${pathOf(imageId)}`);
  }

  thumbnailUrl(imageId: string): string {
    return address(`thumbnails/${pathOf(imageId)}`);
  }

  changes(): EventSource {
    return new EventSource(address("changes"));
  }

  private async write(method: string, path: string, body: unknown, revision: string): Promise<Saved> {
    const headers = { "Content-Type": "application/json", "If-Match": `"${revision}"`, "X-Maskwatch-Window": this.window };
    // keepalive: an edit made just before the page is closed still arrives; browsers allow it up to 64 KiB.
    const text = JSON.stringify(body);
    return withMarks((await ask(path, { method, headers, body: text, keepalive: text.length < 60_000 })) as Saved);
  }
}

async function ask(path: string, init: RequestInit = {}): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(address(path), init);
  } catch {
    throw new Problem(0, "the server does not answer; start `maskwatch label` again");
  }
  if (response.ok) return response.json();
  const body = (await response.json().catch(() => null)) as { detail?: string; current?: PictureRecord } | null;
  const detail = typeof body?.detail === "string" ? body.detail : `the server answered ${response.status}; try again`;
  if (body?.current) throw new Conflict(response.status, detail, withMarks(body.current));
  throw new Problem(response.status, detail);
}

/** The server's `ignore` is true for difficult boxes as well; here the two marks are apart. */
function withMarks<T extends Saved>(answer: T): T {
  const boxes = answer.boxes.map((box) => ({ ...box, ignore: (box as { iscrowd?: boolean }).iscrowd ?? box.ignore }));
  return { ...answer, boxes };
}

function pathOf(imageId: string): string {
  return imageId.split("/").map(encodeURIComponent).join("/");
}

function address(path: string): string {
  return new URL(`api/label/${path}`, document.baseURI).href;
}
