import { describe, expect, it } from "vitest";
import { EventCutter } from "../src/sse";

describe("server-sent events", () => {
  it("come whole, however they are cut", () => {
    const cutter = new EventCutter();
    expect(cutter.push('event: alert\nid: 7\ndata: {"a"')).toEqual([]);
    expect(cutter.push(': 1}\n\nevent: crossing\ndata: {}\n\ndata: x')).toEqual([
      { event: "alert", id: "7", data: '{"a": 1}' },
      { event: "crossing", id: "", data: "{}" },
    ]);
  });

  it("leave out comments that keep the line open", () => {
    expect(new EventCutter().push(": still here\n\n")).toEqual([]);
  });

  it("may have lines that end in CR LF", () => {
    expect(new EventCutter().push("data: a\r\ndata: b\r\n\r\n")).toEqual([{ event: "message", id: "", data: "a\nb" }]);
  });
});
