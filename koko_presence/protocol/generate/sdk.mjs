/**
 * Makes what is generated from the browser SDK's sources in koko_presence/web/sdk: `make generate`. A test compares the
 * files (tests/sdk/generated.test.js), and the sizes with the table in docs/sdk.md.
 *
 *   node koko_presence/protocol/generate/sdk.mjs   writes the declarations and the minified files, prints the table of sizes
 *     --sizes [FOLDER]                             prints the table only, or that of the SDK's sources in FOLDER
 *     --check                                      checks the types of all modules: make check
 */

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const WEB = join(ROOT, "koko_presence/web");
const SDK = join(WEB, "sdk");
/** What a server serves in place of the files of the same name in `sdk`, unless it runs with --dev. */
export const MINIFIED = join(WEB, "sdk_minified");

/** The files that applications import. The modules that they import are bundled into them; `media.js` is loaded by rooms. */
const ENTRIES = ["presence.js", "react.js", "awareness.js", "ui.js", "ui/de.js", "devtools.js", "timer.js"];
const ENTRIES_WITH_TYPES = ["presence", "react", "awareness", "ui", "ui/de", "devtools"];

/** Folders whose modules are checked. */
const CHECKED = ["sdk", "demo", "live"];

/** tests/node_modules leads to the pinned packages. */
const packages = createRequire(join(ROOT, "tests/"));

/**
 * The declarations of the entries and of the modules that these name, made by tsc from JSDoc. The other modules are not
 * part of the SDK's interface and have none.
 * @returns {Map<string, string>} Path below `sdk`, text.
 */
export function declarations() {
  return withCopy((folder) => {
    runTsc(folder, { rootDir: ".", noEmit: false, declaration: true, emitDeclarationOnly: true });
    return namedFrom(ENTRIES_WITH_TYPES.map((name) => `${name}.d.ts`), join(folder, "sdk"));
  });
}

/** Checks the types of all modules. Errors: Error with what tsc has found. */
export function check() {
  withCopy((folder) => runTsc(folder, { rootDir: "." }));
}

/**
 * Calls `use` with a folder that has a copy of the pages' sources without generated declarations, which tsc would read in
 * place of the modules.
 * @template Result
 * @param {(folder: string) => Result} use
 * @returns {Result}
 */
function withCopy(use) {
  const folder = mkdtempSync(join(tmpdir(), "koko-sdk-"));
  try {
    for (const name of CHECKED) copySources(join(WEB, name), join(folder, name));
    return use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * @param {string} folder
 * @param {object} compilerOptions Besides those of tsconfig.json.
 */
function runTsc(folder, compilerOptions) {
  const project = { extends: join(WEB, "tsconfig.json"), compilerOptions, include: CHECKED.map((name) => `${name}/**/*.js`) };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(project));
  const tsc = join(dirname(packages.resolve("typescript/package.json")), "bin/tsc");
  try {
    execFileSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8" });
  } catch (error) {
    throw new Error(/** @type {any} */ (error).stdout || error);
  }
}

/**
 * Copies the modules and the declarations written by hand: those that have no module of the same name.
 * @param {string} from
 * @param {string} to
 */
function copySources(from, to) {
  cpSync(from, to, {
    recursive: true,
    filter: (path) => !path.endsWith(".d.ts") || !existsSync(path.replace(/\.d\.ts$/, ".js")),
  });
}

/**
 * @param {string[]} names
 * @param {string} folder
 * @returns {Map<string, string>} These files and all that they import from each other, without those written by hand.
 */
function namedFrom(names, folder) {
  const found = new Map();
  const waiting = [...names];
  for (const name of waiting) {
    if (found.has(name) || !existsSync(join(folder, name.replace(/\.d\.ts$/, ".js")))) continue;
    const text = readFileSync(join(folder, name), "utf8");
    found.set(name, text);
    for (const [, path] of text.matchAll(/(?:from |import\()"(\.[^"]+)\.js"/g)) {
      waiting.push(relative(folder, join(folder, dirname(name), `${path}.d.ts`)));
    }
  }
  return found;
}

/**
 * The minified files, with the UI kit's style sheet, which is the string of ui/styles.js. Each entry is built by itself: a module that two of them import is in both, so that no page loads a third
 * file for it.
 * @param {string} [sources] The folder of the SDK's sources.
 * @returns {Promise<Map<string, string>>} Name, text.
 */
export async function minified(sources = SDK) {
  const { build, transform } = packages("esbuild");
  const styles = {
    name: "styles",
    /** @param {any} plugins */
    setup({ onLoad }) {
      onLoad({ filter: /[\\/]ui[\\/]styles\.js$/ }, async (/** @type {{ path: string }} */ { path }) => {
        const [, before = "", css = "", after = ""] = /^(.*`)(.*)(`.*)$/s.exec(readFileSync(path, "utf8")) ?? [];
        const { code } = await transform(css, { loader: "css", minify: true });
        return { contents: `${before}${code.trim().replaceAll("\\", "\\\\")}${after}` };
      });
    },
  };
  const builds = await Promise.all(ENTRIES.map((name) => build({
    entryPoints: [join(sources, name)],
    outdir: "/", outbase: sources, chunkNames: "[name]", write: false,
    bundle: true, splitting: true, minify: true, format: "esm", target: "es2022", charset: "utf8",
    plugins: [styles],
  })));
  return new Map(builds.flatMap(({ outputFiles }) => outputFiles.map(({ path, text }) => [path.slice(1), text])));
}

/**
 * @param {Map<string, string>} files
 * @returns {{ name: string, bytes: number, gzipBytes: number }[]}
 */
export function sizes(files) {
  return [...files].map(([name, text]) => ({
    name, bytes: Buffer.byteLength(text), gzipBytes: gzipSync(text, { level: 9 }).length,
  }));
}

/**
 * The names of the files that are not, or not like that, in a folder.
 * @param {Map<string, string>} files
 * @param {string} folder
 */
export function differences(files, folder) {
  const wrong = [...files].filter(([name, text]) => {
    const path = join(folder, name);
    return !existsSync(path) || readFileSync(path, "utf8") !== text;
  });
  return wrong.map(([name]) => name);
}

/**
 * @param {Map<string, string>} files
 * @param {string} folder
 */
function write(files, folder) {
  for (const [name, text] of files) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

const [, script, option, folder] = process.argv;
if (script === fileURLToPath(import.meta.url)) {
  try {
    if (option === "--check") check();
    else await generate(option === "--sizes");
  } catch (error) {
    console.error(/** @type {Error} */ (error).message);
    process.exitCode = 1;
  }
}

/** @param {boolean} isDry Prints the table only. */
async function generate(isDry) {
  const files = await minified(folder);
  if (!isDry) {
    write(declarations(), SDK);
    rmSync(MINIFIED, { recursive: true, force: true });
    write(files, MINIFIED);
  }
  for (const { name, bytes, gzipBytes } of sizes(files)) {
    console.log(`| \`${name}\` | ${bytes.toLocaleString("en")} | ${gzipBytes.toLocaleString("en")} |`);
  }
}
