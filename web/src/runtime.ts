// What runs the model in this browser: the graphics processor (WebGPU) where there is one, else the processor
// (WebAssembly).

/** What the address of the page asks for: `?runtime=webgpu` or `?runtime=wasm`; without it, the page chooses. */
export type Wish = "auto" | "webgpu" | "wasm";

export function wishOf(search: string): Wish {
  const wish = new URLSearchParams(search).get("runtime") ?? "auto";
  if (wish === "auto" || wish === "webgpu" || wish === "wasm") return wish;
  throw new Error(`“${wish}” is no runtime; let the address of the page end with ?runtime=webgpu or ?runtime=wasm`);
}

/** What runs, and why that is not WebGPU; the reason is empty where it is, or where it was not requested. */
export interface Runtime {
  words: string;
  withoutWebGpu: string;
}

export function wasmWords(threads: number): string {
  return `WebAssembly, ${threads} thread${threads === 1 ? "" : "s"}`;
}

/** A sentence for people. The reason, of which a browser may say several lines, is for those alone who asked for WebGPU. */
export function runtimeSentence({ words, withoutWebGpu }: Runtime, wish: Wish): string {
  const why = withoutWebGpu.replace(/\.?\s*(\n.*)?$/s, "");
  const reason = wish === "webgpu" && why ? ` WebGPU does not run: ${why}.` : "";
  return `Private: the model runs in this browser (${words}). No picture leaves this device.${reason}`;
}

/** What of a browser decides. */
export interface Surroundings {
  gpu: Pick<GPU, "requestAdapter"> | undefined;
  /** Whether WebAssembly can wait for JavaScript (JSPI), as ONNX Runtime does while the GPU works. */
  jspi: boolean;
}

/** Why WebGPU need not be tried; null where it is worth it. */
export async function reasonAgainstWebGpu(wish: Wish, { gpu, jspi }: Surroundings): Promise<string | null> {
  if (wish === "wasm") return "the address of the page says so";
  if (!gpu) return "this browser has none, or only for pages that come over https";
  if (!jspi) return "WebAssembly cannot wait for it in this browser (JSPI)";
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (!adapter) return "this browser has no graphics processor for it";
  // The same processor does more with WebAssembly than by playing a graphics processor.
  if (wish === "auto" && isSoftware(adapter)) return "this browser only imitates a graphics processor";
  return null;
}

function isSoftware(adapter: GPUAdapter): boolean {
  const older = adapter as { isFallbackAdapter?: boolean };
  return adapter.info?.isFallbackAdapter ?? older.isFallbackAdapter ?? false;
}
