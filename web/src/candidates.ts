// The runtimes that can run a model file in this browser, in the order in which they are tried.

import type { InferenceSession, Tensor } from "onnxruntime-web/wasm";
import type { Size } from "./geometry";
import type { Candidate, Outputs, Runner } from "./network";
import { wasmWords } from "./runtime";

type Ort = typeof import("onnxruntime-web/wasm");
type Provider = "webgpu" | "wasm";

interface Loaded {
  ort: Ort;
  glueUrl: string;
  wasmUrl: string;
}

/** Args: `file` stays as it is, `size` is that of the network, `webGpu` whether it is worth a try. */
export function candidatesFor(file: Uint8Array, size: Size, threads: number, webGpu: boolean): [Candidate, ...Candidate[]] {
  const one = (words: string, load: () => Promise<Loaded>, provider: Provider): Candidate => ({
    words,
    open: async () => opened(await load(), file, size, threads, provider),
  });
  const wasm = one(wasmWords(threads), () => import("./ort_wasm"), "wasm");
  if (!webGpu) return [wasm];
  const both = () => import("./ort_webgpu");
  // The second one is there already when the first one fails, even where there is no connection any more.
  return [one("WebGPU", both, "webgpu"), one(wasmWords(threads), both, "wasm"), wasm];
}

async function opened({ ort, glueUrl, wasmUrl }: Loaded, file: Uint8Array, size: Size, threads: number, provider: Provider): Promise<Runner> {
  // Beside the page, not at a foreign address, the default of ONNX Runtime.
  const at = (url: string) => new URL(url, self.location.href).href;
  ort.env.wasm.wasmPaths = { mjs: at(glueUrl), wasm: at(wasmUrl) };
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(file, { executionProviders: [provider], logSeverityLevel: 3 });
  const broken = provider === "webgpu" ? trouble(await ort.env.webgpu.device) : new Promise<never>(() => {});
  broken.catch(() => undefined); // the next run reports it
  return {
    broken,
    run: async (pixels) => outputs(await session.run({ images: new ort.Tensor("uint8", pixels, [1, size.height, size.width, 3]) })),
  };
}

/** ONNX Runtime only prints what goes wrong on a GPU, and goes on with zeros. */
function trouble(device: GPUDevice): Promise<never> {
  return new Promise((_, reject) => {
    void device.lost.then(({ message }) => reject(new Error(message || "the graphics processor was lost")));
    device.addEventListener("uncapturederror", ({ error }) => reject(new Error(error.message)));
  });
}

function outputs(found: InferenceSession.ReturnType): Outputs {
  const data = (name: keyof Outputs): Tensor.DataType => {
    const tensor = found[name];
    if (!tensor) throw new Error(`the model gives no “${name}”; export it again with: maskwatch export`);
    return tensor.data;
  };
  return {
    boxes: data("boxes") as Float32Array,
    scores: data("scores") as Float32Array,
    classes: data("classes") as BigInt64Array,
    num_detections: data("num_detections") as BigInt64Array,
  };
}
