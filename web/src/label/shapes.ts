// SVG of boxes, handles and crosshair, in CSS pixels of the stage. Attributes only: the service's
// Content-Security-Policy allows no style attribute.

import type { BoxXyxy } from "../geometry";
import { HANDLES, handlePoint, type Point } from "./boxes";
import { inkOn } from "./color";

/** A box as it is shown. */
export interface Shape {
  key: string;
  kind: "box" | "proposal" | "suspect";
  box_xyxy: BoxXyxy;
  color: string;
  /** Beside the box. */
  text: string;
  /** For those who do not see it. */
  label: string;
  ignore: boolean;
}

const NS = "http://www.w3.org/2000/svg";
const TEXT_FROM = 28; // boxes narrower than this show their text only while they are selected
const LINE = 18;

export function svg<K extends keyof SVGElementTagNameMap>(tag: K, attributes: Record<string, string | number> = {}): SVGElementTagNameMap[K] {
  const node = document.createElementNS(NS, tag);
  set(node, attributes);
  return node;
}

export function set(node: Element, attributes: Record<string, string | number>): void {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
}

/** One box: outline, halo, and the text above it. */
export class ShapeNode {
  readonly node = svg("g", { class: "shape" });
  private readonly halo = svg("rect", { class: "halo" });
  private readonly line = svg("rect", { class: "line" });
  private readonly plate = svg("rect", { class: "plate", height: LINE, rx: 3 });
  private readonly text = svg("text", { class: "text" });
  private textWidth = 0;

  constructor(key: string) {
    this.node.dataset.key = key;
    this.node.append(this.halo, this.line, this.plate, this.text);
  }

  draw(shape: Shape, [left, top, right, bottom]: BoxXyxy, selected: boolean, stageWidth: number): void {
    const { kind, color, ignore } = shape;
    this.node.setAttribute("class", `shape ${kind}${selected ? " selected" : ""}${ignore ? " ignored" : ""}`);
    this.name(shape, selected);
    const place = { x: left, y: top, width: Math.max(1, right - left), height: Math.max(1, bottom - top) };
    set(this.halo, place);
    set(this.line, { ...place, stroke: color, fill: ignore ? "url(#hatch)" : "transparent" });
    const inSight = right > 0 && left < stageWidth; // else its text would stand at the edge, without a box
    const shown = shape.text !== "" && inSight && (selected || right - left >= TEXT_FROM);
    this.plate.toggleAttribute("hidden", !shown);
    this.text.toggleAttribute("hidden", !shown);
    if (!shown) return;
    if (this.text.textContent !== shape.text) {
      this.text.textContent = shape.text;
      this.textWidth = this.text.getComputedTextLength();
    }
    const width = this.textWidth + 8;
    const x = Math.max(0, Math.min(left, stageWidth - width));
    const y = top >= LINE + 1 ? top - LINE - 1 : bottom + 1;
    set(this.plate, { x, y, width, fill: color });
    set(this.text, { x: x + 4, y: y + 13, fill: inkOn(color) });
  }

  private name(shape: Shape, selected: boolean): void {
    if (shape.kind === "suspect") {
      set(this.node, { role: "img", "aria-label": shape.label });
      return;
    }
    set(this.node, { tabindex: 0, role: "button", "aria-pressed": String(selected), "aria-label": shape.label });
  }
}

/** The eight handles of a box. */
export function drawHandles(group: SVGGElement, box: BoxXyxy | null, radius: number): void {
  group.toggleAttribute("hidden", box === null);
  if (!box) return;
  if (group.childElementCount === 0) group.append(...HANDLES.map(() => svg("rect", { class: "handle" })));
  const small = Math.min(box[2] - box[0], box[3] - box[1]) < 4 * radius;
  HANDLES.forEach((handle, i) => {
    const node = group.children[i]!;
    node.toggleAttribute("hidden", small && handle.length === 1);
    const { x, y } = handlePoint(box, handle);
    set(node, { x: x - radius, y: y - radius, width: 2 * radius, height: 2 * radius });
  });
}

/** Lines through the pointer. */
export function drawCrosshair(group: SVGGElement, at: Point | null, width: number, height: number): void {
  group.toggleAttribute("hidden", at === null);
  if (!at) return;
  if (group.childElementCount === 0) {
    group.append(...["dark", "dark", "light", "light"].map((tone) => svg("line", { class: `cross ${tone}` })));
  }
  const [x, y] = [Math.round(at.x) + 0.5, Math.round(at.y) + 0.5];
  [...group.children].forEach((line, i) => {
    set(line, i % 2 === 0 ? { x1: x, x2: x, y1: 0, y2: height } : { x1: 0, x2: width, y1: y, y2: y });
  });
}
