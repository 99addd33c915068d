// Puts the page together: what the user does → who looks → what is shown.

import { Api, Problem } from "./api";
import { element, save, show, stem, textOf, trouble } from "./dom";
import { type Engine, LocalEngine, ServerEngine } from "./engine";
import { wishOf } from "./runtime";
import type { LookedAt } from "./frames";
import { Live } from "./live";
import { type Picture, Pictures } from "./pictures";
import { type Model, type Named, toDocument, toText } from "./records";
import { type Choice, counting, sliderPercent, sliderText, thresholdsFor } from "./threshold";
import { View } from "./view";
import { Watch } from "./watch";

declare const __VERSION__: string;

class Page {
  private readonly api = new Api();
  private readonly view = new View();
  private readonly live = new Live(() => this.engine, (name, looked) => this.showFrame(name, looked));
  private readonly pictures = new Pictures(
    () => this.engine,
    (picture) => void this.showPicture(picture),
    () => this.enable(),
  );
  private models: Model[] = [];
  private engine: Promise<Engine> = new Promise(() => {});
  private choice: Choice = null;
  private frame: Named | null = null;

  async begin(): Promise<void> {
    show(element("login"), false);
    trouble("");
    try {
      this.models = await this.api.models();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401) return trouble(textOf(error));
      this.offer(false);
      show(element("login"), true);
      element("token").focus();
      return;
    }
    this.offer(true);
    this.offerModels();
    await this.choose();
    await this.offerFeedback().catch((error: unknown) => trouble(textOf(error)));
    await new Watch(this.api).begin().catch((error: unknown) => trouble(textOf(error)));
  }

  private offer(shown: boolean): void {
    show(element("where"), shown);
    show(element("work"), shown);
  }

  listen(): void {
    element("login").addEventListener("submit", (event) => {
      event.preventDefault();
      this.api.setToken(element<HTMLInputElement>("token").value.trim());
      void this.begin().then(() => {
        if (!element("login").hidden) trouble("the service does not take this token; check it for typing errors");
      });
    });
    for (const input of document.querySelectorAll("input[name=where]")) {
      input.addEventListener("change", () => void this.choose());
    }
    element("model").addEventListener("change", () => void this.choose());
    element("camera").addEventListener("click", () => void this.openCamera());
    element("threshold").addEventListener("input", () => {
      this.choice = Number(element<HTMLInputElement>("threshold").value) / 100;
      this.look();
    });
    element("own").addEventListener("click", () => {
      this.choice = null;
      this.look();
    });
    element("blur").addEventListener("change", () => this.look());
    element("save-picture").addEventListener("click", () => this.attempt(() => this.view.download()));
    element("save-json").addEventListener("click", () => this.saveJson());
    element("copy-json").addEventListener("click", () => this.attempt(() => this.copyJson()));
    element("wrong").addEventListener("click", () => this.attempt(() => this.sendWrong()));
    this.listenForFiles();
  }

  private listenForFiles(): void {
    const files = element<HTMLInputElement>("files");
    files.addEventListener("change", () => {
      this.open([...(files.files ?? [])]);
      files.value = ""; // so that the same file can be chosen again
    });
    document.addEventListener("paste", (event) => this.open([...(event.clipboardData?.files ?? [])]));
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      element("drop").classList.add("over");
    });
    document.addEventListener("dragleave", () => element("drop").classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      element("drop").classList.remove("over");
      this.open([...(event.dataTransfer?.files ?? [])]);
    });
  }

  private get model(): Model {
    const name = element<HTMLSelectElement>("model").value;
    const found = this.models.find((one) => one.name === name) ?? this.models[0];
    if (!found) throw new Error("the service has no model; start it with one");
    return found;
  }

  private offerModels(): void {
    const options = this.models.map((one) => new Option(one.name, one.name, one.default, one.default));
    element("model").replaceChildren(...options);
  }

  /** Takes the engine that the switch and the list say, and processes what is there. */
  private async choose(): Promise<void> {
    trouble("");
    const before = this.engine;
    const engine = this.makeEngine();
    this.engine = engine;
    void Promise.race([before, Promise.resolve(null)]).then((old) => old?.close());
    this.look();
    try {
      const current = await engine;
      if (this.engine !== engine) return;
      const say = (about: string) => {
        if (this.engine === engine) element("about").textContent = about;
      };
      current.onAbout = say;
      say(current.about);
      if (this.live.running) await this.live.again();
      else await this.pictures.again();
    } catch (error) {
      if (this.engine !== engine) return;
      trouble(textOf(error));
      await engine.catch(() => (element("about").textContent = "Nothing looks at pictures now; choose where."));
    }
  }

  private async makeEngine(): Promise<Engine> {
    const { api, model } = this;
    const where = document.querySelector<HTMLInputElement>("input[name=where]:checked")?.value;
    const progress = element<HTMLProgressElement>("progress");
    show(progress, where === "browser");
    if (where !== "browser") return new ServerEngine(api, model);
    element("about").textContent = `The model (${(model.bytes / 1e6).toFixed(0)} MB) is loaded into this browser …`;
    try {
      return await LocalEngine.load(api, model, wishOf(location.search), (share) => (progress.value = share));
    } finally {
      show(progress, false);
    }
  }

  private open(files: File[]): void {
    if (files.length === 0) return;
    trouble("");
    const video = files.find((file) => file.type.startsWith("video/"));
    if (video) {
      this.pictures.select(null);
      return void this.live.file(video, video.name);
    }
    this.live.stop();
    this.frame = null;
    void this.pictures
      .add(files.map((file) => ({ name: file.name || "pasted.png", file })))
      .catch((error: unknown) => trouble(textOf(error)));
  }

  private async openCamera(): Promise<void> {
    trouble("");
    this.pictures.select(null);
    await this.live.camera();
  }

  private async showPicture(picture: Picture): Promise<void> {
    this.live.stop();
    this.frame = null;
    trouble(picture.reason && `${picture.name}: ${picture.reason}`);
    const { name, finding } = picture;
    const image = await createImageBitmap(picture.file).catch(() => null);
    if (picture !== this.pictures.selected) return image?.close();
    if (finding && !image) trouble(`${name}: this browser cannot show it; what was found stands in the table`);
    const without = picture.reason ? "This picture could not be processed" : "The picture is being processed";
    this.view.set(finding && { name, image, finding, moving: false }, without);
    this.enable();
  }

  private showFrame(name: string, { frame, finding }: LookedAt): void {
    this.frame = { source: name, finding };
    this.view.set({ name, image: frame, finding, moving: true });
    this.enable();
  }

  /** The slider and the switches act on what was found; nothing runs again. */
  private look(): void {
    const { model } = this;
    const thresholds = thresholdsFor(this.choice, model.thresholds);
    const slider = element<HTMLInputElement>("threshold");
    slider.value = String(sliderPercent(this.choice, model.thresholds));
    const words = sliderText(this.choice, model.thresholds);
    slider.setAttribute("aria-valuetext", words);
    element("threshold-text").textContent = this.choice === null ? "model’s own" : words;
    element("own").title = sliderText(null, model.thresholds);
    this.view.setLook({ model, thresholds, blur: element<HTMLInputElement>("blur").checked });
  }

  private enable(): void {
    const any = this.frame !== null || this.pictures.list.length > 0;
    for (const id of ["save-json", "copy-json"]) element<HTMLButtonElement>(id).disabled = !any;
    element<HTMLButtonElement>("wrong").disabled = this.frame !== null || !this.pictures.selected?.finding;
  }

  /** All pictures, or the frame of a camera or video that is shown now. */
  private json(): string {
    const { model, frame } = this;
    const thresholds = thresholdsFor(this.choice, model.thresholds);
    if (!frame) return toText(toDocument(__VERSION__, model, thresholds, this.pictures.results(thresholds), this.pictures.failures()));
    const finding = { ...frame.finding, detections: counting(frame.finding.detections, thresholds) };
    return toText(toDocument(__VERSION__, model, thresholds, [{ source: frame.source, finding }], []));
  }

  private saveJson(): void {
    const name = this.frame?.source ?? (this.pictures.list.length === 1 ? this.pictures.list[0]?.name : "pictures");
    save(new Blob([this.json()], { type: "application/json" }), `${stem(name ?? "pictures")}-maskwatch.json`);
  }

  private async copyJson(): Promise<void> {
    if (!("clipboard" in navigator)) throw new Error("browsers copy only over https or on this computer; download it");
    await navigator.clipboard.writeText(this.json());
    element("status").textContent = "The JSON is in the clipboard";
  }

  private async offerFeedback(): Promise<void> {
    show(element("feedback"), await this.api.keepsFeedback());
  }

  /** Sends the selected picture with the faces that are shown. */
  private async sendWrong(): Promise<void> {
    const picture = this.pictures.selected;
    if (!picture?.finding) return;
    trouble("");
    const { model } = this;
    const found = counting(picture.finding.detections, thresholdsFor(this.choice, model.thresholds));
    const kept = await this.api.sendFeedback(await dataAddress(picture.file), picture.name, model.name, found);
    element("status").textContent = kept ? "The picture is stored for labelling" : "The service has this picture already";
  }

  private attempt(task: () => Promise<void>): void {
    task().catch((error: unknown) => trouble(textOf(error)));
  }
}

function dataAddress(file: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Error("this browser cannot read the file again; choose it once more"));
    reader.readAsDataURL(file);
  });
}

const page = new Page();
page.listen();
void page.begin();
