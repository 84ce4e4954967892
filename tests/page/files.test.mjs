// The files themselves: small, without strangers, and ready to be put into one.

import assert from "node:assert/strict";
import {readFileSync, readdirSync} from "node:fs";
import test from "node:test";
import {PAGE} from "./server.mjs";
import {moduleNames, oneModule} from "./inline.mjs";
import {mesh} from "./fixture.mjs";
import {load} from "./modules.mjs";

const {EventReader} = await load("feed.js");
const {bareLoss, bareMs, budgetWords, span, step, stepOfLoss} = await load("words.js");
const {readHash, writeHash} = await load("route.js");
const {readFilter, sayCell, summary} = await load("shape.js");
const {figureWords, chartFigures, slotsOf, trailHistory} = await load("chart.js");
const {Store} = await load("store.js");

const names = readdirSync(PAGE);
const read = (name) => readFileSync(PAGE + name, "utf8");
const modules = names.filter((name) => name.endsWith(".js"));

test("the whole page is small", (context) => {
  const bytes = names.reduce((sum, name) => sum + readFileSync(PAGE + name).length, 0);
  context.diagnostic(`${bytes} bytes in ${names.length} files`);
  assert.ok(bytes <= 112_640, `${bytes} bytes`);
});

test("no file is longer than 400 lines", () => {
  for (const name of names) assert.ok(read(name).split("\n").length <= 401, name);
});

test("every module is listed once, and what starts the page last", () => {
  const listed = moduleNames();
  assert.deepEqual([...listed].sort(), [...modules].sort());
  assert.equal(listed.at(-1), "probe.js");
  for (const name of listed) {
    for (const [, from] of read(name).matchAll(/^import \{[^}]*\} from "\.\/([a-z]+\.js)";$/gm)) assert.ok(listed.includes(from), `${name} imports ${from}`);
  }
});

test("imports and exports are of the one form that can be taken off line by line", () => {
  for (const name of modules) {
    for (const line of read(name).split("\n")) {
      if (/^\s*import\b/.test(line)) assert.match(line, /^import \{[\w, ]+\} from "\.\/[a-z]+\.js";$/, `${name}: ${line}`);
      if (/^\s*export\b/.test(line)) assert.match(line, /^export (async function|function|const|class) /, `${name}: ${line}`);
      assert.doesNotMatch(line, /\bimport\(|\bexport default\b|\bas \w+ *[,}].*from/, `${name}: ${line}`);
    }
  }
});

test("no two modules use one name at their top, so all of them make one valid module", () => {
  const seen = new Map();
  for (const name of modules) {
    for (const [, word] of read(name).matchAll(/^(?:export )?(?:async )?(?:function|const|let|class) ([\w$]+)/gm)) {
      assert.ok(!seen.has(word), `${word} is in ${seen.get(word)} and in ${name}`);
      seen.set(word, name);
    }
    for (const [, word] of read(name).matchAll(/^(?:export )?const \{([^}]*)\} =/gm)) assert.fail(`${name}: ${word}`);
  }
  const text = oneModule();
  assert.doesNotMatch(text, /^\s*(import|export)\b/m);
  assert.doesNotMatch(text, /<\/script|<!--/i, "it would end the element that holds it");
  assert.doesNotThrow(() => new Function(text.replaceAll("import.meta", "({})")));
});

test("nothing comes from elsewhere and nothing is made of markup", () => {
  for (const name of [...modules, "index.html", "probe.css"]) {
    const text = read(name);
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|setAttribute\("style"/, name);
    assert.doesNotMatch(text.replaceAll("http://www.w3.org/2000/svg", ""), /https?:\/\/(?!\))[a-z]/i, name);
    assert.doesNotMatch(text, /(href|src|fetch\(|getJson\()=?["'`]\//, `${name} has an address that breaks behind a prefix`);
  }
  assert.doesNotMatch(read("index.html"), /\sstyle=|\son[a-z]+=/);
});

test("figures have at most three digits, and unknown is never zero", () => {
  assert.deepEqual([0, 4, 240, 9_994, 9_996, 23_440, 99_960, 142_300].map(bareMs), ["<0.01", "<0.01", "0.24", "9.99", "10.0", "23.4", "100", "142"]);
  assert.equal(bareMs(null), "?");
  assert.deepEqual([null, 0, 0.0003, 0.0333, 0.5].map(bareLoss), ["?", "0", "<0.1", "3.3", "50"]);
  assert.deepEqual([10_000, 2_500, null].map(budgetWords), ["10 ms", "2.5 ms", "no budget"]);
  assert.deepEqual([0, 99_000, 3_600_000, 172_800_000, 600_000_000].map(span), ["0 s", "99 s", "60 min", "48 h", "7 days"]);
});

test("the scale is of the ratio to the budget", () => {
  assert.deepEqual([0.1, 0.11, 0.5, 0.8, 1, 1.01, 2.1, 5.1].map(step), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(stepOfLoss(0), 0);
  assert.equal(stepOfLoss(0.06), 5);
});

test("a cell that is unknown, old or silent has no colour of the scale", () => {
  const cell = {state: "ok", budget_us: 10_000, p95_us: 2000, loss: 0};
  assert.equal(sayCell(cell, "p95", false).band, 1);
  assert.equal(sayCell(cell, "p95", true).band, null);
  assert.equal(sayCell({...cell, state: "unreachable", p95_us: null}, "p95", false).mark, "×");
  assert.equal(sayCell({...cell, p95_us: null}, "p95", false).text, "?");
  assert.equal(sayCell({...cell, budget_us: null}, "p95", false).band, null);
});

test("the worst of a row is what is judged, and silence is worse than slowness", () => {
  const say = (state, p95) => sayCell({state, budget_us: 10_000, p95_us: p95, loss: 0}, "p95", false);
  const found = summary([say("ok", 1000), say("breach", 90_000), say("unreachable", null), {self: true}]);
  assert.equal(found.worst.mark, "×");
  assert.equal(found.median, 1000);
  assert.equal(summary([{self: true}, {absent: true}]), null);
});

test("the view survives the address, and nonsense in it is left out", () => {
  const view = {...readHash(""), q: "loss", f: "eu-west > db & co", source: "a#b", target: "c=d", kind: "peer", span: "48h", tab: "events"};
  assert.deepEqual(readHash(writeHash(view)), view);
  assert.deepEqual(readHash("#q=p42&tab=evil&span=1y&x=1"), readHash(""));
  assert.equal(writeHash(readHash("")), "#");
});

test("a filter is for rows, for columns or for both", () => {
  assert.deepEqual(readFilter("Eu "), {rows: "eu", columns: "", either: true});
  assert.deepEqual(readFilter("a > B"), {rows: "a", columns: "b", either: false});
});

test("events are read in whatever pieces they come", () => {
  const text = ": hello\n\nid: 4\nevent: delta\ndata: {\"a\":\ndata: 1}\n\nevent: delta\r\ndata:x\r\n\r\nevent: lost\n\n";
  for (const size of [1, 2, 3, 7, 1000]) {
    const seen = [];
    const reader = new EventReader((...event) => seen.push(event));
    for (let at = 0; at < text.length; at += size) reader.push(text.slice(at, at + size));
    assert.deepEqual(seen, [["delta", "{\"a\":\n1}", "4"], ["delta", "x", "4"]], `in pieces of ${size}`);
  }
});

test("a delta changes what it names and takes away what is gone", () => {
  const store = new Store();
  const document = mesh({nodes: 3});
  store.takeSnapshot(document);
  const {shape} = store;
  const cell = {...document.cells[0], p95_us: 1};
  store.takeDelta({generated_at: document.generated_at, cells: [cell], agents: [], events: [{id: "new", at: document.generated_at}]});
  assert.equal(store.cell(cell.source, cell.target, cell.kind).p95_us, 1);
  assert.equal(store.shape, shape, "a figure is no new row");
  assert.equal(store.events[0].id, "new");
  store.takeDelta({generated_at: document.generated_at, gone: {agents: ["coderd-3"], targets: [], cells: [[cell.source, cell.target, cell.kind]]}});
  assert.equal(store.cell(cell.source, cell.target, cell.kind), undefined);
  assert.equal(store.agents.has("coderd-3"), false);
  assert.ok(store.shape > shape);
});

test("what was not recorded is a gap in the chart, and what was lost is counted", () => {
  const bins = [[0, 1, 2, 3, 4, 10, 0], [10e6, null, null, null, null, 10, 10], [40e6, 2, 3, 4, 5, 10, 1]];
  const made = slotsOf({begin: 0, width: 10_000, bins}, 0, 60_000);
  assert.equal(made.slots.length, 3);
  const figures = chartFigures(made, 60_000);
  assert.equal(figures.lost, 11);
  assert.equal(figures.covered, 0.5);
  assert.match(figureWords(figures, 60_000), /11 of 30 lost, recorded for 50 % of the time/);
  assert.match(figureWords(chartFigures(slotsOf({begin: 0, width: 10_000, bins: []}, 0, 60_000), 60_000), 0), /Nothing was recorded/);
});

test("many bins become as many slots as there is room, and keep their extremes", () => {
  const bins = Array.from({length: 17_280}, (_, index) => [index * 10e6, 100, 200, index === 9000 ? 9999 : 300, 400, 10, 0]);
  const {slots} = slotsOf({begin: 0, width: 10_000, bins}, 0, 172_800_000);
  assert.ok(slots.length <= 561, `${slots.length}`);
  assert.equal(Math.max(...slots.map((slot) => slot.p95)), 9999);
});

test("while nothing is heard, the live chart draws nothing", () => {
  const trail = [[0, 1, 2, 3, 4, 0, "ok"], [26_000, 1, 2, 3, 4, 0, "stale"]];
  const offsets = trailHistory(trail, [{from: 10_000, to: 20_000}], 0, 40_000).bins.map(([offset]) => offset / 1e6);
  assert.deepEqual(offsets, [0, 5, 20]);
});
