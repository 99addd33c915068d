// The list of pictures as data: which comes next, which rows are in sight.

import type { PictureItem } from "./api";

/** The picture `step` places away, or null at the end. */
export function neighbour(list: readonly PictureItem[], imageId: string | null, step: number): PictureItem | null {
  const at = list.findIndex((one) => one.image_id === imageId);
  return list[at === -1 ? 0 : at + step] ?? null;
}

/** The first picture after this one that a test holds for; from the start again after the last. */
export function nextWhere(
  list: readonly PictureItem[],
  imageId: string | null,
  test: (item: PictureItem) => boolean,
): PictureItem | null {
  const at = list.findIndex((one) => one.image_id === imageId);
  const turned = [...list.slice(at + 1), ...list.slice(0, Math.max(0, at))];
  return turned.find(test) ?? null;
}

/** What the page says where `neighbour` finds none. */
export function endOfList(step: number, todo: number): string {
  if (step < 0) return "This is the first picture of the list";
  if (todo === 0) return "This is the last picture, and every picture of the list is done";
  return `This is the last picture of the list; U goes to the next of ${todo} that are not done`;
}

/** First row to draw, and the one after the last. */
export function rowsInSight(top: number, height: number, rowHeight: number, count: number, spare = 4): [number, number] {
  const first = Math.floor(top / rowHeight) - spare;
  const last = Math.ceil((top + height) / rowHeight) + spare;
  return [Math.min(count, Math.max(0, first)), Math.min(count, Math.max(0, last))];
}

/** " · 140 boxes an hour", or nothing while that is not known. */
export function paceText(boxesPerHour: number | null): string {
  return boxesPerHour === null ? "" : ` · ${Math.round(boxesPerHour)} boxes an hour`;
}

/** What a row says of its picture. */
export function stateText(item: PictureItem): string {
  const state = item.state === "unlabelled" ? "not labelled" : item.state === "empty" ? "nothing to find" : boxCount(item.boxes);
  const left = item.undecided === 0 ? "" : `, ${proposalCount(item.undecided)} left`;
  const suspects = item.suspects === 0 ? "" : `, ${item.suspects} ${item.suspects === 1 ? "suspect" : "suspects"}`;
  return `${state}${left}${suspects}${item.duplicate_of === null ? "" : ", near-duplicate"}`;
}

/** What stands above the list of boxes. */
export function boxesTitle(boxes: number, proposals: number, empty: boolean): string {
  if (empty) return "Nothing to find here";
  if (boxes === 0 && proposals === 0) return "No box yet";
  return [boxes > 0 ? boxCount(boxes) : "", proposals > 0 ? proposalCount(proposals) : ""].filter(Boolean).join(", ");
}

function proposalCount(count: number): string {
  return count === 1 ? "1 proposal" : `${count} proposals`;
}

export function boxCount(count: number): string {
  return count === 1 ? "1 box" : `${count} boxes`;
}

/** " 0.87", or nothing where there is no score. */
export function scoreText(score: number | null): string {
  return score === null ? "" : ` ${score.toFixed(2)}`;
}

/** A class as it is read: `mask_incorrect` → "mask incorrect". */
export function nameText(name: string): string {
  return name.replaceAll("_", " ");
}
