// What stands in which row and column, and what each cell says. No element is made here.

import {bareLoss, bareMs, budgetWords, lossWords, ms, stateOf, step, stepOfLoss} from "./words.js";
import {keyOf} from "./store.js";

// From here on, one row an agent is a wall of figures, and zones are shown first.
export const MANY_AGENTS = 40;
const MANY_IDLE = 10;
const KIND_ORDER = ["peer", "postgres", "tcp", "http", "relay", "nats"];
const byName = new Intl.Collator("en", {numeric: true});

function tally(items) {
  const counts = new Map();
  for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
  return counts;
}

// The region where most replicas of coderd are; of equals the one with the database; of those, nobody knows.
export function homeRegion(store) {
  const replicas = [...store.agents.values()].filter((agent) => agent.role === "coderd" && agent.region);
  const counts = tally(replicas.map((agent) => agent.region));
  const most = Math.max(0, ...counts.values());
  const best = [...counts.keys()].filter((region) => counts.get(region) === most);
  if (best.length === 1) return best[0];
  const databases = [...store.targets.values()].filter((target) => target.role === "postgres");
  return best.find((region) => databases.some((database) => database.region === region)) ?? null;
}

// Replicas and databases outside of it, each with the region where it is.
export function misplaced(store) {
  const home = homeRegion(store);
  const wrong = new Map();
  if (home === null) return wrong;
  for (const one of [...store.agents.values(), ...store.targets.values()]) {
    const counts = one.role === "coderd" || one.role === "postgres";
    if (counts && one.region && one.region !== home) wrong.set(one.name, one.region);
  }
  for (const finding of store.findings) {
    if (finding.code !== "coderd_cross_region") continue;
    for (const name of finding.subjects) {
      const agent = store.agents.get(name);
      if (agent && !agent.region) wrong.set(name, "another region");
    }
  }
  return wrong;
}

// «a > b» filters rows and columns, «> b» columns; a word alone filters rows, or columns where no row has it.
export function readFilter(text) {
  const at = text.indexOf(">");
  const clean = (part) => part.trim().toLowerCase();
  return at < 0 ? {rows: clean(text), columns: "", either: true}
    : {rows: clean(text.slice(0, at)), columns: clean(text.slice(at + 1)), either: false};
}

function matches(line, wanted) {
  if (!wanted) return true;
  return [line.name, line.node, line.zone, line.region, line.role, line.kind]
    .some((word) => word?.toLowerCase().includes(wanted));
}

function filtered(rows, columns, text) {
  const {rows: rowWord, columns: columnWord, either} = readFilter(text);
  const keptRows = rows.filter((row) => matches(row, rowWord));
  if (either && rowWord && keptRows.length === 0) {
    return [rows, columns.filter((column) => matches(column, rowWord))];
  }
  return [keptRows, columns.filter((column) => matches(column, columnWord))];
}

function order(home) {
  const region = (line) => (line.region === home && home ? "0" : line.region ? `1${line.region}` : "2");
  return (a, b) => kindRank(a.kind) - kindRank(b.kind) || byName.compare(a.kind ?? "", b.kind ?? "")
    || byName.compare(region(a), region(b)) || byName.compare(a.zone ?? "~", b.zone ?? "~")
    || byName.compare(a.name, b.name);
}

function kindRank(kind) {
  const rank = KIND_ORDER.indexOf(kind ?? "peer");
  return rank < 0 ? KIND_ORDER.length : rank;
}

export function gridMode(store, view) {
  if (view.view) return view.view;
  return [...store.agents.values()].filter((agent) => !agent.is_idle).length > MANY_AGENTS ? "zones" : "all";
}

function agentLines(store, text) {
  const sources = new Set([...store.cells.values()].map((cell) => cell.source));
  const agents = [...store.agents.values()].filter((agent) => sources.has(agent.name) || !agent.is_idle);
  const idle = agents.filter((agent) => agent.is_idle);
  const word = readFilter(text).rows;
  const hidden = idle.length > MANY_IDLE && idle.length < agents.length
    ? idle.filter((agent) => !word || !matches(agent, word)) : [];
  const shown = agents.filter((agent) => !hidden.includes(agent));
  return {shown, sources, hidden: hidden.length};
}

function pathGrid(store, text) {
  const {shown, sources, hidden} = agentLines(store, text);
  const wrong = misplaced(store);
  const line = (one, kind, id) => ({
    id, kind, name: one.name, node: one.node, zone: one.zone, region: one.region, role: one.role,
    wrong: wrong.get(one.name) ?? null, stale: one.stale ?? false, starved: one.starved ?? false, idle: one.is_idle ?? false,
  });
  const rows = shown.filter((agent) => sources.has(agent.name)).map((agent) => line(agent, undefined, agent.name));
  const columns = new Map();
  const add = (one, kind) => columns.set(`${one.name}\u0000${kind}`, line(one, kind, `${one.name}\u0000${kind}`));
  for (const target of store.targets.values()) add(target, target.kind);
  // Somebody whom nobody measures yet has a column all the same; what is known of agents is more than of targets.
  for (const agent of store.agents.values()) {
    const measured = columns.has(`${agent.name}\u0000peer`);
    if (measured || (sources.has(agent.name) && !agent.is_idle)) add(agent, "peer");
  }
  return {mode: "all", rows, columns: [...columns.values()], hidden};
}

const zoneName = (end) => end.zone ?? "no zone known";
const endKey = (end) => `${end.region ?? ""}\u0000${end.zone ?? ""}`;

function zoneGrid(store) {
  const rows = new Map();
  const columns = new Map();
  const pairs = new Map();
  const line = (end, kind, id) => ({id, kind, name: zoneName(end), zone: end.zone, region: end.region, role: null, wrong: null});
  for (const pair of store.zonePairs) {
    const from = endKey(pair.source);
    const to = `${endKey(pair.target)}\u0000${pair.kind}`;
    rows.set(from, line(pair.source, undefined, from));
    columns.set(to, line(pair.target, pair.kind, to));
    pairs.set(`${from}\u0001${to}`, pair);
  }
  return {mode: "zones", rows: [...rows.values()], columns: [...columns.values()], pairs, hidden: 0};
}

// The slowest p99 of a pair of zones is not told, so it is looked up.
function slowestOf(store, pair) {
  let slowest = null;
  for (const cell of store.cells.values()) {
    if (cell.kind !== pair.kind || cell.p99_us == null) continue;
    const [from, to] = [store.spot(cell.source, "peer"), store.spot(cell.target, cell.kind)];
    if (from && to && endKey(from) === endKey(pair.source) && endKey(to) === endKey(pair.target)) {
      slowest = Math.max(slowest ?? 0, cell.p99_us);
    }
  }
  return slowest;
}

export function buildGrid(store, view) {
  const grid = gridMode(store, view) === "zones" ? zoneGrid(store) : pathGrid(store, view.f);
  const home = homeRegion(store);
  [grid.rows, grid.columns] = filtered(grid.rows, grid.columns, view.f);
  grid.rows.sort((a, b) => Number(a.idle ?? 0) - Number(b.idle ?? 0) || order(home)(a, b));
  grid.columns.sort(order(home));
  grid.home = home;
  return grid;
}

const ABSENT = {text: "·", absent: true, label: "not measured"};

// What a cell of the grid says: {text, mark, band, hatch, lopsided, label, value, rank, counts}.
export function cellAt(store, grid, q, row, column) {
  if (grid.mode === "zones") {
    const pair = grid.pairs.get(`${row.id}\u0001${column.id}`);
    return pair ? sayCell({...pair, p99_us: q === "p99" ? slowestOf(store, pair) : null}, q, store.stalled) : ABSENT;
  }
  if (row.name === column.name) return {text: "–", self: true, label: "itself"};
  const cell = store.cell(row.name, column.name, column.kind);
  return cell ? sayCell(cell, q, store.isStale(cell)) : ABSENT;
}

function figure(cell, q) {
  return q === "loss" ? cell.loss : cell[`${q}_us`];
}

export function sayCell(cell, q, isStale) {
  const state = stateOf(isStale ? "stale" : cell.state);
  const value = figure(cell, q);
  const known = value != null;
  const silent = state === stateOf("unreachable") || state === stateOf("left");
  const isOld = state === stateOf("stale") || state === stateOf("unknown");
  const ratio = cell.budget_us && known && q !== "loss" ? value / cell.budget_us : null;
  const band = !known || isOld || silent || !cell.budget_us ? null : q === "loss" ? stepOfLoss(value) : step(ratio);
  const words = q === "loss" ? lossWords(value) : ms(value);
  const text = silent ? "" : !known ? "?" : q === "loss" ? bareLoss(value) : bareMs(value);
  // Beside a figure within the budget, a state that is not fine still has its sign.
  const mark = cell.budget_us || silent ? state.mark : "";
  const judged = cell.budget_us ? `, ${state.word}` : silent || isOld ? `, ${state.word}` : ", for information";
  const label = `${silent ? "" : words}${judged}${cell.lopsided ? ", the other way differs" : ""}`.replace(/^, /, "");
  return {
    text, mark, band, label, state, value: known ? value : null, hatch: isOld, silent, lopsided: cell.lopsided ?? false,
    counts: Boolean(cell.budget_us) && !isStale, rank: state.rank,
  };
}

// The worst and the median of a row or column, of what is judged; of the rest where nothing is.
export function summary(views) {
  const real = views.filter((view) => !view.self && !view.absent);
  const known = real.filter((view) => !view.hatch && (view.value !== null || view.silent));
  const judged = known.filter((view) => view.counts);
  const of = judged.length ? judged : known.length ? known : real;
  if (of.length === 0) return null;
  const figures = of.filter((view) => view.value !== null).map((view) => view.value).sort((a, b) => a - b);
  const worst = of.reduce((a, b) => (b.rank - a.rank || (b.value ?? -1) - (a.value ?? -1)) > 0 ? b : a);
  return {worst, median: figures.length ? figures[Math.floor((figures.length - 1) / 2)] : null};
}

const severity = (cell) => stateOf(cell.state).rank;
const ratioOf = (cell) => (cell.p95_us ?? 0) / (cell.budget_us || Infinity);

function judgedCells(store) {
  return [...store.cells.values()].filter((cell) => cell.budget_us && !cell.stale);
}

// Judged paths, the worst first.
export function worstPaths(store, most) {
  const judged = judgedCells(store);
  judged.sort((a, b) => severity(b) - severity(a) || ratioOf(b) - ratioOf(a) || byName.compare(keyOf(a), keyOf(b)));
  return most === undefined ? judged : judged.slice(0, most);
}

// Nodes that explain what is bad: most of their own paths are, and three or more. Each bad path counts for one of them.
export function culprits(store) {
  const judged = judgedCells(store);
  const ends = (cells) => tally(cells.flatMap((cell) => [cell.source, cell.target]));
  const all = ends(judged);
  const found = [];
  let bad = judged.filter((cell) => severity(cell) >= 5);
  const allBad = ends(bad);
  for (;;) {
    const [name, count] = [...ends(bad)].reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0]);
    if (count < 3 || count < all.get(name) * 0.6) return found;
    found.push({name, count: allBad.get(name), all: all.get(name)});
    bad = bad.filter((cell) => cell.source !== name && cell.target !== name);
  }
}

export function pathWords(cell, since) {
  const parts = [`p50 ${ms(cell.p50_us)}`, `p95 ${ms(cell.p95_us)}`, `p99 ${ms(cell.p99_us)}`];
  const lost = cell.samples !== undefined ? `${cell.lost} of ${Math.max(cell.samples, cell.lost)} lost` : null;
  const budget = cell.budget_us ? `budget ${budgetWords(cell.budget_us)}` : "for information";
  return [parts.join(", "), budget, lost, since].filter(Boolean).join(" · ");
}
