// The smoke chart: how a path was over time. The spread is the smoke, the median the line, losses the ticks at the foot.

import {svgEl} from "./dom.js";
import {budgetWords, hourMinute, ms, span} from "./words.js";

const HEIGHT = 240;
const EDGE = {left: 40, right: 8, top: 10, foot: 34};
const SLOTS = 560;
const TICKS_US = [10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];

const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];

// Bins into at most as many slots as there are dots to draw them. Times are milliseconds, figures microseconds.
export function slotsOf({begin, width, bins}, from, to) {
  const size = Math.max(width, (to - from) / SLOTS);
  const slots = new Map();
  for (const [offsetUs, min, p50, p95, max, judged, lost] of bins) {
    const at = begin + offsetUs / 1000;
    if (at + width <= from || at > to) continue;
    const index = Math.floor((at - from) / size);
    let slot = slots.get(index);
    if (!slot) slots.set(index, slot = {from: at, to: at + width, min: null, medians: [], p95: null, max: null, judged: 0, lost: 0});
    slot.to = Math.max(slot.to, at + width);
    slot.judged += judged;
    slot.lost += lost;
    if (p50 === null) continue;
    slot.min = Math.min(slot.min ?? min, min);
    slot.p95 = Math.max(slot.p95 ?? p95, p95);
    slot.max = Math.max(slot.max ?? max, max);
    slot.medians.push(p50);
  }
  const found = [...slots.entries()].sort((a, b) => a[0] - b[0]).map(([, slot]) => slot);
  for (const slot of found) slot.p50 = slot.medians.length ? middle(slot.medians) : null;
  return {size, slots: found};
}

// Stretches without a break.
function stretches(slots, size, isPart) {
  const found = [];
  let before = null;
  for (const slot of slots) {
    if (!isPart(slot)) {
      before = null;
      continue;
    }
    if (before && slot.from - before.to < size / 2) found.at(-1).push(slot);
    else found.push([slot]);
    before = slot;
  }
  return found;
}

export function chartFigures({slots}, total) {
  const known = slots.filter((slot) => slot.p50 !== null);
  const worst = known.reduce((a, b) => (a && a.p95 >= b.p95 ? a : b), null);
  const sum = (name) => slots.reduce((count, slot) => count + slot[name], 0);
  return {
    known: known.length, worst, judged: sum("judged"), lost: sum("lost"),
    p50: known.length ? middle(known.map((slot) => slot.p50)) : null,
    covered: slots.reduce((time, slot) => time + slot.to - slot.from, 0) / total,
  };
}

export function figureWords(figures, now) {
  if (figures.known === 0) return figures.lost ? `No reply at all: ${figures.lost} lost.` : "Nothing was recorded in this time.";
  const {worst} = figures;
  const parts = [`median ${ms(figures.p50)}`, `worst p95 ${ms(worst.p95)} at ${hourMinute(worst.from)} (${span(now - worst.from)} ago)`,
    `${figures.lost} of ${figures.judged} lost`];
  if (figures.covered < 0.97) parts.push(`recorded for ${Math.max(1, Math.round(figures.covered * 100))} % of the time`);
  return `${parts.join(", ")}.`;
}

function timeTicks(from, to, most) {
  const hour = 3_600_000;
  const step = [60_000, 120_000, 300_000, 900_000, hour / 2, hour, 2 * hour, 6 * hour, 12 * hour].find((size) => (to - from) / size <= most);
  const zone = new Date(from).getTimezoneOffset() * 60_000;
  const ticks = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at < to; at += step) ticks.push(at);
  return ticks;
}

// options: width in dots, from, to, budgetUs, coderUs (or null), top (the word for the upper edge).
export function smokeChart(history, {width, from, to, budgetUs, coderUs, top, now}) {
  const made = slotsOf(history, from, to);
  const {slots, size} = made;
  const told = Math.min(to, now);
  const figures = chartFigures(made, told - from);
  const lowest = Math.min(...slots.map((slot) => slot.min ?? Infinity), budgetUs ?? Infinity, 10_000);
  const highest = Math.max(...slots.map((slot) => slot.max ?? 0), budgetUs ?? 0, coderUs ?? 0, 1_000);
  const [low, high] = [Math.log(Math.max(8, lowest * 0.7)), Math.log(highest * 1.5)];
  const foot = HEIGHT - EDGE.foot;
  const x = (at) => EDGE.left + (Math.min(to, Math.max(from, at)) - from) / (to - from) * (width - EDGE.left - EDGE.right);
  const y = (us) => EDGE.top + (high - Math.log(Math.max(us, 1))) / (high - low) * (foot - EDGE.top);
  const dot = (number) => number.toFixed(1);
  const point = (at, us) => `${dot(x(at))},${dot(y(us))}`;
  const line = (run, name) => [point(run[0].from, run[0][name]),
    ...run.map((slot) => point((slot.from + slot.to) / 2, slot[name])), point(run.at(-1).to, run.at(-1)[name])];
  const band = (run, lower, upper) => `M${line(run, lower).join("L")}L${line(run, upper).reverse().join("L")}Z`;
  const runs = stretches(slots, size, (slot) => slot.p50 !== null);
  const path = (css, pieces) => svgEl("path", {class: css, d: pieces.join("")});
  const label = (css, at, height, anchor, words) => svgEl("text", {class: css, x: dot(at), y: dot(height), "text-anchor": anchor}, words);

  // What is between the stretches of anything recorded, lost or not.
  const recorded = stretches(slots, size, () => true).map((run) => [run[0].from, run.at(-1).to]);
  const edges = [from, ...recorded.flat(), told];
  const gaps = [];
  for (let index = 0; index < edges.length; index += 2) {
    const [begin, end] = [edges[index], edges[index + 1]];
    if (end - begin < Math.max(size, history.width) * 1.01) continue;
    gaps.push(svgEl("rect", {class: "gap", x: dot(x(begin)), y: EDGE.top, width: dot(x(end) - x(begin)), height: foot - EDGE.top}));
    if (x(end) - x(begin) > 70) gaps.push(label("gap-words", (x(begin) + x(end)) / 2, foot - 8, "middle", "no data"));
  }
  const lost = slots.filter((slot) => slot.lost > 0).map((slot) => {
    const share = slot.lost / Math.max(1, slot.judged);
    const height = share === 1 ? foot - EDGE.top : 4 + 18 * Math.sqrt(share);
    return `M${dot(x((slot.from + slot.to) / 2))},${foot}v${dot(-height)}`;
  });
  const scale = TICKS_US.filter((us) => Math.log(us) > low && Math.log(us) < high);
  const limit = (css, us, words, below) => [
    svgEl("line", {class: css, x1: EDGE.left, x2: width - EDGE.right, y1: dot(y(us)), y2: dot(y(us))}),
    label(`${css} limit-words`, width - EDGE.right - 4, y(us) + (below ? 12 : -4), "end", words),
  ];
  const description = `Round trips over ${span(to - from)}: ${figureWords(figures, now)}`;
  const chart = svgEl("svg", {class: "smoke", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": description},
    scale.map((us) => [
      svgEl("line", {class: "rule", x1: EDGE.left, x2: width - EDGE.right, y1: dot(y(us)), y2: dot(y(us))}),
      label("tick", EDGE.left - 6, y(us) + 4, "end", String(us / 1000)),
    ]).flat(),
    gaps,
    path("smoke-all", runs.map((run) => band(run, "min", "max"))),
    path("smoke-most", runs.map((run) => band(run, "p50", "p95"))),
    path("median", runs.map((run) => `M${line(run, "p50").join("L")}`)),
    path("lost", lost),
    budgetUs ? limit("budget", budgetUs, `budget ${budgetWords(budgetUs)}`, true) : [],
    coderUs ? limit("coder", coderUs, `${budgetWords(coderUs)}: Coder's health page warns`, false) : [],
    timeTicks(from, to, width / 75).flatMap((at) => [
      svgEl("line", {class: "rule", x1: dot(x(at)), x2: dot(x(at)), y1: foot, y2: foot + 4}),
      label("tick", x(at), foot + 16, "middle", hourMinute(at)),
    ]),
    label("tick unit", EDGE.left - 6, HEIGHT - 4, "end", "ms"),
    label("tick unit", width - EDGE.right, HEIGHT - 4, "end", `line p50 · dark to p95 · light min to ${top} · ticks: lost`));
  return {chart, figures};
}

// What came in since the page was opened, as bins: each figure holds until the next one came.
export function trailHistory(trail, breaks, from, to) {
  const width = 5_000;
  const bins = [];
  if (!trail?.length) return {begin: from, width, bins};
  let index = 0;
  let lostBefore = trail[0][5] ?? 0;
  for (let at = Math.max(from, trail[0][0]); at <= to; at += width) {
    if (breaks.some((gap) => at + width > gap.from && at < (gap.to ?? Infinity))) continue;
    while (trail[index + 1] && trail[index + 1][0] < at + width) index += 1;
    const [, min, p50, p95, p99, lost, state] = trail[index];
    if (state === "stale") continue;
    const more = Math.max(0, (lost ?? 0) - lostBefore);
    lostBefore = lost ?? 0;
    const isSilent = state === "unreachable" || p50 === null;
    const judged = isSilent ? 1 : Math.max(1, more);
    bins.push([(at - from) * 1000, ...(isSilent ? [null, null, null, null] : [min ?? p50, p50, p95 ?? p50, p99 ?? p95 ?? p50]), judged, state === "unreachable" ? 1 : more]);
  }
  return {begin: from, width, bins};
}
