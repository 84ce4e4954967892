// Figures and states in words and signs. Everything that is told by colour is told by one of these as well.

export const STATES = {
  ok: {rank: 0, mark: "", sign: "✓", word: "within budget", headline: "Within budget"},
  left: {rank: 1, mark: "↩", sign: "↩", word: "said goodbye", headline: "Said goodbye"},
  unknown: {rank: 2, mark: "", sign: "?", word: "not known yet", headline: "Not known yet"},
  stale: {rank: 3, mark: "", sign: "…", word: "nothing new is known", headline: "Out of date"},
  at_risk: {rank: 4, mark: "◆", sign: "◆", word: "at risk", headline: "At risk"},
  breach: {rank: 5, mark: "▲", sign: "▲", word: "over budget", headline: "Over budget"},
  unreachable: {rank: 6, mark: "×", sign: "×", word: "unreachable", headline: "Not everything answers"},
};

// What has to be loud: the page's colours beside the scale go by it.
export function levelOf({rank}) {
  return rank === 0 ? "good" : rank === 4 ? "warn" : rank > 4 ? "bad" : "";
}

export function stateOf(name) {
  return STATES[name] ?? STATES.unknown;
}

export const KINDS = {
  peer: "Between agents",
  postgres: "PostgreSQL",
  tcp: "TCP",
  http: "HTTP",
  relay: "Relay",
  nats: "NATS",
};

export const KIND_WORDS = {peer: "echo", postgres: "SQL", tcp: "TCP", http: "HTTP", relay: "relay", nats: "NATS"};

export function kindTitle(kind) {
  return KINDS[kind] ?? kind;
}

export function kindWord(kind) {
  return KIND_WORDS[kind] ?? kind;
}

export const QUANTILES = [["p50", "p50"], ["p95", "p95"], ["p99", "p99"], ["loss", "Loss"]];

// Three digits at most: the fourth is noise.
export function bareMs(us) {
  if (us == null) return "?";
  const value = us / 1000;
  if (value < 0.005) return "<0.01";
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

export function ms(us) {
  return us == null ? "not known" : `${bareMs(us)} ms`;
}

// A budget is a round figure and is written like one.
export function budgetWords(us) {
  return us == null ? "no budget" : `${Number((us / 1000).toPrecision(3))} ms`;
}

export function bareLoss(share) {
  if (share == null) return "?";
  const percent = share * 100;
  if (percent === 0) return "0";
  if (percent < 0.05) return "<0.1";
  return percent.toFixed(percent < 9.95 ? 1 : 0);
}

export function lossWords(share) {
  return share == null ? "not known" : `${bareLoss(share)} %`;
}

export function many(count, one, more) {
  return `${count} ${count === 1 ? one : more}`;
}

export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 72 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit"});
const CLOCK_SECONDS = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"});
const DAY = new Intl.DateTimeFormat("en-GB", {day: "numeric", month: "short"});

export function hourMinute(milliseconds) {
  return CLOCK.format(milliseconds);
}

// Of another day than now: with the day.
export function instant(iso, now) {
  const at = typeof iso === "number" ? iso : Date.parse(iso);
  if (!Number.isFinite(at)) return "";
  const day = Math.abs(now - at) < 12 * 3_600_000 ? "" : `${DAY.format(at)}, `;
  return day + CLOCK_SECONDS.format(at);
}

export function sinceWords(iso, now) {
  const at = Date.parse(iso ?? "");
  return Number.isFinite(at) ? `since ${instant(at, now)} (${span(now - at)})` : "";
}

// Eight steps of the ratio to the budget; the scale's colours are in probe.css.
export const STEPS = [0.1, 0.25, 0.5, 0.8, 1, 2, 5];

export function step(ratio) {
  const found = STEPS.findIndex((edge) => ratio <= edge);
  return found < 0 ? STEPS.length : found;
}

// One slot in twenty may be lost or slow at p95: that is the whole of the scale for loss.
export function stepOfLoss(share) {
  return share === 0 ? 0 : step(share / 0.05);
}

export function placeWords(spot) {
  return [spot?.region, spot?.zone].filter(Boolean).join(" · ") || "place not known";
}

// Of findings and of events.
export const SEVERITIES = {
  fail: {rank: 5, sign: "×", word: "fail"},
  error: {rank: 5, sign: "×", word: "error"},
  warning: {rank: 4, sign: "▲", word: "warning"},
  warn: {rank: 4, sign: "▲", word: "warning"},
  information: {rank: 1, sign: "i", word: "information"},
};

export function severityOf(name) {
  return SEVERITIES[name] ?? SEVERITIES.information;
}
