// Pictures to look at, not to compare: node tests/page/shots.mjs [DIRECTORY]

import {mkdirSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {launch, opened} from "./browser.mjs";

const directory = process.argv[2] ?? join(tmpdir(), "probe-page-shots");
mkdirSync(directory, {recursive: true});
const browser = await launch();
const scenes = [
  ["fine-3", {nodes: 3}], ["loud-3", {nodes: 3, wrong: true}], ["loud-12", {nodes: 12, wrong: true, slow: true, dead: true, starved: true, idle: 2}],
  ["fine-12", {nodes: 12}], ["slow-12", {nodes: 12, slow: true, relay: false}], ["loud-50", {nodes: 50, wrong: true, dead: true}, "#view=all"], ["zones-50", {nodes: 50, wrong: true}],
  ["fine-100", {nodes: 100}, "#view=all"], ["zones-100", {nodes: 100, slow: true}],
  ["panel-12", {nodes: 12, wrong: true, slow: true}, "#source=coderd-1&target=coderd-12&kind=peer"],
  ["panel-db", {nodes: 3, wrong: true}, "#source=coderd-1&target=db-primary.internal%2Fcoder&kind=postgres"],
  ["panel-other", {nodes: 3, wrong: true}, "#source=coderd-2&target=coderd-3&kind=peer"],
  ["empty", {empty: true}], ["alone", {nodes: 1, postgres: false}], ["hostile", {nodes: 5, hostile: true, wrong: true}], ["unknown", {nodes: 3, unknown: true}],
  ["placement", {nodes: 3, wrong: true}, "#tab=placement"], ["agents", {nodes: 12, dead: true, starved: true, idle: 2}, "#tab=agents"], ["events", {nodes: 12, wrong: true, dead: true}, "#tab=events"],
];
for (const [name, options, hash = ""] of scenes) {
  if (process.argv[3] && !name.includes(process.argv[3])) continue;
  for (const theme of ["light", "dark"]) {
    const shown = await opened(browser, {mesh: options, hash, context: {colorScheme: theme, viewport: {width: 1440, height: 900}}});
    await shown.page.waitForTimeout(500);
    await shown.page.screenshot({path: join(directory, `${name}-${theme}.png`), fullPage: !name.includes("panel")});
    if (["loud-3", "panel-12", "loud-12"].includes(name)) {
      await shown.page.setViewportSize({width: 390, height: 844});
      await shown.page.waitForTimeout(200);
      await shown.page.screenshot({path: join(directory, `${name}-${theme}-phone.png`), fullPage: name !== "panel-12"});
    }
    if (shown.complaints.length) console.error(name, theme, shown.complaints);
    await shown.close();
  }
}
await browser.close();
console.log(directory);
