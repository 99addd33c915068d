// What stands beside the picture: classes, the boxes as a list, and the suspect that is asked about.

import { element, made, show } from "../dom";
import type { Annotation, LabelBox, Proposal } from "./annotation";
import type { ClassInfo, Suspect } from "./api";
import { sizeText } from "./boxes";
import { boxesTitle, nameText, scoreText } from "./listing";

export interface PanelEvents {
  select(key: string): void;
  setClass(key: string | null, name: string): void;
  accept(key: string): void;
}

interface Row {
  node: HTMLLIElement;
  pick: HTMLButtonElement;
  swatch: HTMLSpanElement;
  text: HTMLSpanElement;
  hidden: HTMLSpanElement;
  choice: HTMLSelectElement;
  accept: HTMLButtonElement;
}

export class Panel {
  private readonly rows = new Map<string, Row>();
  private classes: readonly ClassInfo[] = [];
  private readOnly = false;

  constructor(private readonly events: PanelEvents) {}

  /** @param marks whether the format can mark boxes. @param decides whether suspects can be decided. */
  prepare(classes: readonly ClassInfo[], readOnly: boolean, marks: boolean, decides: boolean): void {
    this.classes = classes;
    for (const id of ["difficult", "ignore"]) show(element(id), marks);
    for (const id of ["keep-label", "take-answer"]) element<HTMLButtonElement>(id).disabled = !decides;
    element<HTMLInputElement>("reason").disabled = !decides;
    this.readOnly = readOnly;
    const buttons = classes.map(({ name, color, key }) => {
      const button = made("button");
      button.type = "button";
      button.dataset.class = name;
      button.disabled = readOnly;
      const swatch = swatchOf(color);
      const label = made("span", nameText(name));
      button.append(swatch, label);
      if (key !== null) button.append(made("kbd", key));
      button.addEventListener("click", () => this.events.setClass(null, name));
      return button;
    });
    element("classes").replaceChildren(...buttons);
  }

  render(annotation: Annotation, proposals: readonly Proposal[], selected: string | null, current: string): void {
    const all = [...annotation.boxes, ...proposals];
    const chosen = all.find((one) => one.key === selected);
    for (const button of element("classes").querySelectorAll<HTMLElement>("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.class === (chosen?.class ?? current)));
    }
    this.marks(annotation.boxes.find((one) => one.key === selected) ?? null, chosen !== undefined);
    element("boxes-title").textContent = boxesTitle(annotation.boxes.length, proposals.length, annotation.empty);
    const accept = element<HTMLButtonElement>("accept");
    accept.textContent = proposals.some((one) => one.key === selected) ? "Accept proposal" : `Accept all ${proposals.length || ""}`.trim();
    accept.disabled = this.readOnly || proposals.length === 0;
    element<HTMLButtonElement>("refuse").disabled = accept.disabled;
    element("empty").setAttribute("aria-pressed", String(annotation.empty));
    this.list(all, selected);
  }

  suspect(suspect: Suspect | null, left: number): void {
    show(element("suspect"), suspect !== null);
    if (!suspect) return;
    element("suspect-title").textContent = left === 1 ? "Is this right?" : `Is this right? ${left} to decide`;
    element("suspect-label").textContent = suspect.label === null ? "no box here" : nameText(suspect.label);
    element("suspect-answer").textContent =
      (suspect.answer === null ? "no face here" : nameText(suspect.answer)) +
      (suspect.kind === "box" ? ", with another box" : "") + scoreText(suspect.score);
  }

  private marks(box: LabelBox | null, any: boolean): void {
    for (const mark of ["difficult", "ignore"] as const) {
      const button = element<HTMLButtonElement>(mark);
      button.disabled = this.readOnly || !any;
      button.setAttribute("aria-pressed", String(box?.[mark] ?? false));
    }
    element<HTMLButtonElement>("delete").disabled = this.readOnly || !any;
  }

  private list(all: readonly (LabelBox | Proposal)[], selected: string | null): void {
    const list = element("boxes");
    const keys = new Set(all.map((one) => one.key));
    for (const [key, { node }] of this.rows) {
      if (keys.has(key)) continue;
      node.remove();
      this.rows.delete(key);
    }
    all.forEach((one, i) => {
      const row = this.rows.get(one.key) ?? this.makeRow(one.key);
      if (list.children[i] !== row.node) list.insertBefore(row.node, list.children[i] ?? null);
      this.fill(row, one, i, one.key === selected);
    });
    show(element("no-boxes"), all.length === 0);
  }

  private makeRow(key: string): Row {
    const row: Row = {
      node: made("li"), pick: made("button"), swatch: swatchOf("#a0a0a0"), text: made("span"),
      hidden: made("span"), choice: made("select"), accept: made("button", "Accept"),
    };
    row.node.dataset.row = key;
    row.pick.type = row.accept.type = "button";
    row.pick.className = "pick-box";
    row.hidden.className = "unseen";
    row.pick.append(row.swatch, row.text, row.hidden);
    row.pick.addEventListener("click", () => this.events.select(key));
    row.choice.append(...this.classes.map(({ name }) => new Option(nameText(name), name)));
    row.choice.disabled = row.accept.disabled = this.readOnly;
    row.choice.addEventListener("change", () => this.events.setClass(key, row.choice.value));
    row.accept.className = "small";
    row.accept.addEventListener("click", () => this.events.accept(key));
    row.node.append(row.pick, row.choice, row.accept);
    this.rows.set(key, row);
    return row;
  }

  private fill(row: Row, one: LabelBox | Proposal, at: number, selected: boolean): void {
    const color = this.classes.find(({ name }) => name === one.class)?.color;
    row.swatch.style.background = color ?? "#a0a0a0";
    row.text.textContent = `${at + 1} · ${sizeText(one.box_xyxy)}${"score" in one ? "" : notes(one)}`;
    row.hidden.textContent = `, ${nameText(one.class)}${"score" in one ? notes(one) : ""}`;
    row.choice.setAttribute("aria-label", `Class of box ${at + 1}`);
    if (!this.classes.some(({ name }) => name === one.class) && ![...row.choice.options].some(({ value }) => value === one.class)) {
      row.choice.append(new Option(nameText(one.class), one.class)); // a class that only the file knows
    }
    row.choice.value = one.class;
    if ("score" in one) row.accept.textContent = `Accept${scoreText(one.score)}`;
    show(row.accept, "score" in one);
    row.node.classList.toggle("proposal", "score" in one);
    if (selected) row.pick.setAttribute("aria-current", "true");
    else row.pick.removeAttribute("aria-current");
  }
}

/** ", difficult", ", proposal". */
function notes(one: LabelBox | Proposal): string {
  if ("score" in one) return ", proposal";
  return `${one.difficult ? ", difficult" : ""}${one.ignore ? ", ignored" : ""}`;
}

function swatchOf(color: string): HTMLSpanElement {
  const swatch = made("span");
  swatch.className = "swatch";
  swatch.style.background = color;
  return swatch;
}
