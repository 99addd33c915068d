import { describe, expect, it } from "vitest";
import { type Model, rounded, toDocument, toText } from "../src/records";

const model: Model = {
  name: "maskwatch-320",
  version: "1",
  default: true,
  classes: ["mask", "no_mask"],
  thresholds: { mask: 0.4, no_mask: 0.5 },
  input_size: [320, 320],
  resize: "letterbox",
  file: "/v1/models/maskwatch-320.onnx?v=0",
  bytes: 1,
};

describe("the JSON document", () => {
  const face = rounded({ class: "mask", class_id: 0, score: 0.931249, box: [1.006, 2, 3.14159, 4.5] });
  const document = toDocument(
    "0.1.0",
    model,
    { mask: 0.7, no_mask: 0.7 },
    [{ source: "a.jpg", finding: { width: 64, height: 48, detections: [face] } }],
    [{ source: "b.jpg", reason: "torn" }],
  );

  it("has the schema of docs/records.md", () => {
    expect(JSON.parse(toText(document))).toEqual({
      schema: "maskwatch.detections/1",
      maskwatch: "0.1.0",
      model: {
        name: "maskwatch-320",
        version: "1",
        classes: ["mask", "no_mask"],
        thresholds: { mask: 0.7, no_mask: 0.7 },
      },
      results: [
        {
          source: "a.jpg",
          kind: "picture",
          frame: null,
          time_s: null,
          width: 64,
          height: 48,
          detections: [{ class: "mask", class_id: 0, score: 0.9312, box: [1.01, 2, 3.14, 4.5] }],
        },
      ],
      failures: [{ source: "b.jpg", reason: "torn" }],
    });
  });

  it("has one line for each picture", () => {
    expect(toText(document).split("\n").filter((line) => line.startsWith(`{"source"`))).toHaveLength(1);
  });

  it("is whole without pictures", () => {
    expect(JSON.parse(toText(toDocument("0.1.0", model, model.thresholds, [], [])))).toMatchObject({ results: [] });
  });
});
