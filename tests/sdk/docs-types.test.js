/** The documentation's TypeScript, whose examples for React are copied into strict projects: each block compiles by itself. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const SDK = fileURLToPath(new URL("../../koko_presence/web/sdk/", import.meta.url));
const PACKAGES = fileURLToPath(new URL("../node_modules/", import.meta.url));
const PAGES = ["sdk", "react", "presence-object", "tokens"];

/** Packages of examples whose types are not among the pinned ones; of react-dom the part that is used. */
const OTHERS = `
declare module "react-dom/client" {
  export function createRoot(container: Element | DocumentFragment | Document): { render(children: import("react").ReactNode): void };
}
declare module "@codemirror/state";
declare module "@codemirror/view";
declare module "y-codemirror.next";
declare module "yjs";
`;

/** The compiler options of Vite's template react-ts that make it stricter, and where the packages are. */
const compilerOptions = {
  strict: true, noEmit: true, target: "es2022", module: "esnext", moduleResolution: "bundler", jsx: "react-jsx", types: [],
  lib: ["es2023", "dom", "dom.iterable", "esnext.disposable"], noUnusedLocals: true, noUnusedParameters: true,
  verbatimModuleSyntax: true, noFallthroughCasesInSwitch: true, noUncheckedSideEffectImports: true, skipLibCheck: true, preserveSymlinks: true,
  paths: {
    react: [`${PACKAGES}@types/react/index.d.ts`], "react/jsx-runtime": [`${PACKAGES}@types/react/jsx-runtime.d.ts`],
    "koko-presence": [`${SDK}presence.d.ts`], "koko-presence/*": [`${SDK}*.d.ts`],
  },
};

/**
 * Compiles each text as a module of one project.
 * @param {Map<string, string>} texts By name.
 * @returns {Promise<string>} What the compiler says; empty if all is well.
 */
async function compiled(texts) {
  const folder = await mkdtemp(join(tmpdir(), "koko-docs-"));
  try {
    await symlink(PACKAGES, join(folder, "node_modules"));
    await writeFile(join(folder, "others.d.ts"), OTHERS);
    for (const [name, text] of texts) await writeFile(join(folder, name), text);
    await writeFile(join(folder, "tsconfig.json"), JSON.stringify({
      compilerOptions, files: ["others.d.ts", ...texts.keys()],
    }));
    await run(join(PACKAGES, ".bin/tsc"), ["-p", folder, "--pretty", "false"], { cwd: folder });
    return "";
  } catch (error) {
    return error.stdout || String(error);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const blocks = new Map(PAGES.flatMap((page) => {
  const text = readFileSync(new URL(`../../docs/${page}.md`, import.meta.url), "utf8");
  return [...text.matchAll(/^```tsx(?: next)?\n(.*?)^```$/gms)].map(([, block], i) => [`${page}-${i}.tsx`, block]);
}));

test("every example of docs for React compiles as strict TypeScript", async () => {
  assert.deepEqual([...blocks.keys()], ["sdk-0.tsx", "sdk-1.tsx", "sdk-2.tsx", "react-0.tsx", "presence-object-0.tsx", "presence-object-1.tsx", "tokens-0.tsx"]);
  assert.equal(await compiled(blocks), "");
});

test("a mistake in one would be found", async () => {
  const block = blocks.get("sdk-1.tsx").replace("useRef<HTMLVideoElement>(null)", "useRef(null)");
  assert.match(await compiled(new Map([["wrong.tsx", block]])), /wrong\.tsx\(\d+,\d+\): error TS/);
});
