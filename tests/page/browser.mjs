// One Chromium for all tests of a file, a page for each.

import {accessSync, constants} from "node:fs";
import {delimiter, join} from "node:path";
import {chromium} from "playwright-core";
import {Agent} from "./server.mjs";
import {mesh} from "./fixture.mjs";

export function chromiumPath() {
  for (const directory of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
      try {
        accessSync(join(directory, name), constants.X_OK);
        return join(directory, name);
      } catch { /* the next one */ }
    }
  }
  throw new Error("no chromium on PATH: bash tests/run.sh installs it");
}

export function launch() {
  return chromium.launch({executablePath: chromiumPath(), args: ["--no-sandbox", "--disable-dev-shm-usage"]});
}

const running = new Set();

// Also what a failed test left open: a listening agent would keep the run alive for ever.
export async function finish(browser) {
  await browser.close();
  await Promise.all([...running].map((agent) => agent.stop()));
}

// A page of a mesh. Whatever the browser complains about is in `complaints`.
export async function opened(browser, {mesh: options = {}, agent: how = {}, hash = "", context: look = {}, wait = true} = {}) {
  const agent = await new Agent(mesh(options), how).start();
  running.add(agent);
  const context = await browser.newContext({viewport: {width: 1280, height: 800}, ...look});
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => { if (message.type() === "error" || message.type() === "warning") complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(agent.address + hash);
  if (wait) await page.waitForSelector("#connection[data-link=live]");
  return {agent, context, page, complaints, close: async () => {
    await context.close();
    await agent.stop();
    running.delete(agent);
  }};
}
