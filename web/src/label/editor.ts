// The open picture: every edit goes through here, to the history, the stage, the panel and the saver.

import type { BoxXyxy } from "../geometry";
import { accepted, changed, emptied, newKey, refused, withBox, withCopies, without, type Annotation, type LabelBox, type Proposal } from "./annotation";
import type { ClassInfo, Project, Suspect } from "./api";
import { moved, resized, sizeText } from "./boxes";
import type { History } from "./history";
import { boxCount, nameText, scoreText } from "./listing";
import type { OpenPicture } from "./open_picture";
import { Panel } from "./panel";
import type { Shape } from "./shapes";
import { Stage } from "./stage";
import { say } from "./status";

const UNKNOWN = "#a0a0a0";
const SUSPECT = "#ffffff";
const SERIES_MS = 1000; // arrows that follow each other this quickly are undone at once

export class Editor {
  readonly stage: Stage;
  private readonly panel: Panel;
  private open: OpenPicture | null = null;
  private selected: string | null = null;
  private currentClass = "";
  private classes: readonly ClassInfo[] = [];
  private readOnly = false;
  private marks = true;
  private proposalsShown = true;
  private series = { name: "", time: 0 };

  /** @param edited called after every edit, undo and redo. */
  constructor(
    private readonly edited: (picture: OpenPicture) => void,
    point: (at: { x: number; y: number } | null, box: BoxXyxy | null) => void,
    zoom: (scale: number) => void,
  ) {
    this.stage = new Stage({
      select: (key) => this.select(key),
      draw: (box) => this.add(box),
      change: (key, box_xyxy) => this.apply(changed(this.annotation, key, { box_xyxy })),
      point,
      zoom,
    });
    this.panel = new Panel({
      select: (key) => this.selectAndReveal(key),
      setClass: (key, name) => this.setClass(key ?? this.selected, name),
      accept: (key) => this.apply(accepted(this.annotation, [key])),
    });
  }

  prepare({ classes, read_only_reason, marks_ignored, decisions }: Project): void {
    const readOnly = read_only_reason !== null;
    this.classes = classes;
    this.marks = marks_ignored;
    this.currentClass = classes[0]?.name ?? "";
    this.readOnly = this.stage.readOnly = readOnly;
    this.panel.prepare(classes, readOnly, marks_ignored, decisions !== null);
  }

  get annotation(): Annotation {
    return this.open?.annotation ?? { boxes: [], proposals: [], refused: [], empty: false };
  }

  get selectedKey(): string | null {
    return this.selected;
  }

  get canUndo(): boolean {
    return this.open?.history.canUndo ?? false;
  }

  get canRedo(): boolean {
    return this.open?.history.canRedo ?? false;
  }

  show(picture: OpenPicture, url: string): void {
    const same = this.open?.imageId === picture.imageId;
    this.open = picture;
    this.selected = null;
    if (!same) this.stage.show(url, picture.size, `Picture ${picture.imageId}`);
    this.showSuspect();
    this.render();
  }

  /** What is known of the open picture changed, but no edit was made. */
  refresh(): void {
    this.showSuspect(false);
    this.render();
  }

  select(key: string | null): void {
    if (key === this.selected) return;
    this.selected = key;
    this.render();
  }

  setClass(key: string | null, name: string): void {
    if (this.readOnly) return;
    if (key === null) {
      this.currentClass = name;
      say(`New boxes are ${nameText(name)}`);
      return this.render();
    }
    this.apply(changed(this.annotation, key, { class: name }));
    say(`${nameText(name)}`);
  }

  classByIndex(index: number): void {
    const key = String((index + 1) % 10);
    const found = this.classes.find((one) => one.key === key);
    if (found) this.setClass(this.selected, found.name);
    else say(`No class has the key ${key}`);
  }

  addInTheMiddle(): void {
    if (!this.open || this.readOnly) return;
    this.add(this.stage.newBox());
  }

  private add(box_xyxy: BoxXyxy): void {
    if (this.readOnly || !this.currentClass) return;
    const box: LabelBox = { key: newKey(), box_xyxy, class: this.currentClass, difficult: false, ignore: false };
    this.selected = box.key;
    this.apply(withBox(this.annotation, box));
    this.stage.focus(box.key);
  }

  delete(): void {
    const { selected } = this;
    if (selected === null) return say("Select a box first");
    const order = [...this.annotation.boxes, ...this.proposals].map((one) => one.key);
    const next = order[order.indexOf(selected) + 1] ?? order[order.indexOf(selected) - 1] ?? null;
    const inStage = this.stage.focused;
    this.selected = next;
    this.apply(without(this.annotation, selected));
    if (inStage) this.stage.focus(next);
    say("Deleted");
  }

  toggle(mark: "difficult" | "ignore"): void {
    if (!this.marks) return say("This format cannot mark boxes");
    const box = this.annotation.boxes.find((one) => one.key === this.selected);
    if (!box && !this.proposals.some((one) => one.key === this.selected)) return say("Select a box first");
    const on = !box?.[mark];
    this.apply(changed(this.annotation, this.selected!, { difficult: false, ignore: false, [mark]: on }));
    say(`${mark === "ignore" ? "Ignored" : "Difficult"}: ${on ? "yes" : "no"}`);
  }

  /** Accepts the selected proposal, or all. */
  accept(): void {
    const one = this.proposals.find(({ key }) => key === this.selected);
    const before = this.annotation.boxes.length;
    this.apply(accepted(this.annotation, (one ? [one] : this.proposals).map(({ key }) => key)));
    say(`${this.annotation.boxes.length - before} accepted`);
  }

  /** Refuses all proposals in sight. */
  refuse(): void {
    const { length } = this.proposals;
    this.apply(refused(this.annotation, this.proposals.map(({ key }) => key)));
    const rest = this.annotation.boxes.length > 0 || length === 0 ? "" : "; if there is nothing to find, press E";
    say(`${length} refused${rest}`);
  }

  /** All proposals in sight become boxes, and hidden ones need no decision; false where nothing says that this
   * picture is done. */
  acceptAll(): boolean {
    const after = accepted(this.annotation, this.proposals.map(({ key }) => key));
    const done = after.boxes.length > 0 || after.empty;
    this.apply(done && after.proposals.length > 0 ? { ...after, proposals: [] } : after);
    return done;
  }

  empty(): void {
    const { annotation } = this;
    this.selected = null;
    this.apply(annotation.empty ? { ...annotation, empty: false } : emptied(annotation));
    say(annotation.empty ? "Not labelled any more" : "Nothing to find here");
  }

  copy(boxes: readonly LabelBox[]): void {
    if (!this.open) return;
    const before = this.annotation.boxes.length;
    this.apply(withCopies(this.annotation, boxes, this.open.size));
    say(`${boxCount(this.annotation.boxes.length - before)} copied`);
  }

  /** Moves or resizes the selected box; without one the arrows move the picture. */
  nudge(name: "move" | "resize", dx: number, dy: number): void {
    const one = [...this.annotation.boxes, ...this.proposals].find(({ key }) => key === this.selected);
    if (!one || !this.open) return this.stage.pan(-40 * dx, -40 * dy);
    const { size } = this.open;
    const handle = dx !== 0 ? "e" : "s";
    const box_xyxy = name === "move" ? moved(one.box_xyxy, dx, dy, size) : resized(one.box_xyxy, handle, dx, dy, size);
    const series = `${name} ${one.key}`;
    const continues = this.series.name === series && performance.now() - this.series.time < SERIES_MS;
    this.apply(changed(this.annotation, one.key, { box_xyxy }), continues);
    this.series = { name: series, time: performance.now() };
    this.stage.reveal(box_xyxy);
    say(sizeText(box_xyxy));
  }

  undo(): void {
    this.step((history) => history.undo(), "Undone", "Nothing to undo");
  }

  redo(): void {
    this.step((history) => history.redo(), "Done again", "Nothing to do again");
  }

  toggleProposals(): void {
    this.proposalsShown = !this.proposalsShown;
    say(this.proposalsShown ? "Proposals shown" : "Proposals hidden");
    this.render();
  }

  toggleCrosshair(): void {
    this.stage.crosshairOn = !this.stage.crosshairOn;
    this.render();
  }

  get suspect(): Suspect | null {
    return this.open?.record.suspects[0] ?? null;
  }

  private get proposals(): readonly Proposal[] {
    return this.proposalsShown ? this.annotation.proposals : [];
  }

  private step(take: (history: History<Annotation>) => boolean, yes: string, no: string): void {
    if (!this.open || this.readOnly || !take(this.open.history)) return say(no);
    say(yes);
    this.series.name = "";
    const keys = [...this.annotation.boxes, ...this.proposals].map((one) => one.key);
    if (this.selected !== null && !keys.includes(this.selected)) this.selected = null;
    this.render();
    this.edited(this.open);
  }

  private apply(next: Annotation, continues = false): void {
    this.series.name = "";
    if (!this.open || this.readOnly || !this.open.history.push(next, continues)) return this.render();
    this.render();
    this.edited(this.open);
  }

  private selectAndReveal(key: string): void {
    this.select(key);
    const one = [...this.annotation.boxes, ...this.proposals].find((other) => other.key === key);
    if (one) this.stage.reveal(one.box_xyxy);
  }

  private showSuspect(approach = true): void {
    const suspects = this.open?.record.suspects ?? [];
    this.panel.suspect(suspects[0] ?? null, suspects.length);
    if (approach && suspects[0]) this.stage.approach(suspects[0].box_xyxy);
  }

  private render(): void {
    const { annotation, proposals } = this;
    const all = [...annotation.boxes, ...proposals];
    const shapes = all.map((one, i) => this.shape(one, i, all.length));
    const { suspect } = this;
    if (suspect) shapes.push(suspectShape(suspect));
    this.stage.render(shapes, this.selected, this.color(this.currentClass));
    this.panel.render(annotation, proposals, this.selected, this.currentClass);
  }

  private shape(one: LabelBox | Proposal, at: number, count: number): Shape {
    const name = nameText(one.class);
    const proposal = "score" in one;
    const mark = proposal ? scoreText(one.score) : `${one.difficult ? " · difficult" : ""}${one.ignore ? " · ignored" : ""}`;
    return {
      key: one.key,
      kind: proposal ? "proposal" : "box",
      box_xyxy: one.box_xyxy,
      color: this.color(one.class),
      text: name + mark,
      label: `${name}${mark}, ${sizeText(one.box_xyxy)}, ${proposal ? "proposal" : "box"} ${at + 1} of ${count}`,
      ignore: !proposal && one.ignore,
    };
  }

  private color(name: string): string {
    return this.classes.find((one) => one.name === name)?.color ?? UNKNOWN;
  }
}

function suspectShape({ box_xyxy }: Suspect): Shape {
  return { key: "suspect", kind: "suspect", box_xyxy, color: SUSPECT, text: "", label: "The box that is asked about", ignore: false };
}
