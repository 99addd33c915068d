import { expect, test } from "vitest";
import { reasonAgainstWebGpu, runtimeSentence, type Surroundings, wasmWords, wishOf } from "../src/runtime";

function gpu(adapter: object | null): Surroundings["gpu"] {
  return { requestAdapter: async () => adapter as GPUAdapter | null };
}

const real = gpu({ info: { isFallbackAdapter: false } });

test("the address may name a runtime", () => {
  expect(["", "?x=1", "?runtime=webgpu", "?runtime=wasm"].map(wishOf)).toEqual(["auto", "auto", "webgpu", "wasm"]);
  expect(() => wishOf("?runtime=quantum")).toThrow("?runtime=webgpu or ?runtime=wasm");
});

test("a graphics processor is used where there is one", async () => {
  expect(await reasonAgainstWebGpu("auto", { gpu: real, jspi: true })).toBeNull();
  expect(await reasonAgainstWebGpu("auto", { gpu: gpu({}), jspi: true })).toBeNull(); // says nothing of itself
});

test("what is missing is said", async () => {
  expect(await reasonAgainstWebGpu("auto", { gpu: undefined, jspi: true })).toContain("https");
  expect(await reasonAgainstWebGpu("auto", { gpu: real, jspi: false })).toContain("JSPI");
  expect(await reasonAgainstWebGpu("auto", { gpu: gpu(null), jspi: true })).toContain("no graphics processor");
  const refusing: Surroundings["gpu"] = { requestAdapter: () => Promise.reject(new Error("blocked")) };
  expect(await reasonAgainstWebGpu("webgpu", { gpu: refusing, jspi: true })).toContain("no graphics processor");
  expect(await reasonAgainstWebGpu("wasm", { gpu: real, jspi: true })).toContain("address");
});

test("an imitated one is used only by who asks for it", async () => {
  for (const adapter of [{ info: { isFallbackAdapter: true } }, { isFallbackAdapter: true }]) {
    expect(await reasonAgainstWebGpu("auto", { gpu: gpu(adapter), jspi: true })).toContain("imitates");
    expect(await reasonAgainstWebGpu("webgpu", { gpu: gpu(adapter), jspi: true })).toBeNull();
  }
});

test("what runs is said, and why not WebGPU to those alone who asked for it", () => {
  const runtime = { words: wasmWords(1), withoutWebGpu: "it was lost" };
  expect(runtimeSentence(runtime, "auto")).toBe(
    "Private: the model runs in this browser (WebAssembly, 1 thread). No picture leaves this device.",
  );
  expect(runtimeSentence({ ...runtime, words: wasmWords(4) }, "webgpu")).toBe(
    "Private: the model runs in this browser (WebAssembly, 4 threads). No picture leaves this device. " +
      "WebGPU does not run: it was lost.",
  );
  const loud = { ...runtime, withoutWebGpu: "Buffer usages must not be 0.\n - While calling [Device].\n" };
  expect(runtimeSentence(loud, "webgpu")).toMatch(/ WebGPU does not run: Buffer usages must not be 0\.$/);
  expect(runtimeSentence({ words: "WebGPU", withoutWebGpu: "" }, "webgpu")).not.toContain("does not run");
});
