// The page's modules for tests without a browser: older Node takes a .js file for a module only where a package.json says so.

import {cpSync, mkdtempSync, rmSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {pathToFileURL} from "node:url";
import {PAGE} from "./server.mjs";

const directory = mkdtempSync(join(tmpdir(), "probe-page-"));
cpSync(PAGE, directory, {recursive: true});
writeFileSync(join(directory, "package.json"), '{"type": "module"}');
process.on("exit", () => rmSync(directory, {recursive: true, force: true}));

export function load(name) {
  return import(pathToFileURL(join(directory, name)).href);
}
