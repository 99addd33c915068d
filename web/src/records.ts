// The record of a picture: the schema of docs/records.md, so that a program cannot tell whether the browser
// or the service looked.

import type { BoxXyxy, ResizeRule } from "./geometry";

export const JSON_SCHEMA = "maskwatch.detections/1";

/** Class name → score above which a detection counts. */
export type Thresholds = Record<string, number>;

export interface Detection {
  class: string;
  class_id: number;
  score: number;
  box: BoxXyxy;
}

/** What was found in one picture of `width` by `height` pixels, best first. */
export interface Finding {
  width: number;
  height: number;
  detections: Detection[];
}

export interface Model {
  name: string;
  version: string;
  default: boolean;
  classes: string[];
  thresholds: Thresholds;
  input_size: [number, number];
  resize: ResizeRule;
  file: string;
  bytes: number;
}

export interface Named {
  source: string;
  finding: Finding;
}

export interface Failure {
  source: string;
  reason: string;
}

export interface Document {
  schema: string;
  maskwatch: string;
  model: Pick<Model, "name" | "version" | "classes" | "thresholds">;
  results: (Finding & { source: string; kind: "picture"; frame: null; time_s: null })[];
  failures: Failure[];
}

/** One JSON document of all pictures; `finding` holds what counts at `thresholds`. */
export function toDocument(
  version: string,
  model: Model,
  thresholds: Thresholds,
  pictures: Named[],
  failures: Failure[],
): Document {
  return {
    schema: JSON_SCHEMA,
    maskwatch: version,
    model: { name: model.name, version: model.version, classes: model.classes, thresholds },
    results: pictures.map(({ source, finding }) => ({
      source,
      kind: "picture",
      frame: null,
      time_s: null,
      width: finding.width,
      height: finding.height,
      detections: finding.detections,
    })),
    failures,
  };
}

/** The document as text, one line for each picture. */
export function toText(document: Document): string {
  const { results, failures, ...head } = document;
  const lines = results.map((result) => `\n${JSON.stringify(result)}`);
  const start = JSON.stringify(head).slice(0, -1);
  return `${start},\n"results": [${lines.join(",")}\n],\n"failures": ${JSON.stringify(failures)}}\n`;
}

/** Scores with four digits and boxes with two, as the service rounds them. */
export function rounded(detection: Detection): Detection {
  const round = (value: number, digits: number) => Number(value.toFixed(digits));
  const [x1, y1, x2, y2] = detection.box.map((value) => round(value, 2));
  return { ...detection, score: round(detection.score, 4), box: [x1, y1, x2, y2] };
}
