// What the agent told, by name, and what came in since the page was opened.

export const STALLED_AFTER_MS = 20_000;
const EVENTS_KEPT = 200;
const TRAIL_MS = 600_000;

export function cellKey(source, target, kind) {
  return `${source}\u0000${target}\u0000${kind}`;
}

export function keyOf(cell) {
  return cellKey(cell.source, cell.target, cell.kind);
}

const targetKey = (name, kind) => `${name}\u0000${kind}`;

// What decides where a row or column stands and how its header reads.
const SHAPE = ["role", "zone", "region", "node", "is_idle", "stale", "starved"];

export class Store {
  meta = null;
  verdict = null;
  agents = new Map();
  targets = new Map();
  cells = new Map();
  zonePairs = [];
  findings = [];
  events = [];
  placement = null;
  // Counts up whenever rows or columns are others than before.
  shape = 0;
  changed = new Set();
  trails = new Map();
  breaks = [];
  skew = 0;
  stalled = false;
  openedAt = null;

  // The agent's time: the reader's clock may be wrong.
  now() {
    return Date.now() + this.skew;
  }

  #clock(generatedAt) {
    const at = Date.parse(generatedAt);
    if (!Number.isFinite(at)) return;
    this.skew = at - Date.now();
    this.at = at;
    this.openedAt ??= at;
  }

  #agent(agent) {
    const before = this.agents.get(agent.name);
    if (!before || SHAPE.some((word) => before[word] !== agent[word])) this.shape += 1;
    this.agents.set(agent.name, {...agent, told_at: this.at});
  }

  #target(target) {
    const key = targetKey(target.name, target.kind);
    const before = this.targets.get(key);
    if (!before || SHAPE.some((word) => before[word] !== target[word])) this.shape += 1;
    this.targets.set(key, target);
  }

  #cell(cell) {
    const key = keyOf(cell);
    if (!this.cells.has(key)) this.shape += 1;
    this.cells.set(key, cell);
    this.changed.add(key);
    this.#trail(key, cell);
  }

  // Ten minutes of each cell; of a large mesh, fewer points.
  #trail(key, cell) {
    const every = this.cells.size > 2500 ? 15_000 : 5_000;
    let trail = this.trails.get(key);
    if (!trail) this.trails.set(key, trail = []);
    const last = trail.at(-1);
    const state = cell.stale ? "stale" : cell.state;
    if (last && this.at - last[0] < every && last[6] === state) return;
    trail.push([this.at, cell.min_us, cell.p50_us, cell.p95_us, cell.p99_us, cell.lost, state]);
    while (trail.length > 2 && trail[1][0] < this.at - TRAIL_MS) trail.shift();
  }

  takeSnapshot(document) {
    const {agents = [], targets = [], cells = [], zone_pairs, findings, events, verdict, ...meta} = document;
    this.meta = meta;
    this.#clock(meta.generated_at);
    this.verdict = verdict;
    this.#keepOnly(this.agents, new Set(agents.map((agent) => agent.name)));
    this.#keepOnly(this.targets, new Set(targets.map((target) => targetKey(target.name, target.kind))));
    this.#keepOnly(this.cells, new Set(cells.map(keyOf)));
    agents.forEach((agent) => this.#agent(agent));
    targets.forEach((target) => this.#target(target));
    cells.forEach((cell) => this.#cell(cell));
    this.zonePairs = zone_pairs ?? [];
    if (findings) this.findings = findings;
    if (events) this.events = events.slice(0, EVENTS_KEPT);
  }

  #keepOnly(map, names) {
    for (const key of [...map.keys()]) {
      if (!names.has(key)) this.#drop(map, key);
    }
  }

  #drop(map, key) {
    if (!map.delete(key)) return;
    this.shape += 1;
    if (map === this.cells) this.trails.delete(key);
  }

  takeDelta(delta) {
    this.#clock(delta.generated_at);
    if (delta.verdict) this.verdict = delta.verdict;
    for (const name of delta.gone?.agents ?? []) this.#drop(this.agents, name);
    for (const [name, kind] of delta.gone?.targets ?? []) this.#drop(this.targets, targetKey(name, kind));
    for (const [source, target, kind] of delta.gone?.cells ?? []) this.#drop(this.cells, cellKey(source, target, kind));
    delta.agents?.forEach((agent) => this.#agent(agent));
    delta.targets?.forEach((target) => this.#target(target));
    delta.cells?.forEach((cell) => this.#cell(cell));
    if (delta.zone_pairs) this.zonePairs = delta.zone_pairs;
    if (delta.findings) this.findings = delta.findings;
    if (delta.events?.length) {
      const known = new Set(this.events.map((event) => event.id));
      const fresh = delta.events.filter((event) => !known.has(event.id));
      this.events = [...fresh.reverse(), ...this.events].slice(0, EVENTS_KEPT);
    }
  }

  cell(source, target, kind) {
    return this.cells.get(cellKey(source, target, kind));
  }

  isStale(cell) {
    return cell.stale || this.stalled;
  }

  // Where somebody stands, whoever measures it.
  spot(name, kind) {
    return this.agents.get(name) ?? this.targets.get(targetKey(name, kind)) ?? null;
  }

  // How long nobody has heard of an agent. While it is fresh no delta says so again, so only a stale one is counted on.
  silence(agent) {
    if (agent.heard_ago_us == null) return this.stalled ? this.now() - this.at : 0;
    return agent.heard_ago_us / 1000 + (agent.stale || this.stalled ? this.now() - agent.told_at : 0);
  }

  // From here to the next point nothing was heard.
  breakOff() {
    if (this.at && !this.breaks.at(-1)?.open) this.breaks.push({from: this.at, to: null, open: true});
  }

  resume() {
    const last = this.breaks.at(-1);
    if (last?.open) Object.assign(last, {to: this.at, open: false});
    this.breaks = this.breaks.slice(-50);
  }
}
