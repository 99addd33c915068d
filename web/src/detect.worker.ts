// Looks at pictures in this browser, beside the page, so that the page stays alive meanwhile: the same model
// file as in the package, run by ONNX Runtime as WebAssembly.

import * as ort from "onnxruntime-web/wasm";
import glueUrl from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasmUrl from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import { type BoxXyxy, fittedSize, type Size, toPicture } from "./geometry";
import { type Finding, type Model, rounded } from "./records";
import { setInitializer } from "./onnx";
import { resize, type RowReader } from "./resize";
import { asked } from "./threshold";

/** What the page sends; each is answered once, with the same `id`. */
export type Request =
  | { id: number; kind: "load"; bytes: ArrayBuffer; model: Model; threads: number }
  | { id: number; kind: "detect"; bitmap: ImageBitmap };

export type Answer = { id: number; finding?: Finding; error?: string };

const PAD = 128;
const STRIP = 128; // rows that are read at once: a picture is never in memory a second time

let session: ort.InferenceSession | undefined;
let model: Model | undefined;

self.addEventListener("message", (event: MessageEvent<Request>) => {
  const request = event.data;
  answer(request).then(
    (finding) => self.postMessage({ id: request.id, ...(finding && { finding }) } satisfies Answer),
    (error: unknown) => self.postMessage({ id: request.id, error: String(error) } satisfies Answer),
  );
});

async function answer(request: Request): Promise<Finding | undefined> {
  if (request.kind === "load") {
    await load(request.bytes, request.model, request.threads);
    return undefined;
  }
  try {
    return await detect(request.bitmap);
  } finally {
    request.bitmap.close();
  }
}

async function load(bytes: ArrayBuffer, about: Model, threads: number): Promise<void> {
  const file = new Uint8Array(bytes);
  setInitializer(file, "score_thresholds", asked(about.thresholds));
  // Beside the page, not at an address of somebody else, which is where ONNX Runtime would look otherwise.
  const at = (url: string) => new URL(url, self.location.href).href;
  ort.env.wasm.wasmPaths = { mjs: at(glueUrl), wasm: at(wasmUrl) };
  ort.env.wasm.numThreads = threads;
  await session?.release();
  session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  model = about;
}

async function detect(bitmap: ImageBitmap): Promise<Finding> {
  if (!session || !model) throw new Error("no model is loaded");
  const picture = { width: bitmap.width, height: bitmap.height };
  const canvas = { height: model.input_size[0], width: model.input_size[1] };
  const fitted = fittedSize(picture, canvas, model.resize);
  const pixels = onCanvas(resize(rowsOf(bitmap), picture, fitted), fitted, canvas);
  const images = new ort.Tensor("uint8", pixels, [1, canvas.height, canvas.width, 3]);
  const outputs = await session.run({ images });
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

function onCanvas(resized: Uint8Array, fitted: Size, canvas: Size): Uint8Array {
  const pixels = new Uint8Array(canvas.width * canvas.height * 3).fill(PAD);
  for (let y = 0; y < fitted.height; y++) {
    const row = resized.subarray(y * fitted.width * 3, (y + 1) * fitted.width * 3);
    pixels.set(row, y * canvas.width * 3);
  }
  return pixels;
}

function collect(outputs: ort.InferenceSession.ReturnType, about: Model, fitted: Size, picture: Size): Finding["detections"] {
  const boxes = outputs["boxes"]?.data as Float32Array;
  const scores = outputs["scores"]?.data as Float32Array;
  const classes = outputs["classes"]?.data as BigInt64Array;
  const count = Number((outputs["num_detections"]?.data as BigInt64Array)[0]);
  return Array.from({ length: count }, (_, i) => {
    const box = toPicture([...boxes.subarray(4 * i, 4 * i + 4)] as BoxXyxy, fitted, picture);
    const id = Number(classes[i]);
    return rounded({ class: about.classes[id] ?? String(id), class_id: id, score: scores[i] ?? 0, box });
  }).filter(({ box }) => box[2] > box[0] && box[3] > box[1]); // none that lies in the padding alone
}
