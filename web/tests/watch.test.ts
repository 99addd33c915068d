import { describe, expect, it } from "vitest";
import type { WatchEvent } from "../src/api";
import { delivery, sentence, tally } from "../src/watch";

describe("how events get to a sink", () => {
  const sink = { name: "webhook", sent: 3, waiting: 0, lost: 0, error: null };

  it("names what waits or is lost only where there is any", () => {
    expect(delivery(sink)).toBe("webhook: 3 sent");
    expect(delivery({ ...sink, waiting: 2, lost: 1 })).toBe("webhook: 3 sent, 2 waiting, 1 lost");
  });

  it("says what is wrong", () => {
    expect(delivery({ ...sink, error: "connection refused" })).toBe("webhook: 3 sent, connection refused");
  });
});

describe("people by state", () => {
  it("leaves out what is not there", () => {
    expect(tally({ mask: 2, no_mask: 1, mask_incorrect: 0 })).toBe("2 mask, 1 no mask");
    expect(tally({ mask: 0 })).toBe("–");
  });
});

describe("an event", () => {
  const event: WatchEvent = {
    id: "1", kind: "alert", time: "2026-01-02T03:04:05Z", source: "door", state: "no_mask", zone: "entry",
    line: null, direction: null, duration_s: null, reason: null, track: 7,
  };

  it("is a sentence", () => {
    expect(sentence(event)).toMatch(/ door, alert: person 7 no mask in entry$/);
    expect(sentence({ ...event, kind: "alert_end", duration_s: 12.4, reason: "left", zone: null })).toMatch(
      / door, over: person 7 no mask, left after 12 s$/,
    );
    expect(sentence({ ...event, kind: "crossing", line: "gate", direction: "in" })).toMatch(
      / door, person 7 crossed gate \(in\)$/,
    );
  });

  it("of a kind that the page does not know is named all the same", () => {
    expect(sentence({ ...event, kind: "new_kind" })).toMatch(/ door, new kind$/);
  });
});
