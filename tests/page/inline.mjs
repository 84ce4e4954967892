// The page as one file, as `probe report -o html` makes it: modules one after the other, styles and data inside, no request.

import {createHash} from "node:crypto";
import {readFileSync} from "node:fs";
import {PAGE} from "./server.mjs";

const read = (name) => readFileSync(PAGE + name, "utf8");

export function moduleNames() {
  return read("modules.txt").trim().split("\n");
}

// Imports go, `export` goes, and what is left is one module.
export function oneModule() {
  return moduleNames().map((name) => read(name).split("\n")
    .filter((line) => !line.startsWith("import "))
    .map((line) => line.replace(/^export /, "")).join("\n")).join("\n");
}

export function reportFile(data) {
  const script = `\n${oneModule()}\n`;
  const style = `\n${read("probe.css")}\n`;
  const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  const policy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; img-src data:; base-uri 'none'; form-action 'none'`;
  const json = JSON.stringify(data).replaceAll("<", "\\u003c");
  return read("index.html")
    .replace(/<meta charset[^>]*>/, (found) => `${found}\n<meta http-equiv="Content-Security-Policy" content="${policy}">`)
    .replace(/<link rel="stylesheet"[^>]*>/, () => `<style>${style}</style>`)
    .replace(/<script type="module"[^>]*><\/script>/, () => `<script id="probe-data" type="application/json">${json}</script>\n<script type="module">${script}</script>`);
}
