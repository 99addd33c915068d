// ONNX Runtime for the graphics processor and the processor. A file of its own, so that only a browser that
// can use it loads it. The variant “jspi” is 4 MB packed, the variant “asyncify”, for older browsers, 7 MB.

export * as ort from "onnxruntime-web/jspi";
export { default as glueUrl } from "onnxruntime-web/ort-wasm-simd-threaded.jspi.mjs?url";
export { default as wasmUrl } from "onnxruntime-web/ort-wasm-simd-threaded.jspi.wasm?url";
