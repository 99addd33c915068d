import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const out = "../src/maskwatch/serve/static";
const version = /__version__ = "([^"]+)"/.exec(readFileSync("../src/maskwatch/_version.py", "utf-8"))?.[1];

/** WebAssembly is 14 MB, packed a quarter of that: the package holds it packed, and browsers unpack it. */
function packed(): Plugin {
  return {
    name: "packed",
    apply: "build",
    writeBundle(_, bundle) {
      for (const name of Object.keys(bundle).filter((one) => one.endsWith(".wasm"))) {
        const file = join(import.meta.dirname, out, name);
        if (!existsSync(file)) continue;
        writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: 9 }));
        rmSync(file);
      }
    },
  };
}

export default defineConfig({
  base: "./",
  define: { __VERSION__: JSON.stringify(version) },
  plugins: [packed()],
  // Its glue is a file of its own then, which a strict Content-Security-Policy asks for.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "production"] },
  // While somebody works on the page, the API is that of `maskwatch serve` with its own port.
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8765", ws: true } } },
  worker: { format: "es" },
  build: {
    rolldownOptions: { input: ["index.html", "label.html"] },
    outDir: out,
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
