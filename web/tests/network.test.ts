import { expect, test } from "vitest";
import { type Candidate, Network, type Outputs, type Runner } from "../src/network";

const PIXELS = new Uint8Array(3);

function found(count: bigint): Outputs {
  return { boxes: new Float32Array(), scores: new Float32Array(), classes: new BigInt64Array(), num_detections: new BigInt64Array([count]) };
}

class Fake implements Runner {
  fail: (error: Error) => void = () => undefined;
  readonly broken: Promise<never>;

  constructor(private readonly answer: () => Promise<Outputs>) {
    this.broken = new Promise((_, reject) => (this.fail = reject));
    this.broken.catch(() => undefined);
  }

  run(): Promise<Outputs> {
    return this.answer();
  }
}

function candidate(words: string, open: () => Promise<Runner>): Candidate {
  return { words, open };
}

const never = () => new Promise<Outputs>(() => undefined);

test("the first one that works stays", async () => {
  const first = new Fake(async () => found(1n));
  const network = new Network([candidate("one", async () => first), candidate("two", () => Promise.reject(new Error("not asked")))]);
  expect((await network.run(PIXELS)).num_detections[0]).toBe(1n);
  expect((await network.run(PIXELS)).num_detections[0]).toBe(1n);
  expect([network.words, network.failures]).toEqual(["one", []]);
});

test("one that cannot be opened is left, and the reason kept", async () => {
  const network = new Network([
    candidate("one", () => Promise.reject(new Error("no memory"))),
    candidate("two", async () => new Fake(async () => found(2n))),
  ]);
  await network.open();
  expect([network.words, network.failures]).toEqual(["two", ["no memory"]]);
});

test("one that breaks while a picture waits is left, and the next one answers the picture", async () => {
  const first = new Fake(never);
  const network = new Network([candidate("one", async () => first), candidate("two", async () => new Fake(async () => found(2n)))]);
  const answer = network.run(PIXELS);
  first.fail(new Error("the graphics processor was lost"));
  expect((await answer).num_detections[0]).toBe(2n);
  expect([network.words, network.failures]).toEqual(["two", ["the graphics processor was lost"]]);
});

test("one that broke between two pictures answers with nothing of its own", async () => {
  const first = new Fake(async () => found(0n)); // zeros, as a lost graphics processor gives
  const network = new Network([candidate("one", async () => first), candidate("two", async () => new Fake(async () => found(2n)))]);
  await network.open();
  first.fail(new Error("lost"));
  expect((await network.run(PIXELS)).num_detections[0]).toBe(2n);
});

test("the last one's error is the answer", async () => {
  const network = new Network([
    candidate("one", () => Promise.reject(new Error("first"))),
    candidate("two", async () => new Fake(() => Promise.reject(new Error("second")))),
  ]);
  await expect(network.run(PIXELS)).rejects.toThrow("second");
});
