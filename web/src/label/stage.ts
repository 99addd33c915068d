// The picture with its boxes, and what pointers do to them. It changes nothing itself: it reports what was meant.

import { element } from "../dom";
import type { BoxXyxy, Size } from "../geometry";
import { drawn, handleAt, hits, moved, resized, type Handle, type Point } from "./boxes";
import { drawCrosshair, drawHandles, set, type Shape, ShapeNode, svg } from "./shapes";
import { boxToScreen, centred, fit, middleBox, panned, revealing, toPicture, zoomed, type Viewport } from "./viewport";

export interface StageEvents {
  select(key: string | null): void;
  draw(box: BoxXyxy): void;
  change(key: string, box: BoxXyxy): void;
  /** Where the pointer is in the picture, and the box that is being dragged. */
  point(at: Point | null, box: BoxXyxy | null): void;
  zoom(scale: number): void;
}

type Gesture =
  | { kind: "draw"; from: Point; box: BoxXyxy | null }
  | { kind: "move" | "resize"; key: string; handle: Handle | null; from: Point; start: BoxXyxy; box: BoxXyxy | null; below: string[] }
  | { kind: "pan"; last: Point };

const CLICK_PX = 4;
const SMALLEST_PX = 3;
const REACH = { fine: 8, coarse: 20 };
const SLACK = { fine: 4, coarse: 22 }; // a finger needs 44 pixels

export class Stage {
  private readonly root = element("stage");
  private readonly image = element<HTMLImageElement>("image");
  private readonly canvas = svg("svg", { class: "overlay" });
  private readonly layer = svg("g");
  private readonly handles = svg("g", { class: "handles" });
  private readonly crosshair = svg("g", { class: "crosshair" });
  private readonly preview = new ShapeNode("");
  private readonly nodes = new Map<string, ShapeNode>();
  private readonly pointers = new Map<number, Point>();
  private size: Size = { width: 1, height: 1 };
  private view: Viewport = { scale: 1, x: 0, y: 0 };
  private shapes: readonly Shape[] = [];
  private selected: string | null = null;
  private gesture: Gesture | null = null;
  private hover: Point | null = null;
  private coarse = false;
  private fitted = true;
  private resized = false;
  private drawColor = "#ffffff";
  spaceHeld = false;
  crosshairOn = true;
  readOnly = false;

  constructor(private readonly events: StageEvents) {
    this.preview.node.setAttribute("hidden", "");
    this.canvas.append(hatch(), this.layer, this.preview.node, this.handles, this.crosshair);
    this.root.append(this.canvas);
    this.listen();
    new ResizeObserver(() => this.restage()).observe(this.root);
  }

  /** Another picture, seen whole. */
  show(url: string, size: Size, alt: string): void {
    this.size = size;
    this.gesture = null;
    this.image.src = url;
    this.root.setAttribute("aria-label", alt);
    set(this.image, { width: size.width, height: size.height });
    this.fit();
  }

  render(shapes: readonly Shape[], selected: string | null, drawColor: string): void {
    this.shapes = shapes;
    this.selected = selected;
    this.drawColor = drawColor;
    const keys = new Set(shapes.map((one) => one.key));
    for (const [key, { node }] of this.nodes) {
      if (keys.has(key)) continue;
      if (node.contains(document.activeElement)) this.root.focus({ preventScroll: true });
      node.remove();
      this.nodes.delete(key);
    }
    let before: Element | null = null;
    for (const { key } of shapes) {
      const shape = this.nodes.get(key) ?? new ShapeNode(key);
      this.nodes.set(key, shape);
      // Moving a node in the document would take the focus from it.
      const wanted: Element | null = before ? before.nextElementSibling : this.layer.firstElementChild;
      if (wanted !== shape.node) this.layer.insertBefore(shape.node, wanted);
      before = shape.node;
    }
    this.draw();
  }

  focus(key: string | null = null): void {
    const node = key === null ? null : this.nodes.get(key)?.node;
    (node ?? this.root).focus({ preventScroll: true });
  }

  get focused(): boolean {
    return this.root.contains(document.activeElement);
  }

  fit(): void {
    this.fitted = true;
    this.look(fit(this.size, this.stageSize()));
  }

  actualSize(): void {
    const stage = this.stageSize();
    const middle = this.hover ?? { x: stage.width / 2, y: stage.height / 2 };
    this.zoom(1 / this.view.scale, middle);
  }

  zoom(factor: number, at: Point | null = null): void {
    const stage = this.stageSize();
    this.fitted = false;
    this.look(zoomed(this.view, factor, at ?? { x: stage.width / 2, y: stage.height / 2 }, this.size, stage));
  }

  pan(dx: number, dy: number): void {
    this.fitted = false;
    this.look(panned(this.view, dx, dy, this.size, this.stageSize()));
  }

  reveal(box: BoxXyxy): void {
    if (!this.fitted) this.look(revealing(this.view, box, this.stageSize()));
  }

  /** Shows a box large, so that a small face can be told from another. */
  approach(box: BoxXyxy): void {
    const stage = this.stageSize();
    const side = Math.max(box[2] - box[0], box[3] - box[1], 1);
    const whole = fit(this.size, stage).scale;
    const scale = Math.max(whole, Math.min(8, Math.min(stage.width, stage.height) / 3 / side));
    this.fitted = scale === whole;
    if (this.fitted) return this.fit();
    this.look(centred(scale, { x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2 }, stage));
  }

  newBox(): BoxXyxy {
    return middleBox(this.view, this.size, this.stageSize());
  }

  private stageSize(): Size {
    return { width: this.root.clientWidth, height: this.root.clientHeight };
  }

  private restage(): void {
    // What is drawn stays below the pointer that draws it.
    this.resized = this.gesture !== null;
    if (this.resized) return;
    if (this.fitted) this.fit();
    else this.pan(0, 0);
  }

  private look(view: Viewport): void {
    this.view = view;
    const { style } = this.image;
    style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    style.imageRendering = view.scale >= 3 ? "pixelated" : "auto";
    this.events.zoom(view.scale);
    this.draw();
  }

  private draw(): void {
    const { width, height } = this.stageSize();
    const { gesture } = this;
    const dragged = gesture?.kind === "move" || gesture?.kind === "resize" ? gesture : null;
    for (const shape of this.shapes) {
      const box = dragged?.key === shape.key && dragged.box ? dragged.box : shape.box_xyxy;
      this.nodes.get(shape.key)?.draw(shape, boxToScreen(this.view, box), shape.key === this.selected, width);
    }
    const drawing = gesture?.kind === "draw" ? gesture.box : null;
    this.preview.node.toggleAttribute("hidden", !drawing);
    if (drawing) {
      const shape: Shape = { key: "", kind: "suspect", box_xyxy: drawing, color: this.drawColor, text: "", label: "", ignore: false };
      this.preview.draw(shape, boxToScreen(this.view, drawing), false, width);
    }
    const held = dragged?.box ?? this.shapes.find((one) => one.key === this.selected && one.kind !== "suspect")?.box_xyxy;
    drawHandles(this.handles, held && !this.readOnly ? boxToScreen(this.view, held) : null, this.coarse ? 7 : 5);
    const cross = this.crosshairOn && !this.coarse && gesture?.kind !== "pan" ? this.hover : null;
    drawCrosshair(this.crosshair, cross, width, height);
  }

  private listen(): void {
    const { root } = this;
    root.addEventListener("pointerdown", (event) => this.down(event));
    root.addEventListener("pointermove", (event) => this.move(event));
    root.addEventListener("pointerup", (event) => this.up(event));
    root.addEventListener("pointercancel", (event) => this.cancel(event));
    root.addEventListener("pointerleave", () => {
      if (this.pointers.size > 0) return;
      this.hover = null;
      this.events.point(null, null);
      this.draw();
    });
    root.addEventListener("wheel", (event) => {
      event.preventDefault();
      const step = event.deltaMode === 1 ? 24 * event.deltaY : event.deltaY;
      this.zoom(Math.exp(-Math.max(-120, Math.min(120, step)) * (event.ctrlKey ? 0.01 : 0.002)), this.at(event));
    }, { passive: false });
    root.addEventListener("focusin", (event) => {
      const key = (event.target as Element).closest<SVGElement>("[data-key]")?.dataset.key;
      if (key && this.pointers.size === 0) this.events.select(key);
    });
  }

  private at(event: MouseEvent): Point {
    const { left, top } = this.root.getBoundingClientRect();
    return { x: event.clientX - left - this.root.clientLeft, y: event.clientY - top - this.root.clientTop };
  }

  private down(event: PointerEvent): void {
    if (event.button > 1) return;
    event.preventDefault(); // the focus goes to the box, and no text is selected
    const at = this.at(event);
    this.coarse = event.pointerType === "touch";
    this.pointers.set(event.pointerId, at);
    try {
      this.root.setPointerCapture(event.pointerId);
    } catch {
      // The pointer is gone already.
    }
    if (this.pointers.size > 1) this.gesture = { kind: "pan", last: this.middle() };
    else if (event.button === 1 || this.spaceHeld) this.gesture = { kind: "pan", last: at };
    else this.grab(at, event.shiftKey);
    this.draw();
  }

  private grab(at: Point, drawAnyway: boolean): void {
    const from = toPicture(this.view, at);
    const [reach, slack] = this.coarse ? [REACH.coarse, SLACK.coarse] : [REACH.fine, SLACK.fine];
    const pointable = this.shapes.filter((one) => one.kind !== "suspect");
    const held = pointable.find((one) => one.key === this.selected);
    const screen = (one: Shape) => boxToScreen(this.view, one.box_xyxy);
    const handle = held && !this.readOnly && !drawAnyway ? handleAt(screen(held), at, reach) : null;
    const below = hits(pointable.map((one) => ({ key: one.key, box_xyxy: screen(one) })), at, slack).map((one) => one.key);
    if (held && (handle || below.includes(held.key)) && !drawAnyway) {
      const kind = handle ? "resize" : "move";
      this.gesture = { kind, key: held.key, handle, from, start: held.box_xyxy, box: null, below };
      return;
    }
    const found = drawAnyway ? undefined : pointable.find((one) => one.key === below[0]);
    if (!found) {
      this.gesture = this.readOnly ? { kind: "pan", last: at } : { kind: "draw", from, box: null };
      return;
    }
    this.events.select(found.key);
    this.focus(found.key);
    this.gesture = { kind: "move", key: found.key, handle: null, from, start: found.box_xyxy, box: null, below: [] };
  }

  private move(event: PointerEvent): void {
    const at = this.at(event);
    const before = this.pointers.get(event.pointerId);
    this.coarse = event.pointerType === "touch";
    if (!this.coarse) this.hover = at;
    if (before) this.drag(event.pointerId, before, at);
    const box = this.gesture && this.gesture.kind !== "pan" ? this.gesture.box : null;
    this.events.point(toPicture(this.view, at), box);
    if (!before) this.showCursor(at);
    this.draw();
  }

  private drag(id: number, before: Point, at: Point): void {
    const { gesture } = this;
    if (!gesture) return;
    if (gesture.kind === "pan") {
      const spread = this.spread();
      this.pointers.set(id, at);
      if (this.pointers.size > 1 && spread > 0) this.zoom(this.spread() / spread, this.middle());
      const middle = this.middle();
      this.pan(middle.x - gesture.last.x, middle.y - gesture.last.y);
      gesture.last = middle;
      return;
    }
    this.pointers.set(id, at);
    const point = toPicture(this.view, at);
    const [dx, dy] = [point.x - gesture.from.x, point.y - gesture.from.y];
    // The hand shakes: less than a few pixels is a click.
    if (!gesture.box && Math.hypot(dx, dy) * this.view.scale < CLICK_PX * (this.coarse ? 3 : 1)) return;
    if (this.readOnly) return;
    if (gesture.kind === "draw") gesture.box = drawn(gesture.from, point, this.size);
    else if (gesture.handle) gesture.box = resized(gesture.start, gesture.handle, dx, dy, this.size);
    else gesture.box = moved(gesture.start, dx, dy, this.size);
    void before;
  }

  private up(event: PointerEvent): void {
    const { gesture } = this;
    this.pointers.delete(event.pointerId);
    if (this.pointers.size > 0) {
      this.gesture = { kind: "pan", last: this.middle() };
      return;
    }
    this.gesture = null;
    if (gesture?.kind === "draw") this.finishDrawing(gesture.box);
    else if (gesture && gesture.kind !== "pan") {
      if (gesture.box) this.events.change(gesture.key, gesture.box);
      else this.selectNextBelow(gesture.key, gesture.below);
    }
    if (this.resized) this.restage();
    this.draw();
  }

  /** A click on the selected box selects the next one that lies below the same point. */
  private selectNextBelow(key: string, below: readonly string[]): void {
    const next = below.length > 1 ? below[(below.indexOf(key) + 1) % below.length]! : key;
    this.events.select(next);
    this.focus(next);
  }

  private finishDrawing(box: BoxXyxy | null): void {
    const large = box && Math.min(box[2] - box[0], box[3] - box[1]) >= Math.max(1, SMALLEST_PX / this.view.scale);
    if (large) return this.events.draw(box);
    this.events.select(null);
    this.focus();
  }

  /** Stops a drag; true where there was one. */
  cancelGesture(): boolean {
    const active = this.gesture !== null;
    this.gesture = null;
    this.draw();
    return active;
  }

  private cancel(event: PointerEvent): void {
    this.pointers.delete(event.pointerId);
    this.cancelGesture();
  }

  private showCursor(at: Point): void {
    const held = this.shapes.find((one) => one.key === this.selected && one.kind !== "suspect");
    const handle = held && !this.readOnly ? handleAt(boxToScreen(this.view, held.box_xyxy), at, REACH.fine) : null;
    this.root.dataset.cursor = this.spaceHeld ? "grab" : handle ? cursorOf(handle) : "draw";
  }

  private middle(): Point {
    const points = [...this.pointers.values()];
    const sum = points.reduce((a, b) => ({ x: a.x + b.x, y: a.y + b.y }), { x: 0, y: 0 });
    return { x: sum.x / points.length, y: sum.y / points.length };
  }

  private spread(): number {
    const [a, b] = [...this.pointers.values()];
    return a && b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  }
}

function cursorOf(handle: Handle): string {
  if (handle === "n" || handle === "s") return "ns";
  if (handle === "e" || handle === "w") return "ew";
  return handle === "nw" || handle === "se" ? "nwse" : "nesw";
}

/** Lines across a region that is ignored. */
function hatch(): SVGDefsElement {
  const defs = svg("defs");
  const pattern = svg("pattern", { id: "hatch", width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(svg("rect", { width: 8, height: 8, fill: "#000", "fill-opacity": 0.25 }), svg("rect", { width: 3, height: 8, fill: "#fff", "fill-opacity": 0.55 }));
  defs.append(pattern);
  return defs;
}
