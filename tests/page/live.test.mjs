// What happens while the page is open: figures move, wires break, tokens are wanted.

import assert from "node:assert/strict";
import {after, before, test} from "node:test";
import {finish, launch, opened} from "./browser.mjs";
import {later, mesh, T0} from "./fixture.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => finish(browser));

const link = (page, word, timeout = 40_000) => page.waitForSelector(`#connection[data-link=${word}]`, {timeout});

test("a figure moves in its place: focus, scrolling and the cell itself stay", async () => {
  const shown = await opened(browser, {mesh: {nodes: 12}, context: {viewport: {width: 900, height: 600}}});
  const {page, agent} = shown;
  const cell = page.locator("td[data-r='8'][data-c='9']");
  await cell.focus();
  const before = await page.evaluate(() => {
    const box = document.querySelector("#matrix .box");
    window.kept = document.activeElement;
    window.scrolled = [box.scrollLeft, box.scrollTop, Math.round(document.activeElement.getBoundingClientRect().top / 3)];
    window.touched = 0;
    new MutationObserver((all) => { window.touched += all.length; }).observe(document.querySelector("#matrix table"), {subtree: true, childList: true, characterData: true});
    return document.activeElement.textContent;
  });
  const {source, target} = await page.evaluate(() => {
    const [source, target] = document.querySelector("#readout").textContent.split(" (")[0].split(" → ");
    return {source, target};
  });
  agent.tell(later(agent.document, T0 + 1000, (document) => {
    const found = document.cells.find((one) => one.source === source && one.target === target && one.kind === "peer");
    Object.assign(found, {p95_us: 42_400, state: "breach", reason: "jitter"});
  }));
  // The delta above carries a third of the cells; this one names the cell for sure.
  agent.tell({...later(agent.document, T0 + 2000), cells: agent.document.cells.filter((one) => one.source === source)});
  await page.waitForFunction(() => document.activeElement.textContent.includes("42.4"));
  const now = await page.evaluate(() => {
    const box = document.querySelector("#matrix .box");
    return {same: document.activeElement === window.kept, scrolled: [box.scrollLeft, box.scrollTop, Math.round(document.activeElement.getBoundingClientRect().top / 3)], had: window.scrolled, touched: window.touched, text: document.activeElement.innerText, label: document.activeElement.ariaLabel};
  });
  assert.notEqual(before, now.text);
  assert.equal(now.same, true);
  assert.deepEqual(now.scrolled, now.had);
  assert.ok(now.touched < 60, `${now.touched} changes for a handful of figures`);
  assert.match(now.text, /▲\s*42\.4/);
  assert.match(now.label, /42\.4 ms, over budget/);
  assert.equal(await page.locator("#verdict-headline").innerText(), "Over budget");
  assert.match(await page.locator("#readout").innerText(), /over budget \(jitter\)/);
  assert.deepEqual(shown.complaints, []);
  await shown.close();
});

test("somebody new comes and somebody goes, and the focus stays with its cell", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3, relay: false}});
  const {page, agent} = shown;
  await page.locator("td[data-r='2'][data-c='0']").focus();
  const more = mesh({nodes: 5, relay: false});
  const names = new Set(agent.document.agents.map((one) => one.name));
  agent.tell({generated_at: more.generated_at, verdict: more.verdict, agents: more.agents.filter((one) => !names.has(one.name)), targets: more.targets.filter((one) => !names.has(one.name)),
    cells: more.cells, gone: {agents: [], targets: [], cells: []}, events: []});
  await page.waitForFunction(() => document.querySelectorAll("tbody:not(.totals) th[scope=row]").length === 5);
  const held = () => page.evaluate(() => {
    const cell = document.activeElement;
    return [cell.parentNode.querySelector("th").innerText.trim(), document.querySelectorAll("tr.names th")[cell.dataset.c].innerText.trim()];
  });
  assert.deepEqual(await held(), ["coderd-3", "coderd-1"]);
  agent.tell({generated_at: more.generated_at, gone: {agents: ["coderd-2"], targets: [["coderd-2", "peer"]], cells: more.cells.filter((cell) => cell.source === "coderd-2" || cell.target === "coderd-2").map((cell) => [cell.source, cell.target, cell.kind])}});
  await page.waitForFunction(() => document.querySelectorAll("tbody:not(.totals) th[scope=row]").length === 4);
  assert.deepEqual(await held(), ["coderd-3", "coderd-1"]);
  await shown.close();
});

test("only the banner is a live region, and it speaks only when there is news", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}});
  const {page, agent} = shown;
  assert.deepEqual(await page.locator("[aria-live]").evaluateAll((nodes) => nodes.map((node) => [node.id, node.ariaLive])), [["verdict-live", "polite"]]);
  await page.evaluate(() => {
    window.spoken = 0;
    new MutationObserver((all) => { window.spoken += all.length; }).observe(document.querySelector("#verdict-live"), {subtree: true, childList: true, characterData: true});
  });
  for (let second = 1; second <= 3; second += 1) agent.tell(later(agent.document, T0 + second * 1000));
  await page.waitForTimeout(1500);
  assert.equal(await page.evaluate(() => window.spoken), 0);
  await shown.close();
});

test("a new event and a new finding are shown", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}, hash: "#tab=events"});
  const {page, agent} = shown;
  agent.tell({generated_at: new Date(T0 + 1000).toISOString(), events: [{id: "x-1", at: new Date(T0).toISOString(), event: "coder.probe.path.route_changed", severity: "info", body: "the route changed", attributes: {target: "coderd-2"}}],
    findings: [{code: "one_way", severity: "fail", subjects: ["coderd-1"], evidence: "It is reached and reaches nobody", remedy: "Open the port.", vantage: [], news: true, since: null, docs: "docs/findings.md#one_way"}]});
  await page.waitForFunction(() => document.querySelector("#tab-body").textContent.includes("the route changed"));
  assert.match(await page.locator("#attention").innerText(), /one_way It is reached and reaches nobody/);
  await shown.close();
});

test("a quiet stream that still beats is live; when nothing comes for 20 s it is stalled, and all rows are old", {timeout: 120_000}, async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}});
  const {page, agent} = shown;
  const until = Date.now() + 24_000;
  while (Date.now() < until) {
    agent.heartbeat();
    await page.waitForTimeout(4000);
    assert.equal(await page.locator("#connection").getAttribute("data-link"), "live");
  }
  agent.fallSilent();
  await link(page, "stalled");
  assert.match(await page.locator("#connection-words").innerText(), /stalled: nothing came for \d+ s/);
  assert.match(await page.locator("#verdict-headline").innerText(), /Within budget, when last heard/);
  assert.equal(await page.locator("td[data-open]:not([data-look=hatch])").count(), 0);
  agent.isDown = false;
  await page.waitForSelector("#connection[data-link=live], #connection[data-link=polling]", {timeout: 40_000});
  await page.waitForFunction(() => document.querySelectorAll("td[data-look=hatch]").length === 0);
  await shown.close();
});

test("where there is no stream it polls", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}, agent: {streams: false}, wait: false});
  const {page, agent} = shown;
  await link(page, "polling");
  assert.match(await page.locator("#connection-words").innerText(), /live, by polling/);
  later(agent.document, T0 + 1000, (document) => { document.cells.forEach((cell) => { cell.p95_us = 3210; }); });
  await page.waitForFunction(() => document.querySelector("td[data-open]").textContent.includes("3.21"), null, {timeout: 20_000});
  await shown.close();
});

test("a broken stream is taken up again where it was", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}});
  const {page, agent} = shown;
  agent.tell(later(agent.document, T0 + 1000));
  await page.waitForTimeout(200);
  for (const response of agent.open) response.destroy();
  await page.waitForFunction(() => true);
  const begun = Date.now();
  while (agent.open.size === 0 && Date.now() - begun < 20_000) await page.waitForTimeout(100);
  assert.equal(agent.open.size, 1);
  await link(page, "live");
  await shown.close();
});

test("a hidden page pauses, and is live again when it is looked at", {timeout: 60_000}, async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}});
  const {page, agent} = shown;
  const hide = (state) => page.evaluate((value) => {
    Object.defineProperty(document, "visibilityState", {value, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
  }, state);
  await hide("hidden");
  await link(page, "paused");
  await page.waitForTimeout(300);
  assert.equal(agent.open.size, 0);
  await hide("visible");
  await link(page, "live");
  assert.equal(agent.asked.filter(({path}) => path === "/api/v1/stream").length, 2);
  await shown.close();
});

test("a token is asked for, kept in this tab only, and never in the address", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}, agent: {token: "hunter2"}, wait: false});
  const {page, agent} = shown;
  await link(page, "locked");
  assert.equal(await page.locator("#token-field").getAttribute("type"), "password");
  await page.fill("#token-field", "wrong");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#token-hint").textContent.includes("refused"));
  await page.fill("#token-field", "hunter2");
  await page.keyboard.press("Enter");
  await link(page, "live");
  assert.equal(await page.locator("#token").isVisible(), false);
  assert.ok(agent.asked.every(({path}) => !path.includes("hunter2")) && !page.url().includes("hunter2"));
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage)), "{}");
  await page.reload();
  await link(page, "live");
  assert.deepEqual(shown.complaints.filter((words) => !words.includes("401")), []);
  await shown.close();
});

test("an agent that does not answer at all is told in words", {timeout: 60_000}, async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}, agent: {token: null}, wait: false, hash: "#tab=events"});
  shown.agent.fallSilent();
  await shown.page.reload();
  await link(shown.page, "stalled");
  assert.match(await shown.page.locator("#banner").innerText(), /No answer from the agent/);
  await shown.close();
});
