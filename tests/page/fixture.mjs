// Meshes to look at: what an agent would tell, made from a seed so that every run sees the same.

export const T0 = Date.now();

function dice(seed) {
  let state = seed >>> 0 || 1;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const iso = (at) => new Date(at).toISOString();
const tenth = (us) => Math.round(us * 10) / 10;

export const HOSTILE = ["<img src=x onerror=\"window.hacked=1\">", "</script><script>window.hacked=1</script>", "a\"b' onfocus=alert(1)", "| [x](javascript:alert(1)) |", "\u202Eevil"];

// Of 100 nodes three zones hold a third each; PostgreSQL has a primary and, from six nodes on, a standby.
function members(count, {wrong, hostile, idle = 0, postgres = true}) {
  const agents = [];
  for (let index = 0; index < count; index += 1) {
    const zone = "abc"[index % 3];
    const isWrong = wrong && index === Math.min(count - 1, 2);
    agents.push({
      name: hostile ? HOSTILE[index % HOSTILE.length] + (index >= HOSTILE.length ? index : "") : `coderd-${index + 1}`, role: "coderd", is_idle: false,
      node: `ip-10-0-${index % 3}-${20 + index}`, zone: isWrong ? "us-west-2a" : `eu-west-1${zone}`, region: isWrong ? "aws/us-west-2" : "aws/eu-west-1",
      placed_by: "IMDS", version: "0.1.0", heard_ago_us: index === 0 ? null : 2_000_000 + index * 1000, stale: false, starved: false, links: count,
    });
  }
  for (let index = 0; index < idle; index += 1) {
    agents.push({...agents[0], name: `worker-${index + 1}`, role: null, is_idle: true, node: `ip-10-0-9-${index + 1}`, zone: "eu-west-1a", heard_ago_us: 1_500_000, links: 0});
  }
  const databases = !postgres ? [] : [{name: "db-primary.internal/coder", role: "postgres", zone: "eu-west-1a"}, ...(count >= 6 ? [{name: "db-standby.internal/coder", role: "standby", zone: "eu-west-1b"}] : [])]
    .map((one) => ({...one, kind: "postgres", node: null, region: "aws/eu-west-1", placed_by: "host name"}));
  return {agents, databases};
}

// options: nodes, wrong (a replica in another region), slow (a link), dead (an agent), lossy, empty, hostile, idle, relay, postgres, seed
export function mesh(options = {}) {
  const {nodes = 3, seed = 7, empty = false, slow = false, dead = false, unknown = false, relay = nodes <= 12} = options;
  const roll = dice(seed);
  const {agents, databases} = members(empty ? 0 : nodes, options);
  const measuring = agents.filter((agent) => !agent.is_idle);
  if (dead && measuring.length > 2) Object.assign(measuring[1], {stale: true, heard_ago_us: 41_000_000});
  if (options.starved && measuring.length > 3) measuring[3].starved = true;
  const cells = [];
  const add = (source, target, kind, role, base, more = {}) => {
    const jitter = 0.85 + roll() * 0.3;
    const p50 = base * jitter;
    const cell = {
      source: source.name, target: target.name, kind, role, state: "ok", reason: "", since: iso(T0 - 7_200_000 - Math.floor(roll() * 3e6)),
      budget_us: kind === "relay" ? null : 10_000, min_us: tenth(p50 * 0.8), p50_us: tenth(p50), p95_us: tenth(p50 * 1.35 + 60), p99_us: tenth(p50 * 1.9 + 150),
      samples: 300, lost: roll() < 0.04 ? 1 : 0, loss: 0, stale: source.stale, lopsided: false, ...more,
    };
    cell.loss = cell.lost / 300;
    if (cell.budget_us && cell.p95_us > cell.budget_us) Object.assign(cell, {state: "breach", reason: "placement", since: iso(T0 - 1_080_000)});
    else if (cell.budget_us && cell.p99_us > cell.budget_us) Object.assign(cell, {state: "at_risk", reason: "tail", since: iso(T0 - 300_000)});
    if (target.stale) Object.assign(cell, {state: "unreachable", reason: "timeout", lost: 300, loss: 1, p50_us: null, p95_us: null, p99_us: null, min_us: null, since: iso(T0 - 41_000)});
    if (unknown) Object.assign(cell, {state: "unknown", p50_us: null, p95_us: null, p99_us: null, min_us: null, samples: 3, lost: 0, loss: null, since: null});
    cells.push(cell);
  };
  const distance = (a, b) => (a.region !== b.region ? 68_000 : a.zone === b.zone ? 240 : 830);
  for (const source of measuring) {
    for (const target of measuring) {
      if (source === target) continue;
      const isSlow = slow && source === measuring[0] && target === measuring.at(-1);
      add(source, target, "peer", "coderd", isSlow ? 19_000 : distance(source, target), isSlow || (slow && target === measuring[0] && source === measuring.at(-1)) ? {lopsided: true} : {});
      if (relay) add(source, target, "relay", "coderd", distance(source, target) * 1.4 + 500);
    }
    for (const database of databases) add(source, database, "postgres", database.role, distance(source, database) + 420);
  }
  cells.sort((a, b) => (a.source < b.source ? -1 : a.source > b.source ? 1 : a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : a.target < b.target ? -1 : 1));
  const targets = new Map();
  for (const cell of cells) {
    const from = agents.find((agent) => agent.name === cell.target) ?? databases.find((database) => database.name === cell.target);
    targets.set(`${cell.target}|${cell.kind}`, {name: cell.target, kind: cell.kind, role: cell.role, node: from.node, zone: from.zone, region: from.region, placed_by: from.placed_by});
  }
  const document = {
    schema_version: 1, version: "0.1.0", generated_at: iso(T0), quantile: 0.95, coder_warns_at_us: 15_000,
    vantage: {agent: agents[0]?.name ?? "probe", node: agents[0]?.node ?? null, zone: agents[0]?.zone ?? null, region: agents[0]?.region ?? null},
    verdict: null, agents, targets: [...targets.values()], cells, zone_pairs: [], findings: findings(measuring, options), events: events(cells, options),
  };
  return judged(document);
}

const RANK = ["ok", "left", "unknown", "stale", "at_risk", "breach", "unreachable"];

// What follows from the cells: the verdict and the pairs of zones.
export function judged(document) {
  const counting = document.cells.filter((cell) => cell.budget_us && !cell.stale);
  const count = (state) => counting.filter((cell) => cell.state === state).length;
  const failing = document.findings.filter((finding) => finding.severity === "fail");
  const worst = counting.reduce((state, cell) => (RANK.indexOf(cell.state) > RANK.indexOf(state) ? cell.state : state), counting.length ? "ok" : "unknown");
  const state = failing.length && RANK.indexOf(worst) < 5 ? "breach" : worst;
  const words = [];
  if (counting.length === 0) words.push("Nothing is judged yet");
  else if (count("ok") === counting.length) words.push(`All ${counting.length} judged paths are within their budget`);
  for (const [name, said] of [["breach", "over their budget"], ["unreachable", "without an answer"], ["at_risk", "close to their budget"], ["unknown", "not known yet"]]) {
    if (count(name)) words.push(`${count(name)} of ${counting.length} judged paths are ${said}`);
  }
  words.push(...failing.slice(0, 1).map((finding) => finding.evidence));
  const oldest = counting.filter((cell) => cell.state === state && cell.since).map((cell) => cell.since).sort()[0] ?? null;
  document.verdict = {state, since: oldest, words: `${words.join(". ")}.`};
  const pairs = new Map();
  const at = (name, kind) => {
    const found = document.agents.find((agent) => agent.name === name) ?? document.targets.find((target) => target.name === name && target.kind === kind);
    return {zone: found?.zone ?? null, region: found?.region ?? null};
  };
  const spots = new Map();
  const spot = (name, kind) => spots.get(name + kind) ?? spots.set(name + kind, at(name, kind)).get(name + kind);
  for (const cell of document.cells) {
    const [source, target] = [spot(cell.source, "peer"), spot(cell.target, cell.kind)];
    const key = JSON.stringify([source, target, cell.kind]);
    const pair = pairs.get(key) ?? pairs.set(key, {source, target, kind: cell.kind, paths: 0, state: "ok", budget_us: cell.budget_us, p50_us: null, p95_us: null, loss: null}).get(key);
    pair.paths += 1;
    if (RANK.indexOf(cell.state) > RANK.indexOf(pair.state)) pair.state = cell.state;
    for (const name of ["p50_us", "p95_us", "loss"]) if (cell[name] !== null) pair[name] = Math.max(pair[name] ?? 0, cell[name]);
  }
  document.zone_pairs = [...pairs.values()];
  return document;
}

function findings(agents, {wrong, hostile}) {
  const found = [];
  const vantage = agents[0] ? [{agent: agents[0].name, host: agents[0].name, node: agents[0].node}] : [];
  if (wrong) {
    const away = agents.filter((agent) => agent.region === "aws/us-west-2").map((agent) => agent.name);
    found.push({code: "coderd_cross_region", severity: "fail", subjects: away, evidence: `aws/eu-west-1: ${agents.length - 1} replicas; aws/us-west-2: ${away.join(", ")}. Both are labelled, and light needs 55 ms`,
      remedy: "Run all replicas of coderd in one region.", vantage, news: true, since: iso(T0 - 1_080_000), docs: "docs/findings.md#coderd_cross_region"});
  }
  if (agents.length > 0) {
    found.push({code: "no_zone_spread", severity: "info", subjects: [], evidence: "Nothing spreads the replicas of coderd over the zones of their region", remedy: "Spread coderd over the zones of its region with a topology spread constraint.",
      vantage, news: true, since: iso(T0 - 86_400_000), docs: "https://example.com/docs/findings.md#no_zone_spread"});
    found.push({code: "health_threshold", severity: "warning", subjects: hostile ? [HOSTILE[0]] : ["coder.example.com"], evidence: "Coder's health page warns from 15 ms on, the budget is 10 ms", remedy: "Set CODER_HEALTH_CHECK_THRESHOLD_DATABASE to the budget.",
      vantage, news: true, since: iso(T0 - 86_400_000), docs: hostile ? "javascript:window.hacked=1" : "docs/findings.md#health_threshold"});
  }
  return found;
}

function events(cells, {hostile}) {
  const bad = cells.filter((cell) => cell.state !== "ok" && cell.since).slice(0, 12);
  const told = bad.map((cell, index) => ({
    id: `6f1c-${100 - index}`, at: cell.since, event: "coder.probe.path.state_changed", severity: cell.state === "at_risk" ? "warn" : "error", body: `${cell.source} → ${cell.target} is ${cell.state}, was ok: p50 30.5 ms of 300 round trips`,
    attributes: {source: cell.source, target: cell.target, target_kind: cell.kind, from: "ok", to: cell.state, reason: cell.reason, evidence: `${cell.reason}: p50 30.5 ms of 300 round trips`},
  }));
  told.push({id: "6f1c-1", at: iso(T0 - 86_000_000), event: "coder.probe.agent.started", severity: "info", body: hostile ? HOSTILE[1] : "agent started", attributes: {version: "0.1.0", targets: 4}});
  return told;
}

export function placement(document) {
  const all = [...document.agents, ...document.targets.filter((target) => target.kind === "postgres")];
  return {schema_version: 1, generated_at: document.generated_at, findings: document.findings, placed: all.map((one) => ({
    name: one.name, role: one.role, is_agent: "links" in one, node: one.node, zone: one.zone, region: one.region, stance: "agrees",
    sources: [{source: "IMDS", region: one.region, zone: one.zone, confidence: 4, says: `IMDS says ${one.region} (trust 4)`}, {source: "node label", region: one.region, zone: one.zone, confidence: 3, says: `node label says ${one.region} (trust 3)`}],
  }))};
}

// hours of one bin each ten seconds, or two minutes beyond six hours; a gap, a stretch of losses and a slow hour in it.
export function history(cell, hours, now, widthMs = hours > 8 ? 120_000 : 10_000) {
  const roll = dice(hours * 31 + 5);
  const count = Math.floor(hours * 3_600_000 / widthMs);
  const bins = [];
  for (let index = 0; index < count; index += 1) {
    const share = index / count;
    if (share > 0.3 && share < 0.36) continue;
    const isLost = share > 0.6 && share < 0.606;
    const base = (cell.p50_us ?? 800) * (share > 0.7 && share < 0.78 ? 3.2 : 1) * (0.9 + 0.2 * roll());
    const lost = isLost ? 10 : roll() < 0.01 ? 1 : 0;
    const figures = isLost ? [null, null, null, null] : [base * 0.8, base, base * (1.3 + roll() * 0.3), base * (1.6 + roll() * 2)].map(tenth);
    bins.push([index * widthMs * 1000, ...figures, 10, lost]);
  }
  return {width_us: widthMs * 1000, begin: iso(now - hours * 3_600_000), bins};
}

export function pathDocument(document, {source, target, kind, span}, hours = span === "48h" ? 48 : 6) {
  const find = (from, to, by) => document.cells.find((cell) => cell.source === from && cell.target === to && cell.kind === by) ?? null;
  const cell = find(source, target, kind);
  if (!cell) return null;
  const isOurs = source === document.vantage.agent;
  const spread = (base) => base && {min: tenth(base * 0.8), p50: tenth(base), p95: tenth(base * 1.4), p99: tenth(base * 2), max: tenth(base * 3)};
  const now = Date.parse(document.generated_at);
  return {
    schema_version: 1, generated_at: document.generated_at, measured_here: isOurs, cell, back: find(target, source, kind),
    beside: ["peer", "relay", "tcp"].filter((other) => other !== kind).flatMap((other) => [find(source, target, other), find(target, source, other)]).filter(Boolean),
    detail: !isOurs ? null : {
      rtt_us: spread(cell.p50_us), network_us: spread(cell.p50_us && cell.p50_us * (kind === "postgres" ? 0.6 : 0.95)), execution_us: kind === "postgres" ? spread(cell.p50_us && cell.p50_us * 0.4) : null,
      hold_us: kind === "peer" ? spread(cell.p50_us && cell.p50_us * 0.05) : null, hour_us: cell.p50_us && {p50: cell.p50_us, p95: cell.p95_us}, floor_us: cell.min_us, connects: [],
      findings: cell.state === "ok" ? [] : [{reason: cell.reason, evidence: `${cell.reason}: p50 ${(cell.p50_us / 1000).toFixed(1)} ms of 300 round trips since it began`}],
      bare_connects_us: kind === "postgres" ? {count: 12, min: 500, p50: 610} : null, split_us: null, server: null, tcp_terminator_suspected: false,
    },
    history: isOurs ? history(cell, hours, now) : null,
    events: document.events.filter((event) => event.attributes.source === source && event.attributes.target === target),
    command: kind === "postgres" ? "probe check --postgres-url-file url.txt" : `probe check --peer '${target.replaceAll("'", "")}=coderd'`,
  };
}

// One second later: some figures have moved.
export function later(document, at, change = () => {}) {
  const cells = document.cells.filter((cell, index) => index % 3 === 0 && cell.p50_us !== null);
  for (const cell of cells) cell.p50_us = tenth(cell.p50_us * 1.002);
  change(document);
  document.generated_at = iso(at);
  judged(document);
  return {generated_at: document.generated_at, verdict: document.verdict, agents: [], targets: [], cells, gone: {agents: [], targets: [], cells: []}, events: []};
}
