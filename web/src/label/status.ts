// What stands in the head of the page: progress, and whether everything is saved.

import { element, show } from "../dom";
import type { Project } from "./api";
import { paceText } from "./listing";
import type { SaveState } from "./saver";

export interface SaveText {
  kind: "saved" | "saving" | "unsaved";
  text: string;
  /** What the person should know or do, or nothing. */
  alert: string;
}

/** The worst of all pictures' states, in words. */
export function saveText(states: readonly { imageId: string; state: SaveState }[]): SaveText {
  const [worst] = states;
  if (!worst) return { kind: "saved", text: "Saved", alert: "" };
  const { imageId, state } = worst;
  switch (state.kind) {
    case "waiting":
    case "saving":
      return { kind: "saving", text: "Saving …", alert: "" };
    case "conflict":
      return { kind: "unsaved", text: "Not saved: two versions", alert: "" };
    case "refused":
      return { kind: "unsaved", text: "Not saved", alert: `${imageId} is not saved: ${state.reason}` };
    case "unsaved":
      return { kind: "unsaved", text: "Not saved, trying again", alert: unsavedText(state) };
  }
}

function unsavedText({ status, reason }: { status: number; reason: string }): string {
  const kept = "Your edits are kept in this browser and sent as soon as it works.";
  if (status === 401 || status === 403) return `The server was started again: open the address that it printed, in another tab. ${kept}`;
  if (status === 507) return `The disk is full: free some space. ${reason} ${kept}`;
  return `${reason}. ${kept}`.replace("..", ".");
}

export function showSaveState(states: readonly { imageId: string; state: SaveState }[]): void {
  const { kind, text, alert } = saveText(states);
  const place = element("save-state");
  if (place.textContent !== text) place.textContent = text;
  place.dataset.state = kind;
  show(element("decide"), states.some(({ state }) => state.kind === "conflict"));
  const unsaved = element("unsaved");
  if (alert !== unsaved.textContent) unsaved.textContent = alert;
  show(unsaved, alert !== "");
}

export function showProgress({ counts, boxes_per_hour }: Project): void {
  const { done, pictures } = counts;
  const bar = element<HTMLProgressElement>("progress");
  bar.max = Math.max(1, pictures);
  bar.value = done;
  element("progress-text").textContent = `${done} of ${pictures}`;
  element("pace").textContent = paceText(boxes_per_hour);
}

export function say(text: string): void {
  element("say").textContent = text;
}
