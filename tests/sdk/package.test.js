/** The package: its types, its imports, the files that npm would publish. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const SDK = fileURLToPath(new URL("../../koko_presence/web/sdk/", import.meta.url));
const BIN = fileURLToPath(new URL("../node_modules/.bin/", import.meta.url));
const manifest = JSON.parse(readFileSync(`${SDK}package.json`, "utf8"));

test("nothing is imported from elsewhere, and nothing needs a build", () => {
  for (const name of readdirSync(SDK, { recursive: true }).filter((each) => each.endsWith(".js"))) {
    const code = readFileSync(SDK + name, "utf8").replaceAll(/\/\*.*?\*\//gs, ""); // JSDoc imports types
    for (const [, from] of code.matchAll(/(?:^(?:import|export|\})[^'"\n]*from|^import|import\()\s*"([^"]+)"/gm)) {
      assert.ok(/^\.\.?\//.test(from) && existsSync(join(SDK, dirname(name), from)), `${name} imports ${from}`);
    }
  }
});

test("no modules import each other, not even for types", () => {
  const imports = new Map();
  for (const name of readdirSync(SDK, { recursive: true }).filter((each) => /(?<!\.d)\.(js|d\.ts)$/.test(each))) {
    const found = readFileSync(SDK + name, "utf8").matchAll(/(?:from\s*|import\()"(\.[^"]+)"/g);
    const module = (path) => (existsSync(SDK + path) ? path : path.replace(/\.js$/, ".d.ts"));
    imports.set(name, [...found].map(([, path]) => module(join(dirname(name), path))));
  }
  assert.ok(imports.get("room.js").includes("media.js") && imports.get("media.js").includes("types.d.ts"));
  const isDone = new Set();
  const visit = (name, path) => {
    assert.ok(!path.includes(name), `${[...path, name].join(" imports ")}`);
    if (isDone.has(name)) return;
    for (const each of imports.get(name) ?? []) visit(each, [...path, name]);
    isDone.add(name);
  };
  for (const name of imports.keys()) visit(name, []);
});

test("the package asks for the React that its documentation names", () => {
  const docs = readFileSync(new URL("../../docs/react.md", import.meta.url), "utf8");
  assert.equal(manifest.peerDependencies.react, `>=${/for React (\d+)/.exec(docs)[1]}`); // an older one has no `use`
});

test("npm would publish the modules, their types, and nothing else", async () => {
  const { stdout } = await run("npm", ["pack", "--dry-run", "--json"], { cwd: SDK });
  const packed = JSON.parse(stdout);
  const names = (Array.isArray(packed) ? packed[0] : Object.values(packed)[0]).files.map(({ path }) => path);
  const expected = readdirSync(SDK, { recursive: true }).filter((name) => /\.(js|css|json|md)$|\.d\.ts$|^LICENSE$/.test(name));
  assert.deepEqual(names.sort(), expected.sort());
  for (const module of ["presence", "react"]) assert.ok(names.includes(`${module}.js`) && names.includes(`${module}.d.ts`));
});

/** A project in which the packed package is installed as npm does it, beside the pinned React, Vue and tRPC. */
async function installed() {
  const folder = await mkdtemp(join(tmpdir(), "koko-installed-"));
  const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder, SDK]);
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }');
  const options = ["--offline", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"];
  await run("npm", ["install", ...options, `./${stdout.trim()}`], { cwd: folder });
  for (const name of readdirSync(join(BIN, "..")).filter((each) => !each.startsWith("."))) {
    await symlink(join(BIN, "..", name), join(folder, "node_modules", name));
  }
  return folder;
}

test("installed into a plain Node project: each entry can be imported, by Node and by the strict compiler", async () => {
  const folder = await installed();
  try {
    await writeFile(join(folder, "main.js"), `
      import { createPresence } from "koko-presence";
      import { createHooks } from "koko-presence/react";
      import { KokoAvatars } from "koko-presence/ui";
      import "koko-presence/ui-react";
      import "koko-presence/ui-vue";
      import "koko-presence/presence-router";
      import manifest from "koko-presence/package.json" with { type: "json" };
      import * as React from "react";
      const room = createPresence({ url: "ws://localhost", auth: () => "token", WebSocket: class {} }).enter("video_1");
      import.meta.resolve("koko-presence/timer.js"); // a script for workers
      console.log(room.id, typeof createHooks(React).useOthers, typeof KokoAvatars, manifest.license);
      process.exit();`);
    assert.equal((await run("node", ["--no-warnings", "main.js"], { cwd: folder })).stdout, "video_1 function function MIT\n");

    await writeFile(join(folder, "main.tsx"), `
      import * as React from "react";
      import { createPresence, type ErrorCode, type Person } from "koko-presence";
      import { createHooks } from "koko-presence/react";
      import type { KokoAvatars } from "koko-presence/ui";
      import type {} from "koko-presence/ui-react";
      import type {} from "koko-presence/ui-vue";
      import type { PresenceRouter } from "koko-presence/presence-router";
      interface Note { type: "note"; text: string }
      const presence = createPresence<{ broadcast: Note }>({ url: "/presence", auth: () => "token" });
      const { RoomProvider, useOthers, useRoom } = createHooks<{ broadcast: Note }>(React);
      const Names = () => <koko-avatars room={useRoom()} title={useOthers((others: readonly Person[]) => others[0]?.name ?? "")} />;
      export const page = <RoomProvider presence={presence} id="video_1"><Names /></RoomProvider>;
      export type Kit = [KokoAvatars, PresenceRouter, ErrorCode];
      // @ts-expect-error no text
      presence.enter("video_1").broadcast({ type: "note" });`);
    for (const [module, moduleResolution] of [["nodenext", "nodenext"], ["esnext", "bundler"]]) {
      const compilerOptions = {
        strict: true, noEmit: true, target: "es2022", module, moduleResolution, jsx: "react-jsx", types: [], skipLibCheck: false,
        lib: ["es2023", "dom", "dom.iterable", "esnext.disposable"], preserveSymlinks: true,
      };
      await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["main.tsx"] }));
      await run(`${BIN}tsc`, ["-p", folder]).catch((error) => assert.fail(`${moduleResolution}: ${error.stdout || error.message}`));
    }
  } finally {
    await rm(folder, { recursive: true });
  }
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
    const [, body] = readFileSync(`${SDK}${file}`, "utf8").match(new RegExp(`^export interface ${name}(?:<[^{]*>)? \\{\\n(.*?)^\\}`, "ms"));
    return new Set([...body.matchAll(/^ {2}(?:readonly )?(\w+)[?(<:]/gm)].map(([, member]) => member));
  };
  const presence = createPresence({ url: "ws://localhost", auth: () => new Promise(() => {}), WebSocket: class {} });
  const room = presence.enter("video_1");
  assert.deepEqual(new Set(Object.keys(room)), members("types.d.ts", "Room"));
  assert.deepEqual(new Set(Object.keys(presence)), members("types.d.ts", "Presence"));
  assert.deepEqual(new Set(Object.keys(createHooks(React))), members("react-types.d.ts", "PresenceHooks"));
  await room.follow(true); // media.js adds the state of watching together
  const known = members("types.d.ts", "RoomSnapshot");
  for (const key of Object.keys(room.getSnapshot())) assert.ok(known.has(key), `${key} of the snapshot has a type`);
  presence.close();
});
