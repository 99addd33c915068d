import { describe, expect, it } from "vitest";
import { commandOf, isSingleCharacter, shortcutTable, type Key } from "../../src/label/keys";

const press = (key: string, held: Partial<Key> = {}): Key => ({
  key, shiftKey: false, altKey: false, ctrlKey: false, metaKey: false, ...held,
});

describe("keys", () => {
  it("move by a pixel, by ten with Shift, and resize with Alt", () => {
    expect(commandOf(press("ArrowLeft"))).toEqual({ name: "move", dx: -1, dy: 0 });
    expect(commandOf(press("ArrowDown", { shiftKey: true }))).toEqual({ name: "move", dx: 0, dy: 10 });
    expect(commandOf(press("ArrowUp", { altKey: true }))).toEqual({ name: "resize", dx: 0, dy: -1 });
  });

  it("name classes by number, 0 the tenth", () => {
    expect(commandOf(press("1"))).toEqual({ name: "class", index: 0 });
    expect(commandOf(press("0"))).toEqual({ name: "class", index: 9 });
  });

  it("leave the browser its own", () => {
    for (const key of ["r", "c", "1", "+", "ArrowLeft"]) expect(commandOf(press(key, { ctrlKey: true }))).toBeNull();
    expect(commandOf(press("d", { altKey: true }))).toBeNull();
    expect(commandOf(press("Tab"))).toBeNull();
  });

  it("do not care about caps lock, and take ⌘ for Ctrl", () => {
    expect(commandOf(press("D"))).toEqual({ name: "difficult" });
    expect(commandOf(press("z", { metaKey: true }))).toEqual({ name: "undo" });
    expect(commandOf(press("Z", { ctrlKey: true, shiftKey: true }))).toEqual({ name: "redo" });
    expect(commandOf(press("?", { shiftKey: true }))).toEqual({ name: "help" });
  });

  it("that are single characters can be told from others", () => {
    expect(isSingleCharacter(press("d"))).toBe(true);
    expect(isSingleCharacter(press("z", { ctrlKey: true }))).toBe(false);
    expect(isSingleCharacter(press("Delete"))).toBe(false);
  });
});

it("the list of shortcuts names each key once", () => {
  const shown = shortcutTable().flatMap(({ rows }) => rows.map(([keys]) => keys));
  expect(new Set(shown).size).toBe(shown.length);
  expect(shortcutTable().every(({ rows }) => rows.length > 2)).toBe(true);
});
