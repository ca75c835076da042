/** What `make generate` makes of the SDK is up to date, and its sizes are those of docs/sdk.md. */

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { MINIFIED, declarations, differences, minified, sizes } from "../../koko_presence/protocol/generate/sdk.mjs";

const SDK = fileURLToPath(new URL("../../koko_presence/web/sdk/", import.meta.url));
const DOCS = readFileSync(new URL("../../docs/sdk.md", import.meta.url), "utf8");
const TOLERANCE = 0.02;

test("the declarations of the SDK are those of its JSDoc: else run make generate", () => {
  const made = declarations();
  assert.ok(["presence.d.ts", "react.d.ts", "ui.d.ts"].every((name) => made.has(name)));
  assert.deepEqual(differences(made, SDK), [], "run make generate");
  const ofModules = readdirSync(SDK, { recursive: true })
    .filter((name) => name.endsWith(".d.ts") && existsSync(SDK + name.replace(".d.ts", ".js")));
  assert.deepEqual(ofModules.sort(), [...made.keys()].sort(), "run make generate, and delete the declarations of modules that are gone");
});

test("what production serves of the SDK is made of its sources: else run make generate", async () => {
  const made = await minified();
  assert.deepEqual(differences(made, MINIFIED), [], "run make generate");
  const files = readdirSync(MINIFIED, { recursive: true }).filter((name) => name.endsWith(".js"));
  assert.deepEqual(files.sort(), [...made.keys()].sort(), "run make generate");
  assert.ok(["presence.js", "media.js", "react.js", "ui.js", "ui/de.js", "timer.js"].every((name) => made.has(name)));
});

test("the table of sizes in docs/sdk.md is true", async () => {
  const rows = [...DOCS.matchAll(/^\| `([\w./-]+)` \| ([\d,]+) \| ([\d,]+) \|/gm)];
  const documented = new Map(rows.map(([, name, ...numbers]) => [name, numbers.map((number) => Number(number.replace(",", "")))]));
  const measured = sizes(await minified());
  assert.deepEqual([...documented.keys()].sort(), measured.map(({ name }) => name).sort());
  for (const { name, bytes, gzipBytes } of measured) {
    const [documentedBytes, documentedGzip] = documented.get(name);
    for (const [is, says] of [[bytes, documentedBytes], [gzipBytes, documentedGzip]]) {
      assert.ok(Math.abs(is / says - 1) <= TOLERANCE, `${name} has ${bytes} bytes, ${gzipBytes} with gzip: correct the table`);
    }
  }
});
