import { expect, it } from "vitest";
import { History } from "../../src/label/history";

it("undoes and redoes, and forgets what was undone once something else is done", () => {
  const history = new History("a");
  history.push("b");
  history.push("c");
  expect(history.undo() && history.undo() && history.current).toBe("a");
  expect(history.undo()).toBe(false);
  expect(history.redo() && history.current).toBe("b");
  history.push("d");
  expect(history.canRedo).toBe(false);
  expect(history.undo() && history.current).toBe("b");
});

it("undoes a series of steps at once", () => {
  const history = new History("a");
  history.push("b");
  history.push("c", true);
  expect(history.undo() && history.current).toBe("a");
});

it("takes the same state for no step, and what became known for none either", () => {
  const history = new History("a");
  expect(history.push("a")).toBe(false);
  history.push("b");
  history.amend((state) => state.toUpperCase());
  expect(history.current).toBe("B");
  expect(history.undo() && history.current).toBe("A");
});
