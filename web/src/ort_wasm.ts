// ONNX Runtime for the processor alone. A file of its own, so that only a browser that needs it loads it.

export * as ort from "onnxruntime-web/wasm";
export { default as glueUrl } from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
export { default as wasmUrl } from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
