// What one does with the page: by keyboard, by pointer, by link.

import assert from "node:assert/strict";
import {after, before, test} from "node:test";
import {finish, launch, opened} from "./browser.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => finish(browser));

const focused = (page) => page.evaluate(() => {
  const {r, c} = document.activeElement.dataset;
  return r === undefined ? document.activeElement.id || document.activeElement.tagName : `${r},${c}`;
});

test("the grid is one stop of Tab, and arrows walk in it", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3, relay: false}});
  const {page} = shown;
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "0,0");
  for (const [key, expected] of [
    ["ArrowRight", "0,1"], ["ArrowDown", "1,1"], ["End", "1,3"], ["ArrowRight", "1,3"], ["Home", "1,0"], ["ArrowLeft", "1,0"],
    ["Control+End", "2,3"], ["ArrowDown", "2,3"], ["Control+Home", "0,0"], ["PageDown", "2,0"], ["PageUp", "0,0"], ["ArrowUp", "0,0"],
  ]) {
    await page.keyboard.press(key);
    assert.equal(await focused(page), expected, key);
  }
  assert.equal(await page.locator("td[tabindex='0']").count(), 1);
  await page.keyboard.press("Tab");
  assert.doesNotMatch(await focused(page), /^\d/);
  await page.keyboard.press("Shift+Tab");
  assert.equal(await focused(page), "0,0");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid");
  await shown.close();
});

test("the cell in hand is told in words below the matrix", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3, slow: true, relay: false}});
  const {page} = shown;
  await page.locator("td[data-r='0'][data-c='2']").focus();
  assert.match(await page.locator("#readout").innerText(), /coderd-1 → coderd-3 \(echo\): over budget \(placement\) · p50 \S+ ms, p95 \S+ ms, p99 \S+ ms · budget 10 ms · \d of 300 lost · since /);
  await shown.close();
});

test("Enter opens a path, Escape closes it and gives the focus back", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3, slow: true}});
  const {page} = shown;
  await page.locator("td[data-r='0'][data-c='2']").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("svg.smoke");
  assert.equal(await focused(page), "panel-title");
  assert.match(page.url(), /source=coderd-1&target=coderd-3&kind=peer/);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#panel").isVisible(), false);
  assert.equal(await focused(page), "0,2");
  assert.doesNotMatch(page.url(), /source=/);
  await page.goBack();
  await page.waitForSelector("svg.smoke");
  await page.goForward();
  await page.waitForSelector("#panel", {state: "hidden"});
  const line = page.locator(".path-line").first();
  await line.focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("svg.smoke");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.className), "path-line");
  await shown.close();
});

test("the panel tells all there is of an own path", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3, wrong: true}, hash: "#source=coderd-1&target=coderd-3&kind=peer"});
  const {page} = shown;
  await page.waitForSelector("svg.smoke");
  const words = await page.locator("#panel").innerText();
  for (const expected of [/over budget since/, /placement p50/, /aws\/eu-west-1 · eu-west-1a → aws\/us-west-2 · us-west-2a/, /worst p95 .* lost, recorded for 94 % of the time/,
    /coderd-3 → coderd-1\s+echo/, /coderd-1 → coderd-3\s+relay/, /network .* ms · held by the peer/, /probe check --peer 'coderd-3=coderd'/, /coderd-1 → coderd-3 is breach, was ok/]) assert.match(words, expected);
  const chart = await page.locator("svg.smoke").evaluate((svg) => ({
    label: svg.getAttribute("aria-label"), gaps: svg.querySelectorAll(".gap").length, texts: [...svg.querySelectorAll("text")].map((node) => node.textContent),
    lost: svg.querySelector(".lost").getAttribute("d").split("M").length, runs: svg.querySelector(".median").getAttribute("d").split("M").length - 1,
  }));
  assert.match(chart.label, /Round trips over 6 h: median/);
  assert.ok(chart.gaps === 1 && chart.runs >= 2 && chart.lost > 3, JSON.stringify(chart));
  assert.ok(chart.texts.includes("budget 10 ms"));
  const texts = () => page.locator("svg.smoke").evaluate((svg) => [...svg.querySelectorAll("text")].map((node) => node.textContent).join(" "));
  assert.doesNotMatch(await texts(), /Coder's health page/, "it warns about the database only");
  await page.check("input[name=span][value='48h']", {force: true});
  await page.waitForFunction(() => document.querySelector("svg.smoke").getAttribute("aria-label").includes("48 h"));
  assert.match(page.url(), /span=48h/);
  await page.check("input[name=span][value='10m']", {force: true});
  await page.waitForFunction(() => document.querySelector("svg.smoke").getAttribute("aria-label").includes("10 min"));
  await shown.close();
});

test("a path to the database has Coder's own line, and the network apart from the server", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}, hash: "#source=coderd-1&target=db-primary.internal%2Fcoder&kind=postgres"});
  const {page} = shown;
  await page.waitForFunction(() => document.querySelector("svg.smoke")?.textContent.includes("15 ms: Coder's health page warns"));
  assert.match(await page.locator("#panel").innerText(), /network \S+ ms · execution \S+ ms/);
  await shown.close();
});

test("of a path that another agent measures, it says who keeps the history and draws what came in live", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}, hash: "#source=coderd-2&target=coderd-3&kind=peer"});
  await shown.page.waitForSelector("svg.smoke");
  assert.match(await shown.page.locator("#panel").innerText(), /History is kept by the agent that measures: open this path at coderd-2\. Drawn here is what came in since this page was opened/);
  await shown.close();
});

test("a link shows the same view to somebody else", async () => {
  const shown = await opened(browser, {mesh: {nodes: 12}, hash: "#q=p99&f=eu-west-1a+%3E+coderd-5&tab=agents"});
  const {page} = shown;
  assert.equal(await page.locator("input[name=quantile][value=p99]").isChecked(), true);
  assert.deepEqual(await page.locator("th.name[scope=row]").allInnerTexts().then((all) => all.map((words) => words.trim())), ["worst", "median", "coderd-1", "coderd-4", "coderd-7", "coderd-10"]);
  assert.equal(await page.locator("#tab-agents").getAttribute("aria-selected"), "true");
  await page.fill("#filter", "nobody");
  await page.waitForFunction(() => document.querySelector(".empty")?.textContent.includes("Nothing matches «nobody»"));
  assert.match(page.url(), /f=nobody/);
  await shown.close();
});

test("the tabs are walked by arrows", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}});
  const {page} = shown;
  await page.locator("#tab-findings").focus();
  await page.keyboard.press("ArrowRight");
  assert.equal(await focused(page), "tab-placement");
  await page.waitForFunction(() => document.querySelector("#tab-body").textContent.includes("IMDS says aws/eu-west-1 (trust 4) · eu-west-1a"));
  await page.keyboard.press("ArrowLeft");
  assert.equal(await focused(page), "tab-findings");
  await shown.close();
});

test("the view is copied as Markdown, as JSON and as a link", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3, wrong: true}, context: {permissions: ["clipboard-read", "clipboard-write"]}});
  const {page} = shown;
  const copied = async (button) => {
    await page.click(button);
    await page.waitForSelector("#toast:not([hidden])");
    return page.evaluate(() => navigator.clipboard.readText());
  };
  const markdown = await copied("#copy-markdown");
  assert.match(markdown, /^\*\*Over budget\*\*: 5 of 9/);
  assert.match(markdown, /\| from \\ to \| coderd-1 \| coderd-2 \| coderd-3 \|/);
  assert.match(markdown, /coderd-3 ⚑ aws\/us-west-2 \| ▲/);
  assert.match(markdown, /\*\*fail\*\* coderd\\_cross\\_region/);
  const json = JSON.parse(await copied("#copy-json"));
  assert.equal(json.verdict.state, "breach");
  assert.equal(json.cells.length, 15);
  assert.match(await copied("#copy-link"), /^http:\/\/127\.0\.0\.1:\d+\//);
  await page.locator("td[data-r='0'][data-c='2']").click();
  await page.waitForSelector(".command");
  const path = await copied("#copy-markdown");
  assert.match(path, /\| coderd-1 → coderd-3 \| echo \| over budget \(placement\)/);
  assert.match(path, /```sh\nprobe check --peer/);
  assert.equal(JSON.parse(await copied("#copy-json")).path.cell.target, "coderd-3");
  await page.click(".command button");
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^probe check --peer/);
  await shown.close();
});

test("without the clipboard's interface, as over plain http, it copies all the same", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}, context: {permissions: ["clipboard-read"]}});
  const {page} = shown;
  await page.evaluate(() => {
    window.readIt = navigator.clipboard.readText.bind(navigator.clipboard);
    Object.defineProperty(navigator, "clipboard", {value: undefined});
  });
  await page.click("#copy-markdown");
  await page.waitForSelector("#toast:not([hidden])");
  assert.match(await page.locator("#toast").innerText(), /Markdown copied/);
  assert.match(await page.evaluate(() => window.readIt()), /^\*\*Within budget\*\*/);
  await shown.close();
});

test("it works behind a path prefix", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}, agent: {prefix: "/tools/probe/"}, hash: "#source=coderd-1&target=coderd-2&kind=peer"});
  await shown.page.waitForSelector("svg.smoke");
  assert.ok(shown.agent.asked.every(({path}) => path.startsWith("/tools/probe/")), JSON.stringify(shown.agent.asked.map(({path}) => path)));
  assert.deepEqual(shown.complaints, []);
  await shown.close();
});
