// The pictures that were chosen, dropped or pasted: each is processed once, one after the other.

import { element, made, show, textOf } from "./dom";
import type { Engine } from "./engine";
import type { Failure, Finding, Model, Named, Thresholds } from "./records";
import { counting, summary } from "./threshold";

export interface Picture {
  name: string;
  file: Blob;
  finding: Finding | null;
  reason: string;
  button: HTMLButtonElement;
  thumbnail: HTMLImageElement;
}

export class Pictures {
  readonly list: Picture[] = [];
  selected: Picture | null = null;
  private run = 0;
  private moves = 0;

  constructor(
    private readonly engine: () => Promise<Engine>,
    private readonly onSelect: (picture: Picture) => void,
    private readonly onChange: () => void,
  ) {}

  async add(files: { name: string; file: Blob }[]): Promise<void> {
    const added = files.map((one) => this.item(one.name, one.file));
    this.list.push(...added);
    show(element("strip"), this.list.length > 1);
    await this.look(added[0]);
  }

  /** Processes all of them again, by another model or elsewhere. */
  async again(): Promise<void> {
    for (const picture of this.list) {
      Object.assign(picture, { finding: null, reason: "" });
      picture.button.setAttribute("aria-label", picture.name);
    }
    await this.look(this.selected ?? undefined);
  }

  /** Puts a picture on the stage; null when something else goes there. */
  select(picture: Picture | null): void {
    this.moves++;
    this.selected = picture;
    for (const one of this.list) one.button.setAttribute("aria-pressed", String(one === picture));
    if (!picture) return;
    intoSight(picture.button);
    this.onSelect(picture);
  }

  results(thresholds: Thresholds): Named[] {
    return this.list.flatMap(({ name, finding }) =>
      finding ? [{ source: name, finding: { ...finding, detections: counting(finding.detections, thresholds) } }] : [],
    );
  }

  failures(): Failure[] {
    return this.list.filter((one) => one.reason).map((one) => ({ source: one.name, reason: one.reason }));
  }

  private item(name: string, file: Blob): Picture {
    const button = made("button");
    button.type = "button";
    button.setAttribute("aria-label", name);
    const thumbnail = made("img");
    thumbnail.alt = "";
    thumbnail.src = URL.createObjectURL(file);
    button.append(thumbnail);
    const picture: Picture = { name, file, finding: null, reason: "", button, thumbnail };
    button.addEventListener("click", () => this.select(picture));
    const place = made("li");
    place.append(button);
    element("strip").append(place);
    return picture;
  }

  /** `first` is selected as soon as its answer is there, unless the user has gone on meanwhile. */
  private async look(first: Picture | undefined): Promise<void> {
    const run = ++this.run;
    const moves = this.moves;
    const engine = await this.engine();
    for (const picture of this.list.filter((one) => !one.finding && !one.reason)) {
      if (run !== this.run) return; // a later call does the rest
      try {
        this.succeed(picture, await engine.picture(picture.file), engine.model);
      } catch (error) {
        this.fail(picture, textOf(error));
      }
      if (picture === first && this.moves === moves) this.select(picture);
      else if (picture === this.selected) this.onSelect(picture);
      this.onChange();
    }
  }

  private succeed(picture: Picture, finding: Finding, { thresholds, classes }: Model): void {
    picture.finding = finding;
    picture.button.classList.remove("failed");
    picture.button.replaceChildren(picture.thumbnail);
    const words = summary(counting(finding.detections, thresholds), classes);
    picture.button.setAttribute("aria-label", `${picture.name}. ${words}`);
  }

  private fail(picture: Picture, reason: string): void {
    picture.reason = reason;
    picture.button.classList.add("failed");
    picture.button.textContent = picture.name;
    picture.button.setAttribute("aria-label", `${picture.name}. ${reason}`);
  }
}

/** Moves the strip alone: the browser's own way would move the page as well. */
function intoSight(button: HTMLElement): void {
  const strip = element("strip");
  const [inner, outer] = [button.getBoundingClientRect(), strip.getBoundingClientRect()];
  if (inner.left < outer.left || inner.right > outer.right) strip.scrollLeft += inner.left - outer.left;
}
