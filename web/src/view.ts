// What is on the stage, and what is said about it: the canvas, the count, the table of faces.

import { element, made, save, show, stem } from "./dom";
import { paint, percent } from "./draw";
import { type Size, within } from "./geometry";
import { colorOf, css } from "./labels";
import type { Finding, Model, Thresholds } from "./records";
import { counting, countByClass, LOWEST, spoken, summary } from "./threshold";

/** A picture and what was found in it; `image` is null where this browser cannot show it. */
export interface Shown {
  name: string;
  /** A frame of many, not a picture that stays. */
  moving: boolean;
  image: ImageBitmap | null;
  finding: Finding;
}

export interface Look {
  model: Model;
  thresholds: Thresholds;
  blur: boolean;
}

const LONGEST_SIDE = 2048; // pixels of the canvas; the downloaded picture has all of its own
const SPOKEN_MS = 2000; // between two sentences about a moving picture

export class View {
  private readonly canvas = element<HTMLCanvasElement>("picture");
  private shown: Shown | null = null;
  private without = "No picture yet"; // what is said where nothing is shown
  private look: Look | null = null;
  private nextWords = 0;

  /** Takes over the image and closes the one before; `without` is said where there is none. */
  set(shown: Shown | null, without = ""): void {
    this.without = without;
    if (this.shown?.image !== shown?.image) this.shown?.image?.close();
    this.shown = shown;
    this.render();
  }

  setLook(look: Look): void {
    this.look = look;
    this.render();
  }

  /** The drawn (or blurred) picture in its own size. */
  async download(): Promise<void> {
    const { shown, look } = this;
    if (!shown?.image || !look) return;
    const canvas = new OffscreenCanvas(shown.image.width, shown.image.height);
    this.paint(canvas.getContext("2d", { willReadFrequently: true }), canvas, shown.image, shown, look);
    save(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 }), `${stem(shown.name)}-maskwatch.jpg`);
  }

  private render(): void {
    const { shown, look } = this;
    const image = shown?.image ?? null;
    show(this.canvas, image !== null);
    show(element("hint"), image === null);
    element("drop").classList.toggle("full", image !== null);
    element<HTMLButtonElement>("save-picture").disabled = image === null;
    if (!look) return;
    const faces = shown ? counting(shown.finding.detections, look.thresholds) : [];
    if (shown && image) {
      const size = within(image, LONGEST_SIDE);
      if (this.canvas.width !== size.width) this.canvas.width = size.width;
      if (this.canvas.height !== size.height) this.canvas.height = size.height;
      this.paint(this.canvas.getContext("2d", { willReadFrequently: true }), this.canvas, image, shown, look);
    }
    this.count(faces, look.model.classes);
    this.list(faces);
    this.say(shown ? summary(faces, look.model.classes) : this.without, shown);
  }

  private paint(
    context: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D | null,
    canvas: Size,
    image: ImageBitmap,
    shown: Shown,
    look: Look,
  ): void {
    if (!context) return;
    const { detections } = shown.finding;
    const drawn = counting(detections, look.thresholds);
    const covered = look.blur ? detections.filter((one) => one.score > LOWEST || drawn.includes(one)) : [];
    paint(context, canvas, shown.finding, { image, drawn, covered });
  }

  private count(faces: Finding["detections"], classes: string[]): void {
    const tiles = [...countByClass(faces, classes)].map(([name, count]) => {
      const tile = made("div");
      tile.style.setProperty("--class-color", css(colorOf(classes.indexOf(name))));
      tile.append(made("dt", spoken(name)), made("dd", String(count)));
      return tile;
    });
    element("counts").replaceChildren(...tiles);
  }

  private list(faces: Finding["detections"]): void {
    const rows = faces.map((face) => {
      const row = made("tr");
      const box = face.box.map((value) => Math.round(value)).join(", ");
      row.append(made("td", spoken(face.class)), made("td", percent(face.score)), made("td", box));
      return row;
    });
    element("faces").replaceChildren(...rows);
    show(element("faces-scroll"), rows.length > 0);
  }

  /** A screen reader reads this out, so it must not change with each frame. */
  private say(text: string, shown: Shown | null): void {
    const label = shown ? `${shown.name}. ${text}` : text;
    this.canvas.setAttribute("aria-label", label);
    const status = element("status");
    if (status.textContent === text) return;
    if (shown?.moving && performance.now() < this.nextWords) return;
    this.nextWords = performance.now() + SPOKEN_MS;
    status.textContent = text;
  }
}
