import { describe, expect, it } from "vitest";
import { setInitializer } from "../src/onnx";

/** A field that has a length: key, length, content. */
function field(number: number, content: number[]): number[] {
  return [number * 8 + 2, content.length, ...content];
}

const text = (value: string) => [...new TextEncoder().encode(value)];
const floats = (...values: number[]) => [...new Uint8Array(Float32Array.from(values).buffer)];
const tensor = (name: string, ...values: number[]) => field(5, [...field(9, floats(...values)), ...field(8, text(name))]);

// ir_version 10 as a number without length, then the graph with two initializers.
const model = () => Uint8Array.from([8, 10, ...field(7, [...tensor("iou", 0.5), ...tensor("scores", 0.25, 0.75)])]);

describe("an initializer", () => {
  it("is set in place, and nothing else is", () => {
    const bytes = model();
    setInitializer(bytes, "scores", 0.125);
    expect([...bytes]).toEqual([8, 10, ...field(7, [...tensor("iou", 0.5), ...tensor("scores", 0.125, 0.125)])]);
  });

  it("must be there", () => {
    expect(() => setInitializer(model(), "other", 0.1)).toThrow(/no input “other”.*maskwatch export/);
  });

  it("is not looked for in what is no model", () => {
    expect(() => setInitializer(Uint8Array.from([0xff]), "scores", 0.1)).toThrow("cut short");
    expect(() => setInitializer(Uint8Array.from([7]), "scores", 0.1)).toThrow("no ONNX file");
  });
});
