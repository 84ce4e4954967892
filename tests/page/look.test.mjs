// What a reader sees, and what a browser and axe complain about.

import assert from "node:assert/strict";
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {after, before, test} from "node:test";
import {finish, launch, opened} from "./browser.mjs";
import {CSP} from "./server.mjs";
import {HOSTILE} from "./fixture.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let browser;
before(async () => { browser = await launch(); });
after(() => finish(browser));

// Under the page's own policy no script can be added by an element; the browser's evaluation is outside of it.
async function violations(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => window.axe.run(document, {resultTypes: ["violations"]}));
  return found.violations.map(({id, nodes}) => `${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
}

const text = (page, selector) => page.locator(selector).innerText();

test("a mesh that is fine says so, and nothing complains", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3}});
  assert.equal(await text(shown.page, "#verdict-headline"), "Within budget");
  assert.match(await text(shown.page, "#verdict-words"), /All 9 judged paths are within their budget/);
  assert.match(await text(shown.page, "#verdict-since"), /since .* as of /s);
  assert.match(await text(shown.page, "#vantage"), /coderd-1 \(eu-west-1a, ip-10-0-0-20\)/);
  assert.equal(await shown.page.locator("td[data-look=self]").count(), 6, "each agent is itself among peers and relays");
  assert.match(await shown.page.title(), /Within budget/);
  assert.deepEqual(shown.complaints, []);
  await shown.close();
});

test("a replica in the wrong region and a slow link are told within the first screen", async () => {
  for (const viewport of [{width: 1280, height: 800}, {width: 390, height: 844}]) {
    const shown = await opened(browser, {mesh: {nodes: 12, wrong: true, slow: true}, context: {viewport}});
    const seen = await shown.page.evaluate(() => {
      const found = [];
      for (const node of document.querySelectorAll("#banner, .call, .path-line")) {
        if (node.getBoundingClientRect().bottom <= innerHeight) found.push(node.innerText);
      }
      return found.join("\n");
    });
    assert.match(seen, /Over budget/);
    assert.match(seen, /Wrong region: coderd-3 in aws\/us-west-2/);
    assert.match(seen, /coderd-3: all its \d+ judged paths are over budget/);
    assert.match(seen, /over budget\s+coderd-\d+ → coderd-\d+|coderd-\d+ → coderd-\d+/);
    await shown.close();
  }
  const slow = await opened(browser, {mesh: {nodes: 12, slow: true}});
  assert.match(await text(slow.page, ".worst li:first-child"), /over budget\s+coderd-1 → coderd-12\s+echo\s+p95 \d+\.\d ms of 10 ms\s+placement/);
  await slow.close();
});

test("the wrong region is marked in the row's header and in the column's", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3, wrong: true}});
  for (const scope of ["row", "col"]) {
    const marked = await shown.page.locator(`th.is-wrong[scope=${scope}]`).allInnerTexts();
    assert.ok(marked.length > 0 && marked.every((words) => /⚑/.test(words) && /wrong region: aws\/us-west-2/.test(words) && /coderd-3/.test(words)), `${scope}: ${marked}`);
  }
  await shown.close();
});

test("the matrix is a table with a caption, scopes, groups and summaries", async () => {
  const shown = await opened(browser, {mesh: {nodes: 6, dead: true, slow: true}});
  const {page} = shown;
  assert.match(await page.locator("table.grid caption").textContent(), /95th percentile in milliseconds/);
  assert.deepEqual(await page.locator("tr.kinds th[scope=colgroup]").allInnerTexts(), ["Between agents", "PostgreSQL", "Relay"]);
  assert.deepEqual(await page.locator("tr.group th[scope=rowgroup]").allInnerTexts(), ["aws/eu-west-1 · eu-west-1a", "aws/eu-west-1 · eu-west-1b", "aws/eu-west-1 · eu-west-1c"]);
  const signs = await page.evaluate(() => Object.fromEntries([...document.querySelectorAll("td[data-r] i")].map((sign) => [sign.textContent, sign.parentNode.getAttribute("aria-label")])));
  assert.match(signs["×"], /unreachable/);
  assert.match(signs["▲⇄"], /over budget, the other way differs/);
  assert.ok(await page.locator("td[data-look=hatch]").count() > 0, "what the dead agent told is hatched");
  const worst = await page.locator("tbody.totals tr:first-child td").allInnerTexts();
  assert.ok(worst.some((words) => words.includes("×")), "the dead one's column says so");
  await shown.close();
});

test("every figure can be switched, and loss is in percent", async () => {
  const shown = await opened(browser, {mesh: {nodes: 3, slow: true}});
  const {page} = shown;
  const first = () => page.locator("td[data-open]").first().innerText();
  const seen = new Set();
  for (const figure of ["p50", "p95", "p99"]) {
    await page.check(`input[name=quantile][value=${figure}]`, {force: true});
    await page.waitForFunction((word) => document.querySelector("#caption-figure").textContent.includes(word), {p50: "p50", p95: "95th", p99: "99th"}[figure]);
    seen.add(await first());
  }
  assert.equal(seen.size, 3);
  await page.check("input[name=quantile][value=loss]", {force: true});
  await page.waitForFunction(() => document.querySelector("#caption-figure").textContent.includes("percent"));
  assert.match(page.url(), /q=loss/);
  await shown.close();
});

for (const theme of ["light", "dark"]) {
  for (const [name, options, hash] of [
    ["a loud mesh", {nodes: 12, wrong: true, slow: true, dead: true, starved: true, idle: 2}, ""],
    ["an open path", {nodes: 3, wrong: true}, "#source=coderd-1&target=db-primary.internal%2Fcoder&kind=postgres&tab=events"],
    ["placement", {nodes: 3, unknown: true}, "#tab=placement"],
    ["zones", {nodes: 50, wrong: true, dead: true}, "#tab=agents"],
    ["an empty mesh", {empty: true}, ""],
  ]) {
    test(`axe finds nothing in ${name}, ${theme}`, async () => {
      const shown = await opened(browser, {mesh: options, hash, context: {colorScheme: theme, reducedMotion: "reduce"}});
      if (hash.includes("source")) await shown.page.waitForSelector("svg.smoke");
      await shown.page.waitForTimeout(150);
      assert.deepEqual(await violations(shown.page), []);
      assert.deepEqual(shown.complaints, []);
      await shown.close();
    });
  }
}

test("the theme follows the system until it is chosen, and the choice is remembered", async () => {
  const shown = await opened(browser, {context: {colorScheme: "dark"}});
  const {page} = shown;
  const isDark = () => page.evaluate(() => {
    const [red] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
    return red < 128;
  });
  assert.equal(await isDark(), true);
  await page.click("#theme");
  assert.equal(await text(page, "#theme"), "Theme: light");
  assert.equal(await isDark(), false);
  await page.reload();
  await page.waitForSelector("#connection[data-link=live]");
  assert.equal(await isDark(), false);
  await page.click("#theme");
  await page.click("#theme");
  assert.equal(await text(page, "#theme"), "Theme: auto");
  assert.equal(await isDark(), true);
  await shown.close();
});

test("the policy is in force: no inline script, no inline style, nothing from elsewhere", async () => {
  const shown = await opened(browser);
  const {page} = shown;
  const answer = await page.request.get(shown.agent.address);
  assert.equal(answer.headers()["content-security-policy"], CSP);
  const broken = await page.evaluate(async () => {
    const seen = [];
    document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
    const styled = document.createElement("p");
    styled.setAttribute("style", "color: red");
    document.body.append(styled);
    await fetch("http://127.0.0.1:9/").catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 100));
    return {seen, ran: window.ran ?? false};
  });
  assert.equal(broken.ran, false);
  assert.deepEqual(broken.seen.sort(), ["connect-src", "script-src-elem", "style-src-attr"]);
  await shown.close();
});

test("names from the network stay names", async () => {
  const shown = await opened(browser, {mesh: {nodes: 5, hostile: true, wrong: true}, hash: `#tab=findings&source=${encodeURIComponent(HOSTILE[0])}&target=${encodeURIComponent(HOSTILE[1])}&kind=peer`});
  const {page} = shown;
  await page.waitForSelector("svg.smoke");
  for (const tab of ["placement", "agents", "events", "findings"]) {
    await page.click(`#tab-${tab}`);
    await page.waitForTimeout(50);
  }
  assert.equal(await page.evaluate(() => window.hacked ?? null), null);
  assert.equal(await page.locator("img, main script, aside script").count(), 0);
  assert.equal(await page.locator("a[href^=javascript]").count(), 0);
  assert.ok((await page.locator("th.name[scope=row]").allInnerTexts()).some((words) => words.includes(HOSTILE[0])));
  assert.deepEqual(shown.complaints, []);
  await shown.close();
});

test("an empty mesh, one agent, no database, a hundred agents: each looks meant", async () => {
  for (const [options, expected] of [
    [{empty: true}, /No agent has told anything/], [{nodes: 1, postgres: false}, /This agent is alone/],
    [{nodes: 3, postgres: false}, /Between agents/], [{nodes: 100}, /eu-west-1c/],
  ]) {
    const shown = await opened(browser, {mesh: options});
    assert.match(await text(shown.page, "#matrix-body"), expected);
    assert.deepEqual(shown.complaints, []);
    await shown.close();
  }
});

test("with many agents zones come first, and a pair of zones leads to its agents", async () => {
  const shown = await opened(browser, {mesh: {nodes: 50, wrong: true}});
  const {page} = shown;
  assert.equal(await page.locator("input[name=scope][value=zones]").isChecked(), true);
  assert.ok(await page.locator("td[data-r]").count() < 50);
  await page.locator("td[data-r]", {hasText: "▲"}).first().click();
  await page.waitForFunction(() => document.querySelectorAll("th.name[scope=row]").length > 10);
  assert.match(await page.inputValue("#filter"), /eu-west-1a > us-west-2a/);
  assert.match(page.url(), /view=all/);
  await shown.close();
});

test("stale, starved and standby agents are told in words", async () => {
  const shown = await opened(browser, {mesh: {nodes: 12, dead: true, starved: true, idle: 2}, hash: "#tab=agents"});
  const words = await text(shown.page, "#tab-body");
  assert.match(words, /coderd-2\s+… not heard of for 4\d s: its figures are history/);
  assert.match(words, /starved: it gets too little CPU/);
  assert.match(words, /standby: no server beside it/);
  await shown.close();
});

for (const [name, context] of [["a phone", {viewport: {width: 390, height: 844}}], ["200 % zoom", {viewport: {width: 640, height: 400}, deviceScaleFactor: 2}]]) {
  test(`at ${name} only the matrix scrolls sideways, below headers that stay`, async () => {
    for (const hash of ["", "#tab=placement", "#tab=events", "#source=coderd-1&target=coderd-12&kind=peer"]) {
      const shown = await opened(browser, {mesh: {nodes: 12, wrong: true, dead: true}, hash, context});
      const {page} = shown;
      if (hash.includes("source")) await page.waitForSelector("svg.smoke");
      await page.waitForTimeout(100);
      const wide = await page.evaluate(() => [document.documentElement.scrollWidth - innerWidth, document.querySelector("#panel").scrollWidth - document.querySelector("#panel").clientWidth]);
      assert.ok(wide[0] <= 0 && wide[1] <= 0, `${hash}: ${wide}`);
      const stuck = await page.evaluate(() => {
        const box = document.querySelector("#matrix .box");
        box.scrollLeft = 200;
        box.scrollTop = 60;
        const edge = box.getBoundingClientRect();
        const row = document.querySelector("th.name[scope=row]").getBoundingClientRect();
        const head = document.querySelector("thead").getBoundingClientRect();
        return [box.scrollLeft, row.left - edge.left, head.top - edge.top];
      });
      assert.ok(stuck[0] > 0 && Math.abs(stuck[1]) < 3 && Math.abs(stuck[2]) < 3, `${stuck}`);
      await shown.close();
    }
  });
}
