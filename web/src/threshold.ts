// The threshold slider. The detector is asked once, with a low threshold; what counts is chosen here, at
// once and without another request.

import type { Detection, Thresholds } from "./records";

/** As low as the slider goes; faces surer than this are covered when faces are blurred. */
export const LOWEST = 0.1;

/** A score for all classes, or null for the model's own, which has one for each class. */
export type Choice = number | null;

/** What the detector is asked with: nothing that any position of the slider shows may be missing. */
export function asked(own: Thresholds): number {
  return Math.min(LOWEST, ...Object.values(own));
}

export function thresholdsFor(choice: Choice, own: Thresholds): Thresholds {
  if (choice === null) return { ...own };
  return Object.fromEntries(Object.keys(own).map((name) => [name, choice]));
}

/** Detections above (not at) the threshold of their class. */
export function counting(detections: Detection[], thresholds: Thresholds): Detection[] {
  return detections.filter((one) => one.score > (thresholds[one.class] ?? 0));
}

/** Where the slider stands, in percent, while the model's own thresholds apply: at their mean. */
export function sliderPercent(choice: Choice, own: Thresholds): number {
  const values = Object.values(own);
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  return Math.round(100 * (choice ?? mean));
}

/** What the slider says, for eyes and for a screen reader. */
export function sliderText(choice: Choice, own: Thresholds): string {
  if (choice !== null) return `${Math.round(100 * choice)}%`;
  const parts = Object.entries(own).map(([name, value]) => `${spoken(name)} ${Math.round(100 * value)}%`);
  return `the model's own: ${parts.join(", ")}`;
}

export function countByClass(detections: Detection[], classes: string[]): Map<string, number> {
  return new Map(classes.map((name) => [name, detections.filter((one) => one.class === name).length]));
}

/** "2 faces: 1 mask, 1 no mask". */
export function summary(detections: Detection[], classes: string[]): string {
  const total = detections.length;
  if (total === 0) return "No face found";
  const parts = [...countByClass(detections, classes)].filter(([, count]) => count > 0);
  const named = parts.map(([name, count]) => `${count} ${spoken(name)}`);
  return `${total} ${total === 1 ? "face" : "faces"}: ${named.join(", ")}`;
}

export function spoken(name: string): string {
  return name.replaceAll("_", " ");
}
