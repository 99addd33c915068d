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
  unlabelled: number;
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
  suspects: number;
  uncertainty: number | null;
  duplicate_of: string | null;
  split: string | null;
}

export interface SavedBox {
  id: string | number | null;
  box_xyxy: BoxXyxy;
  class: string;
  difficult: boolean;
  ignore: boolean;
  iscrowd?: boolean;
}

export interface ModelBox {
  box_xyxy: BoxXyxy;
  class: string;
  score: number;
}

export interface Suspect {
  id: string | number;
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
  boxes: SavedBox[];
  proposals: ModelBox[] | null;
  suspects: Suspect[];
  note: string | null;
}

export interface PutBody {
  boxes: SavedBox[];
  empty: boolean;
}

export interface Saved {
  revision: string;
  state: PictureState;
  boxes: SavedBox[];
}

export type Filters = Record<"order" | "state" | "class" | "split" | "size" | "q", string>;

/** Another window or program changed the picture (412); `current` is what it is now. */
export class Conflict extends Problem {
  constructor(
    detail: string,
    readonly current: PictureRecord,
  ) {
    super(412, detail);
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

  picture(imageId: string): Promise<PictureRecord> {
    return ask(`pictures/${pathOf(imageId)}`) as Promise<PictureRecord>;
  }

  put(imageId: string, body: PutBody, revision: string): Promise<Saved> {
    return this.write("PUT", `pictures/${pathOf(imageId)}`, body, revision);
  }

  decide(suspect: Suspect, decision: "label" | "answer", revision: string): Promise<Saved> {
    return this.write("POST", `suspects/${encodeURIComponent(suspect.id)}`, { decision }, revision);
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

  private write(method: string, path: string, body: unknown, revision: string): Promise<Saved> {
    const headers = { "Content-Type": "application/json", "If-Match": `"${revision}"`, "X-Maskwatch-Window": this.window };
    // keepalive: an edit made just before the page is closed still arrives; browsers allow it up to 64 KiB.
    const text = JSON.stringify(body);
    return ask(path, { method, headers, body: text, keepalive: text.length < 60_000 }) as Promise<Saved>;
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
  if (response.status === 412 && body?.current) throw new Conflict(detail, body.current);
  throw new Problem(response.status, detail);
}

function pathOf(imageId: string): string {
  return imageId.split("/").map(encodeURIComponent).join("/");
}

function address(path: string): string {
  return new URL(`api/label/${path}`, document.baseURI).href;
}
