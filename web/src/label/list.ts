// The list of pictures: a list box that draws only the rows in sight, so that 10 000 are no more work than 10.

import { element, made } from "../dom";
import type { PictureItem } from "./api";
import { rowsInSight, stateText } from "./listing";

const ROW_PX = 56;

export class PictureListBox {
  private readonly box = element("pictures");
  private readonly rows = new Map<string, HTMLElement>();
  private readonly spacer = made("div");
  private items: readonly PictureItem[] = [];
  private current: string | null = null;
  private active = 0;

  constructor(
    private readonly thumbnail: (imageId: string) => string,
    private readonly open: (imageId: string) => void,
  ) {
    this.spacer.className = "spacer";
    this.spacer.setAttribute("role", "presentation");
    this.box.append(this.spacer);
    this.box.addEventListener("scroll", () => this.draw());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => {
      const id = (event.target as Element).closest<HTMLElement>("[role=option]")?.dataset.image;
      if (id !== undefined) this.open(id);
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  show(items: readonly PictureItem[]): void {
    this.items = items;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.spacer.style.height = `${items.length * ROW_PX}px`;
    this.active = Math.max(0, items.findIndex((one) => one.image_id === this.current));
    this.draw();
  }

  /** Marks the open picture and brings it into sight. */
  select(imageId: string): void {
    this.current = imageId;
    const at = this.items.findIndex((one) => one.image_id === imageId);
    if (at !== -1) this.activate(at);
    this.draw();
  }

  /** A picture's state changed. */
  refresh(): void {
    this.draw();
  }

  private activate(at: number): void {
    this.active = Math.min(this.items.length - 1, Math.max(0, at));
    const [top, height] = [this.active * ROW_PX, this.box.clientHeight];
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + ROW_PX > this.box.scrollTop + height) this.box.scrollTop = top + ROW_PX - height;
    this.draw();
  }

  private key(event: KeyboardEvent): void {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW_PX) - 1);
    const steps: Record<string, number> = {
      ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.items.length, End: this.items.length,
    };
    const step = steps[event.key];
    if (step !== undefined) this.activate(this.active + step);
    else if (event.key === "Enter" || event.key === " ") {
      const item = this.items[this.active];
      if (item) this.open(item.image_id);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private draw(): void {
    const [first, last] = rowsInSight(this.box.scrollTop, this.box.clientHeight, ROW_PX, this.items.length);
    const shown = new Map(this.items.slice(first, last).map((item, i) => [item.image_id, { item, at: first + i }]));
    for (const [id, row] of this.rows) {
      if (shown.has(id)) continue;
      row.remove();
      this.rows.delete(id);
    }
    for (const [id, { item, at }] of shown) {
      const row = this.rows.get(id) ?? this.makeRow(item);
      this.fill(row, item, at);
    }
    const active = this.items[this.active];
    const row = active && this.rows.get(active.image_id);
    if (row) this.box.setAttribute("aria-activedescendant", row.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  private makeRow(item: PictureItem): HTMLElement {
    const row = made("div");
    row.setAttribute("role", "option");
    row.dataset.image = item.image_id;
    const image = made("img");
    image.alt = "";
    image.decoding = "async";
    image.src = this.thumbnail(item.image_id);
    const name = made("span", item.image_id);
    name.className = "name";
    name.title = item.image_id;
    const state = made("span");
    state.className = "state";
    row.append(image, name, state);
    this.rows.set(item.image_id, row);
    this.spacer.append(row);
    return row;
  }

  private fill(row: HTMLElement, item: PictureItem, at: number): void {
    row.id = `picture-${at}`;
    row.style.top = `${at * ROW_PX}px`;
    row.dataset.state = item.suspects > 0 ? "suspect" : item.undecided > 0 ? "undecided" : item.state;
    row.classList.toggle("active", at === this.active);
    row.setAttribute("aria-selected", String(item.image_id === this.current));
    row.setAttribute("aria-setsize", String(this.items.length));
    row.setAttribute("aria-posinset", String(at + 1));
    row.lastElementChild!.textContent = stateText(item);
  }
}
