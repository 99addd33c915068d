// Who looks at pictures: the service, or this browser. The rest of the page cannot tell them apart.

import type { Api } from "./api";
import type { Answer, Request } from "./detect.worker";
import type { Finding, Model } from "./records";
import { LocalFrames, type FrameFinder, ServerFrames, type OnFrame } from "./frames";
import { type Runtime, runtimeSentence, type Wish } from "./runtime";
import { asked } from "./threshold";

export interface Engine {
  readonly model: Model;
  /** A sentence about where pictures go and what runs. */
  readonly about: string;
  /** Told when that sentence has changed. */
  onAbout: ((about: string) => void) | null;
  picture(file: Blob): Promise<Finding>;
  frames(onFrame: OnFrame, onTrouble: (text: string) => void): Promise<FrameFinder>;
  close(): void;
}

export class ServerEngine implements Engine {
  onAbout = null;

  constructor(
    private readonly api: Api,
    readonly model: Model,
  ) {}

  get about(): string {
    return `Pictures are sent to ${location.host}, processed there and not stored.`;
  }

  picture(file: Blob): Promise<Finding> {
    return this.api.detect(file, this.model.name, asked(this.model.thresholds));
  }

  async frames(onFrame: OnFrame, onTrouble: (text: string) => void): Promise<FrameFinder> {
    const query = { model: this.model.name, threshold: String(asked(this.model.thresholds)) };
    return ServerFrames.open(await this.api.ticketed("v1/stream", query), onFrame, onTrouble);
  }

  close(): void {}
}

const MOST_THREADS = 4; // more make a network of this size no faster

export class LocalEngine implements Engine {
  onAbout: ((about: string) => void) | null = null;
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private sent = 0;
  private runtime: Runtime | undefined; // as the last answer had it

  private constructor(
    readonly model: Model,
    private readonly worker: Worker,
    private readonly wish: Wish,
  ) {
    worker.addEventListener("message", (event: MessageEvent<Answer>) => this.settle(event.data));
    worker.addEventListener("error", (event) => this.fail(event.message || "its program could not be loaded"));
  }

  static async load(api: Api, model: Model, wish: Wish, progress: (share: number) => void): Promise<LocalEngine> {
    const bytes = await api.modelFile(model, (count) => progress(Math.min(1, count / model.bytes)));
    // Without the headers for it (COOP, COEP, https) browsers give no memory that threads can share.
    const threads = crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
    const worker = new Worker(new URL("./detect.worker.ts", import.meta.url), { type: "module" });
    const engine = new LocalEngine(model, worker, wish);
    try {
      await engine.ask({ kind: "load", bytes, model, threads, wish }, [bytes]);
    } catch (error) {
      engine.close();
      throw error;
    }
    return engine;
  }

  get about(): string {
    return this.runtime ? runtimeSentence(this.runtime, this.wish) : "";
  }

  async picture(file: Blob): Promise<Finding> {
    return this.bitmap(await decoded(file));
  }

  async bitmap(bitmap: ImageBitmap): Promise<Finding> {
    const { finding } = await this.ask({ kind: "detect", bitmap }, [bitmap]);
    if (!finding) throw new Error("the browser's detector gave no answer; choose “On the server”");
    return finding;
  }

  async frames(onFrame: OnFrame, onTrouble: (text: string) => void): Promise<FrameFinder> {
    return new LocalFrames((bitmap) => this.bitmap(bitmap), onFrame, onTrouble);
  }

  close(): void {
    this.worker.terminate();
    this.fail("it was stopped");
  }

  private ask(request: DistributiveOmit<Request, "id">, transfer: Transferable[]): Promise<Answer> {
    const id = ++this.sent;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, (answer) => (answer.error ? reject(new Error(answer.error)) : resolve(answer)));
      this.worker.postMessage({ ...request, id }, transfer);
    });
  }

  private settle(answer: Answer): void {
    const before = this.about;
    this.runtime = answer.runtime ?? this.runtime;
    if (this.about !== before) this.onAbout?.(this.about);
    this.waiting.get(answer.id)?.(answer);
    this.waiting.delete(answer.id);
  }

  private fail(reason: string): void {
    for (const id of [...this.waiting.keys()]) {
      this.settle({ id, error: `the browser's detector failed (${reason}); choose “On the server”` });
    }
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** A picture as the service decodes it: turned by its EXIF orientation, colours as they are in the file. */
async function decoded(file: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error("this browser cannot read this picture; save it as JPEG, or choose “On the server”");
  }
}
