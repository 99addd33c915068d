// Looks at pictures in this browser, beside the page, so that the page stays alive meanwhile: the same model
// file as in the package, run by ONNX Runtime.

import { candidatesFor } from "./candidates";
import { type BoxXyxy, fittedSize, type Size, toPicture } from "./geometry";
import { Network, type Outputs } from "./network";
import { type Finding, type Model, rounded } from "./records";
import { setInitializer } from "./onnx";
import { resize, type RowReader } from "./resize";
import { reasonAgainstWebGpu, type Runtime, type Wish } from "./runtime";
import { asked } from "./threshold";

/** What the page sends; each is answered once, with the same `id`. The first one is “load”, and there is one. */
export type Request =
  | { id: number; kind: "load"; bytes: ArrayBuffer; model: Model; threads: number; wish: Wish }
  | { id: number; kind: "detect"; bitmap: ImageBitmap };

export type Answer = { id: number; finding?: Finding; runtime?: Runtime; error?: string };

const PAD = 128;
const STRIP = 128; // rows that are read at once: a picture is never in memory a second time

let before: Promise<void> = Promise.resolve();
let loaded: { model: Model; canvas: Size; network: Network; reason: string | null } | undefined;

self.addEventListener("message", (event: MessageEvent<Request>) => {
  const request = event.data;
  // One after the other: a runtime that fails is left once, not by each picture that waits for it.
  before = before.then(() => answer(request)).then(
    (given) => self.postMessage({ id: request.id, ...given, ...running() } satisfies Answer),
    (error: unknown) => self.postMessage({ id: request.id, error: String(error), ...running() } satisfies Answer),
  );
});

async function answer(request: Request): Promise<{ finding?: Finding }> {
  if (request.kind === "load") {
    await load(request.bytes, request.model, request.threads, request.wish);
    return {};
  }
  try {
    return { finding: await detect(request.bitmap) };
  } finally {
    request.bitmap.close();
  }
}

/** Said with each answer, since what runs may have changed on the way to it. */
function running(): { runtime?: Runtime } {
  if (!loaded) return {};
  const { network, reason } = loaded;
  return { runtime: { words: network.words, withoutWebGpu: reason ?? network.failures[0] ?? "" } };
}

async function load(bytes: ArrayBuffer, model: Model, threads: number, wish: Wish): Promise<void> {
  const file = new Uint8Array(bytes);
  setInitializer(file, "score_thresholds", asked(model.thresholds));
  const canvas = { height: model.input_size[0], width: model.input_size[1] };
  const reason = await reasonAgainstWebGpu(wish, { gpu: navigator.gpu, jspi: "Suspending" in WebAssembly });
  const network = new Network(candidatesFor(file, canvas, threads, reason === null));
  if (reason === null) await network.run(grey(canvas)); // a GPU shows only at work whether it can do it
  else await network.open();
  loaded = { model, canvas, network, reason };
}

async function detect(bitmap: ImageBitmap): Promise<Finding> {
  if (!loaded) throw new Error("no model is loaded");
  const { model, canvas, network } = loaded;
  const picture = { width: bitmap.width, height: bitmap.height };
  const fitted = fittedSize(picture, canvas, model.resize);
  const outputs = await network.run(onCanvas(resize(rowsOf(bitmap), picture, fitted), fitted, canvas));
  return { ...picture, detections: collect(outputs, model, fitted, picture) };
}

function rowsOf(bitmap: ImageBitmap): RowReader {
  const canvas = new OffscreenCanvas(bitmap.width, Math.min(STRIP, bitmap.height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser gives no canvas to read pixels from; choose “On the server”");
  context.imageSmoothingEnabled = false;
  let top = -1;
  let strip = new Uint8ClampedArray();
  return (y) => {
    const wanted = y - (y % canvas.height);
    if (wanted !== top) {
      top = wanted;
      context.fillStyle = "#fff"; // transparency lies over white, as in the service
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, 0, -top);
      strip = context.getImageData(0, 0, canvas.width, canvas.height).data;
    }
    const start = (y - top) * canvas.width * 4;
    return strip.subarray(start, start + canvas.width * 4);
  };
}

function grey(canvas: Size): Uint8Array {
  return new Uint8Array(canvas.width * canvas.height * 3).fill(PAD);
}

function onCanvas(resized: Uint8Array, fitted: Size, canvas: Size): Uint8Array {
  const pixels = grey(canvas);
  for (let y = 0; y < fitted.height; y++) {
    const row = resized.subarray(y * fitted.width * 3, (y + 1) * fitted.width * 3);
    pixels.set(row, y * canvas.width * 3);
  }
  return pixels;
}

function collect(outputs: Outputs, about: Model, fitted: Size, picture: Size): Finding["detections"] {
  const { boxes, scores, classes, num_detections } = outputs;
  return Array.from({ length: Number(num_detections[0]) }, (_, i) => {
    const box = toPicture([...boxes.subarray(4 * i, 4 * i + 4)] as BoxXyxy, fitted, picture);
    const id = Number(classes[i]);
    return rounded({ class: about.classes[id] ?? String(id), class_id: id, score: scores[i] ?? 0, box });
  }).filter(({ box }) => box[2] > box[0] && box[3] > box[1]); // none that lies in the padding alone
}
