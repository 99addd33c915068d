// The list of shortcuts, and the choice between two versions of a picture.

import { element, made } from "../dom";
import type { PictureRecord, SavedBox } from "./api";
import type { Draft } from "./drafts";
import { shortcutTable } from "./keys";
import { boxCount, nameText } from "./listing";
import { svg } from "./shapes";

const SINGLE_KEYS = "maskwatch.label.single-keys";

export type Choice = "mine" | "theirs" | "both";

/** Whether single characters are shortcuts; speech input may need them off (WCAG 2.1.4). */
export function singleKeys(): boolean {
  return localStorage.getItem(SINGLE_KEYS) !== "off";
}

export function prepareHelp(): void {
  const parts = shortcutTable().flatMap(({ heading, rows }) => {
    const list = made("dl");
    for (const [keys, text] of rows) {
      const pair = made("div");
      const term = made("dt");
      term.append(made("kbd", keys));
      pair.append(term, made("dd", text));
      list.append(pair);
    }
    const part = made("section");
    part.append(made("h3", heading), list);
    return [part];
  });
  element("shortcuts").replaceChildren(...parts);
  const box = element<HTMLInputElement>("single-keys");
  box.checked = singleKeys();
  box.addEventListener("change", () => localStorage.setItem(SINGLE_KEYS, box.checked ? "on" : "off"));
}

export function openHelp(): void {
  element<HTMLDialogElement>("help").showModal();
}

/** Asks which version stays; null where the person decides later. */
export function askConflict(draft: Draft, current: PictureRecord, imageUrl: string, colors: ReadonlyMap<string, string>): Promise<Choice | null> {
  const dialog = element<HTMLDialogElement>("conflict");
  element("conflict-name").textContent = draft.image_id;
  const empty = current.state === "empty";
  element("mine").replaceChildren(...version(draft.boxes, draft.empty, current, imageUrl, colors));
  element("theirs").replaceChildren(...version(current.boxes, empty, current, imageUrl, colors));
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      const value = dialog.returnValue;
      done(value === "mine" || value === "theirs" || value === "both" ? value : null);
    }, { once: true });
  });
}

function version(
  boxes: readonly SavedBox[],
  empty: boolean,
  { width, height }: PictureRecord,
  imageUrl: string,
  colors: ReadonlyMap<string, string>,
): Element[] {
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": boxCount(boxes.length) });
  picture.append(svg("image", { href: imageUrl, width, height }));
  for (const { box_xyxy, class: name } of boxes) {
    const [left, top, right, bottom] = box_xyxy;
    const place = { x: left, y: top, width: right - left, height: bottom - top, class: "version-box" };
    picture.append(svg("rect", { ...place, stroke: colors.get(name) ?? "#a0a0a0" }));
  }
  return [picture, made("p", empty ? "Nothing to find here" : summary(boxes))];
}

/** "3 boxes: 2 mask, 1 no mask". */
export function summary(boxes: readonly { class: string }[]): string {
  const counts = new Map<string, number>();
  for (const { class: name } of boxes) counts.set(name, (counts.get(name) ?? 0) + 1);
  const parts = [...counts].map(([name, count]) => `${count} ${nameText(name)}`);
  return parts.length === 0 ? "no box" : `${boxCount(boxes.length)}: ${parts.join(", ")}`;
}
