import { describe, expect, it } from "vitest";
import { patiently, retryAfter } from "../src/patience";

function answers(...statuses: number[]): () => Promise<Response> {
  return async () => new Response(null, { status: statuses.shift() ?? 500, headers: { "Retry-After": "2" } });
}

describe("a busy service", () => {
  it("is asked again after the time it names", async () => {
    const pauses: number[] = [];
    const response = await patiently(answers(503, 503, 200), async (seconds) => void pauses.push(seconds));
    expect(response.status).toBe(200);
    expect(pauses).toEqual([2, 2]);
  });

  it("is not asked for ever", async () => {
    const response = await patiently(answers(...Array<number>(20).fill(503)), async () => {});
    expect(response.status).toBe(503);
  });

  it("is left alone where it refuses for another reason", async () => {
    const response = await patiently(answers(422, 200), async () => expect.unreachable());
    expect(response.status).toBe(422);
  });

  it("names seconds, or nothing of use", () => {
    expect(retryAfter("3")).toBe(3);
    expect(retryAfter("900")).toBe(30);
    expect([retryAfter(null), retryAfter(""), retryAfter("Wed, 21 Oct"), retryAfter("-1")]).toEqual([null, null, null, null]);
  });
});
