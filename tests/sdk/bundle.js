/** A documented snippet as one script for a browser: node bundle.js SNIPPET.tsx|.vue OUT. The packages are the real ones. */

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { compileScript, parse } from "vue/compiler-sfc";

const [snippet, outfile] = process.argv.slice(2);
const here = fileURLToPath(new URL(".", import.meta.url));
const sdk = fileURLToPath(new URL("../../koko_presence/web/sdk", import.meta.url));

const vue = {
  name: "vue",
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^snippet$/ }, () => ({ path: snippet }));
    onLoad({ filter: /\.vue$/ }, async ({ path }) => {
      const { descriptor } = parse(await readFile(path, "utf8"));
      return { contents: compileScript(descriptor, { id: "snippet", inlineTemplate: true }).content, loader: "js", resolveDir: here };
    });
    onLoad({ filter: /\.tsx$/ }, async ({ path }) => ({ contents: await readFile(path, "utf8"), loader: "tsx", resolveDir: here }));
  },
};
const entry = snippet.endsWith(".vue")
  ? 'import { createApp } from "vue"; import Page from "snippet"; createApp(Page).mount("#app");'
  : 'import "snippet";';
await build({
  stdin: { contents: entry, resolveDir: here }, outfile, bundle: true, format: "esm", plugins: [vue], logLevel: "error",
  alias: { "koko-presence": sdk }, define: { "process.env.NODE_ENV": '"production"' },
});
