// The picture of the README, from the demo's own page: node tests/page/readme.mjs [PROBE] [PNG]

import {spawn} from "node:child_process";
import {createInterface} from "node:readline";
import {launch} from "./browser.mjs";

const probe = process.argv[2] ?? "target/release/probe";
const picture = process.argv[3] ?? "docs/page.png";
const demo = spawn(probe, ["demo", "--story", "slow-link", "--for", "5m"], {stdio: ["ignore", "ignore", "pipe"]});
const browser = await launch();
try {
  const page = await browser.newPage({viewport: {width: 1280, height: 1000}, colorScheme: "light"});
  for await (const line of createInterface({input: demo.stderr})) {
    console.log(line);
    const url = line.match(/http:\/\/127\.0\.0\.1:\d+\//);
    // From the beginning, so that all of the story is in the page's own trail.
    if (url && page.url() === "about:blank") await page.goto(url[0]);
    if (/12 ms slower; .*found after/.test(line)) break;
  }
  await page.waitForTimeout(2500);
  await page.screenshot({path: picture});
} finally {
  await browser.close();
  demo.kill("SIGINT");
}
