// Other windows on the same folder: which are open, and what they change.

import type { LabelApi, PictureState } from "./api";

export interface PictureChange {
  image_id: string;
  revision: string;
  state: PictureState;
  window: string | null;
}

export interface Progress {
  done: number;
  pictures: number;
  boxes_per_hour: number | null;
}

export interface ChangeEvents {
  picture(change: PictureChange): void;
  proposals(imageId: string): void;
  progress(progress: Progress): void;
  /** The server is there again: what happened meanwhile is unknown. */
  again(): void;
}

const PREFIX = "maskwatch.label.";
const RETRY_MS = 3000;

/** Names this window as open until it is closed, and gives the names of the others. */
export async function openWindows(own: string): Promise<string[]> {
  if (!("locks" in navigator)) return []; // over plain HTTP from another computer
  void navigator.locks.request(PREFIX + own, () => new Promise(() => {}));
  const { held = [] } = await navigator.locks.query();
  return held.flatMap(({ name }) => (name?.startsWith(PREFIX) ? [name.slice(PREFIX.length)] : []));
}

/** Calls back for each change that the server reports, as long as the page is open. */
export function listenForChanges(api: LabelApi, events: ChangeEvents): void {
  let lost = false;
  const source = api.changes();
  const on = (name: string, take: (data: unknown) => void) =>
    source.addEventListener(name, (event) => take(JSON.parse((event as MessageEvent<string>).data)));
  on("picture", (data) => events.picture(data as PictureChange));
  on("proposals", (data) => events.proposals((data as { image_id: string }).image_id));
  on("progress", (data) => events.progress(data as Progress));
  source.addEventListener("open", () => {
    if (lost) events.again();
    lost = false;
  });
  source.addEventListener("error", () => {
    lost = true;
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again itself
    setTimeout(() => {
      listenForChanges(api, events);
      events.again();
    }, RETRY_MS);
  });
}
