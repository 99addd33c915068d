// Keys → commands. The list of shortcuts that the page shows is made of the same table.

export type Simple =
  | "accept" | "accept-next" | "refuse" | "new" | "delete" | "difficult" | "ignore" | "empty" | "copy" | "undo" | "redo"
  | "next" | "previous" | "next-todo" | "zoom-in" | "zoom-out" | "fit" | "actual" | "proposals"
  | "crosshair" | "keep-label" | "take-answer" | "reason" | "save" | "search" | "help" | "deselect";

export type Command =
  | { name: Simple }
  | { name: "class"; index: number }
  | { name: "move" | "resize"; dx: number; dy: number };

/** What of a KeyboardEvent matters here. */
export interface Key {
  key: string;
  shiftKey: boolean;
  altKey: boolean;
  ctrlKey: boolean;
  metaKey: boolean;
}

interface Shortcut {
  keys: readonly string[];
  shown: string;
  text: string;
  command: Simple;
}

const SHORTCUTS: readonly (Shortcut | string)[] = [
  "Pictures",
  { keys: ["enter"], shown: "Enter", text: "accept the proposals left and go to the next picture", command: "accept-next" },
  { keys: [".", "pagedown"], shown: ". or Page Down", text: "next picture", command: "next" },
  { keys: [",", "pageup"], shown: ", or Page Up", text: "previous picture", command: "previous" },
  { keys: ["u"], shown: "U", text: "next picture that is not done", command: "next-todo" },
  { keys: ["e"], shown: "E", text: "nothing to find here", command: "empty" },
  { keys: ["c"], shown: "C", text: "copy the boxes of the picture before", command: "copy" },
  { keys: ["/"], shown: "/", text: "search pictures", command: "search" },
  "Boxes",
  { keys: ["b"], shown: "B", text: "new box in the middle", command: "new" },
  { keys: ["delete", "backspace"], shown: "Delete", text: "delete the box, or refuse the proposal", command: "delete" },
  { keys: ["d"], shown: "D", text: "mark as difficult", command: "difficult" },
  { keys: ["i"], shown: "I", text: "mark as a region to ignore", command: "ignore" },
  { keys: ["escape"], shown: "Escape", text: "select nothing", command: "deselect" },
  { keys: ["ctrl+z"], shown: "Ctrl Z", text: "undo", command: "undo" },
  { keys: ["ctrl+shift+z", "ctrl+y"], shown: "Ctrl Shift Z or Ctrl Y", text: "redo", command: "redo" },
  { keys: ["ctrl+s"], shown: "Ctrl S", text: "save now; edits are saved at once anyway", command: "save" },
  "The model’s help",
  { keys: ["a"], shown: "A", text: "accept the selected proposal, or all", command: "accept" },
  { keys: ["r"], shown: "R", text: "refuse all proposals left", command: "refuse" },
  { keys: ["p"], shown: "P", text: "show or hide proposals", command: "proposals" },
  { keys: ["k"], shown: "K", text: "suspect: keep the label, then the next", command: "keep-label" },
  { keys: ["m"], shown: "M", text: "suspect: take the model’s answer, then the next", command: "take-answer" },
  { keys: ["w"], shown: "W", text: "suspect: write why; Enter goes back", command: "reason" },
  "View",
  { keys: ["+", "="], shown: "+ or wheel", text: "larger", command: "zoom-in" },
  { keys: ["-"], shown: "- or wheel", text: "smaller", command: "zoom-out" },
  { keys: ["f"], shown: "F", text: "the whole picture", command: "fit" },
  { keys: ["o"], shown: "O", text: "original size, 1:1", command: "actual" },
  { keys: ["x"], shown: "X", text: "crosshair on or off", command: "crosshair" },
  { keys: ["?"], shown: "?", text: "this list", command: "help" },
];

/** What is done otherwise than by one key; the heading is that of the table. */
const MORE: Record<string, readonly (readonly [string, string])[]> = {
  Boxes: [
    ["Tab, Shift Tab", "from box to box"],
    ["1 … 9, 0", "class of the box, or of the next one"],
    ["Arrows, with Shift 10 pixels", "move the box"],
    ["Alt Arrows, with Shift 10 pixels", "resize the box at its right and lower edge"],
    ["Drag", "draw a box; on a box: move it; on a handle: resize it"],
    ["Shift drag", "draw a box over another one"],
  ],
  View: [["Space drag, middle button, two fingers", "move the picture"], ["Arrows without a box", "move the picture"]],
};

const ARROWS: Record<string, readonly [number, number]> = {
  arrowleft: [-1, 0],
  arrowright: [1, 0],
  arrowup: [0, -1],
  arrowdown: [0, 1],
};

const BY_KEY = new Map(
  SHORTCUTS.flatMap((one) => (typeof one === "string" ? [] : one.keys.map((key) => [key, one.command] as const))),
);

/** What a key asks for, or null where it is none of ours. */
export function commandOf(event: Key): Command | null {
  const key = event.key.toLowerCase();
  const control = event.ctrlKey || event.metaKey;
  const arrow = ARROWS[key];
  if (arrow && !control) {
    const step = event.shiftKey ? 10 : 1;
    return { name: event.altKey ? "resize" : "move", dx: arrow[0] * step, dy: arrow[1] * step };
  }
  if (event.altKey) return null;
  if (!control && /^[0-9]$/.test(key)) return { name: "class", index: (Number(key) + 9) % 10 };
  const name = BY_KEY.get(`${control ? "ctrl+" : ""}${control && event.shiftKey ? "shift+" : ""}${key}`);
  return name ? { name } : null;
}

/** Whether a key is a single character, which a person may want to switch off (WCAG 2.1.4). */
export function isSingleCharacter(event: Key): boolean {
  return event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey;
}

/** Headings with rows of [keys, what they do], for the list of shortcuts. */
export function shortcutTable(): { heading: string; rows: [string, string][] }[] {
  const table: { heading: string; rows: [string, string][] }[] = [];
  for (const one of SHORTCUTS) {
    if (typeof one === "string") table.push({ heading: one, rows: (MORE[one] ?? []).map(([a, b]) => [a, b]) });
    else table.at(-1)?.rows.push([one.shown, one.text]);
  }
  return table;
}
