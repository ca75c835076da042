/** The package: its size, its types, the files that npm would publish. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const run = promisify(execFile);
const SDK = fileURLToPath(new URL("../../koko_presence/web/sdk/", import.meta.url));
const BIN = fileURLToPath(new URL("../node_modules/.bin/", import.meta.url));
const manifest = JSON.parse(readFileSync(`${SDK}package.json`, "utf8"));

/** Bytes, minified by terser as webpack does and gzip -9, of a module with its static imports, and of its dynamic ones. */
async function sizes(entry) {
  const { outputFiles } = await build({
    entryPoints: [SDK + entry], bundle: true, splitting: true, minify: entry.endsWith("css"), format: "esm", target: "es2022", platform: "browser",
    write: false, outdir: "/", absWorkingDir: SDK, chunkNames: "[name]",
  });
  const all = await Promise.all(outputFiles.map(async ({ path, text }) => {
    const { code } = path.endsWith("css") ? { code: text } : await minify(text, { module: true });
    return [path.slice(1), gzipSync(code, { level: 9 }).length];
  }));
  return { first: all.filter(([name]) => !name.startsWith("media")), later: all.filter(([name]) => name.startsWith("media")) };
}
const sum = (files) => files.reduce((total, [, bytes]) => total + bytes, 0);

test("the SDK has at most 5,000 bytes, with what it imports; watching together at most 3,200 more, when it is needed", async (t) => {
  const { first, later } = await sizes("presence.js");
  t.diagnostic(`presence.js ${sum(first)} bytes, media.js ${sum(later)} bytes`);
  assert.ok(sum(first) <= 5000, `${JSON.stringify(first)}`);
  assert.ok(later.length === 1 && sum(later) <= 3200, `${JSON.stringify(later)}`);
});

test("the React hooks have at most 1,200 bytes", async (t) => {
  const { first } = await sizes("react.js");
  t.diagnostic(`react.js ${sum(first)} bytes`);
  assert.ok(sum(first) <= 1200, `${JSON.stringify(first)}`);
});

test("the UI kit and its styles have at most 7 KiB together", async (t) => {
  const script = sum((await sizes("ui.js")).first);
  const styles = sum((await sizes("ui.css")).first);
  t.diagnostic(`ui.js ${script} bytes, ui.css ${styles} bytes`);
  assert.ok(script > 0 && styles > 0 && script + styles <= 7 * 1024, `${script} + ${styles}`);
});

test("nothing is imported from elsewhere, and nothing needs a build", () => {
  for (const name of readdirSync(SDK).filter((each) => each.endsWith(".js"))) {
    for (const [, from] of readFileSync(SDK + name, "utf8").matchAll(/(?:from|import\()\s*"([^"]+)"/g)) {
      assert.ok(from.startsWith("./") && existsSync(join(SDK, from)), `${name} imports ${from}`);
    }
  }
});

test("npm would publish the modules, their types, and nothing else", async () => {
  const { stdout } = await run("npm", ["pack", "--dry-run", "--json"], { cwd: SDK });
  const packed = JSON.parse(stdout);
  const names = (Array.isArray(packed) ? packed[0] : Object.values(packed)[0]).files.map(({ path }) => path);
  const expected = readdirSync(SDK, { recursive: true }).filter((name) => /\.(js|css|json|md)$|\.d\.ts$/.test(name));
  assert.deepEqual(names.sort(), expected.sort());
  for (const module of ["presence", "react"]) assert.ok(names.includes(`${module}.js`) && names.includes(`${module}.d.ts`));
});

test("every entry of the package is a file that is there, and the version is the server's", () => {
  const targets = Object.values(manifest.exports).flatMap((target) => (typeof target === "string" ? [target] : Object.values(target)));
  const here = (target) => existsSync(join(SDK, target));
  const ui = targets.filter((target) => target.startsWith("./ui"));
  assert.deepEqual(targets.filter((target) => !ui.includes(target) && !here(target)), []);
  assert.ok(ui.every(here) || !ui.some(here), "the UI kit is there as a whole");
  const version = readFileSync(new URL("../../koko_presence/__init__.py", import.meta.url), "utf8").match(/__version__ = "(.+)"/)[1];
  assert.equal(manifest.version, version);
});

test("the types: every call is accepted, and every mistake is found, by the real compiler", async () => {
  const folder = await mkdtemp(join(tmpdir(), "koko-types-"));
  try {
    await run(`${BIN}tsc`, ["-p", fileURLToPath(new URL("types/tsconfig.json", import.meta.url)), "--outDir", folder]);
  } catch (error) {
    assert.fail(error.stdout || error.message);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("the types name what is really there", async () => {
  const { createPresence } = await import("../../koko_presence/web/sdk/presence.js");
  const { createHooks } = await import("../../koko_presence/web/sdk/react.js");
  const React = (await import("react")).default;
  const members = (file, name) => {
    const [, body] = readFileSync(`${SDK}${file}`, "utf8").match(new RegExp(`^export interface ${name} \\{\\n(.*?)^\\}`, "ms"));
    return new Set([...body.matchAll(/^ {2}(?:readonly )?(\w+)[?(<:]/gm)].map(([, member]) => member));
  };
  const presence = createPresence({ url: "ws://localhost", auth: () => new Promise(() => {}), WebSocket: class {} });
  const room = presence.enter("video_1");
  assert.deepEqual(new Set(Object.keys(room)), members("presence.d.ts", "Room"));
  assert.deepEqual(new Set(Object.keys(presence)), members("presence.d.ts", "Presence"));
  assert.deepEqual(new Set(Object.keys(createHooks(React))), members("react.d.ts", "PresenceHooks"));
  await room.follow(true); // media.js adds the state of watching together
  const known = members("presence.d.ts", "RoomSnapshot");
  for (const key of Object.keys(room.getSnapshot())) assert.ok(known.has(key), `${key} of the snapshot has a type`);
  presence.close();
});
