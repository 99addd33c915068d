import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Problem } from "../../src/api";
import { Conflict, type PictureRecord, type PutBody, type Saved } from "../../src/label/api";
import { Drafts, type Draft, type Store } from "../../src/label/drafts";
import { retryDelay, Saver } from "../../src/label/saver";
import { saveText } from "../../src/label/status";

class MemoryStore implements Store {
  private readonly map = new Map<string, string>();
  get length() { return this.map.size; }
  key(index: number) { return [...this.map.keys()][index] ?? null; }
  getItem(name: string) { return this.map.get(name) ?? null; }
  setItem(name: string, value: string) { this.map.set(name, value); }
  removeItem(name: string) { this.map.delete(name); }
}

const draft = (left: number, revision = "r0"): Draft => ({
  image_id: "a.jpg", revision, empty: false, undecided: [], refused: [],
  boxes: [{ key: "k", id: null, box_xyxy: [left, 0, left + 10, 10], class: "mask", difficult: false, ignore: false }],
});

const record = (left: number, revision: string): PictureRecord => ({
  image_id: "a.jpg", width: 100, height: 100, revision, state: "labelled", undecided: 0, proposals: null, refused: [], suspects: [], note: null,
  boxes: draft(left).boxes.map(({ key: _, ...box }) => ({ ...box, id: "7" })),
});

/** A server whose answers the test gives by hand. */
class Server {
  readonly asked: { body: PutBody; revision: string; answer: (saved: Saved) => void; refuse: (error: Error) => void }[] = [];
  readonly conflicts: PictureRecord[] = [];
  readonly store = new MemoryStore();
  readonly saver = new Saver({
    put: (_, body, revision) => new Promise((answer, refuse) => this.asked.push({ body, revision, answer, refuse })),
    saved: () => {},
    conflict: (_, current) => this.conflicts.push(current),
    changed: () => {},
  }, new Drafts(this.store, "/folder", "w1"));

  async answer(revision: string): Promise<void> {
    const { body, answer } = this.asked.at(-1)!;
    answer({ revision, state: "labelled", undecided: 0, boxes: body.boxes.map((box, i) => ({ ...box, id: String(i) })) });
    await vi.advanceTimersByTimeAsync(0);
  }

  async refuse(error: Error): Promise<void> {
    this.asked.at(-1)!.refuse(error);
    await vi.advanceTimersByTimeAsync(0);
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("saving", () => {
  it("sends edits that follow each other once, and one request at a time", async () => {
    const server = new Server();
    server.saver.edit(draft(1));
    server.saver.edit(draft(2));
    await vi.advanceTimersByTimeAsync(400);
    expect(server.asked).toHaveLength(1);
    server.saver.edit(draft(3));
    await vi.advanceTimersByTimeAsync(5000);
    expect(server.asked).toHaveLength(1);
    await server.answer("r1");
    await vi.advanceTimersByTimeAsync(400);
    expect(server.asked[1]).toMatchObject({ revision: "r1", body: { boxes: [{ id: "0", box_xyxy: [3, 0, 13, 10] }] } });
    expect(server.store.length).toBe(1);
    await server.answer("r2");
    expect(server.saver.states()).toEqual([]);
    expect(server.store.length).toBe(0);
  });

  it("tries again while the server is away, and keeps the draft meanwhile", async () => {
    const server = new Server();
    server.saver.edit(draft(1));
    for (let failures = 1; failures <= 3; failures++) {
      await vi.advanceTimersByTimeAsync(retryDelay(Math.max(1, failures - 1)));
      expect(server.asked).toHaveLength(failures);
      await server.refuse(new Problem(failures === 2 ? 507 : 0, "away"));
      expect(server.saver.stateOf("a.jpg")?.kind).toBe("unsaved");
    }
    expect(server.store.length).toBe(1);
    server.saver.flush();
    await server.answer("r1");
    expect(server.saver.states()).toEqual([]);
  });

  it("shows a conflict, and sends nothing before the person has decided", async () => {
    const server = new Server();
    server.saver.edit(draft(1));
    server.saver.flush();
    await server.refuse(new Conflict(412, "changed", record(50, "r9")));
    expect(server.conflicts.map(({ revision }) => revision)).toEqual(["r9"]);
    server.saver.edit(draft(2));
    server.saver.flush();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.asked).toHaveLength(1);
    server.saver.resolve({ ...server.saver.pending("a.jpg")!, revision: "r9" });
    expect(server.asked[1]).toMatchObject({ revision: "r9", body: { boxes: [{ box_xyxy: [2, 0, 12, 10] }] } });
  });

  it("takes a conflict with its own boxes for a lost answer", async () => {
    const server = new Server();
    server.saver.edit(draft(1));
    server.saver.flush();
    await server.refuse(new Conflict(412, "changed", record(1, "r1")));
    expect(server.conflicts).toEqual([]);
    expect(server.saver.states()).toEqual([]);
  });

  it("does not repeat what the server refuses, until the next edit", async () => {
    const server = new Server();
    server.saver.edit(draft(1));
    server.saver.flush();
    await server.refuse(new Problem(422, "bad box"));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.asked).toHaveLength(1);
    server.saver.edit(draft(2));
    await vi.advanceTimersByTimeAsync(400);
    expect(server.asked).toHaveLength(2);
  });
});

it("drafts of closed windows are taken over, those of open ones and of other folders are not", () => {
  const store = new MemoryStore();
  new Drafts(store, "/folder", "closed").keep(draft(1));
  new Drafts(store, "/folder", "open").keep(draft(2));
  new Drafts(store, "/other", "closed").keep(draft(3));
  store.setItem("maskwatch.label|%2Ffolder|broken|a.jpg", "{");
  const mine = new Drafts(store, "/folder", "w1");
  expect(mine.takeOver(["open", "w1"])).toEqual([draft(1)]);
  expect(mine.takeOver(["open", "w1"])).toEqual([]);
  expect(store.length).toBe(3);
});

describe("the state in words", () => {
  it("is that of the worst picture", () => {
    expect(saveText([]).text).toBe("Saved");
    const full = saveText([{ imageId: "a.jpg", state: { kind: "unsaved", status: 507, reason: "No space left." } }]);
    expect(full.kind).toBe("unsaved");
    expect(full.alert).toMatch(/^The disk is full/);
    const again = saveText([{ imageId: "a.jpg", state: { kind: "unsaved", status: 401, reason: "no token" } }]);
    expect(again.alert).toMatch(/open the address that it printed/);
  });
});
