// What is shown, as text for a ticket and as JSON for a program.

import {bareMs, budgetWords, kindTitle, kindWord, lossWords, sinceWords, stateOf} from "./words.js";
import {buildGrid, cellAt, worstPaths} from "./shape.js";

const COLUMNS_AT_MOST = 16;

// Names come from the network: nothing in them may be markup in somebody's ticket.
const plain = (words) => String(words ?? "").replace(/[\\`*_{}[\]<>|#~@!]/g, "\\$&").replace(/\s+/g, " ");

const row = (cells) => `| ${cells.join(" | ")} |`;

function rows(heads, lines) {
  return [row(heads), row(heads.map(() => "---")), ...lines.map(row)];
}

function pathText(cell) {
  return [plain(`${cell.source} → ${cell.target}`), kindWord(cell.kind), stateOf(cell.state).word + (cell.reason && cell.state !== "ok" ? ` (${plain(cell.reason)})` : ""),
    bareMs(cell.p50_us), bareMs(cell.p95_us), bareMs(cell.p99_us), lossWords(cell.loss), cell.budget_us ? budgetWords(cell.budget_us) : "–"];
}

const PATH_HEADS = ["path", "by", "state", "p50 ms", "p95 ms", "p99 ms", "lost", "budget"];

export function asMarkdown(store, view, panel, link) {
  const now = store.now();
  const {verdict, meta} = store;
  const head = [`**${stateOf(verdict?.state).headline}**: ${plain(verdict?.words)}`, "",
    [verdict?.since && sinceWords(verdict.since, now), `seen by ${plain(meta?.vantage?.agent)}`, `at ${new Date(store.at ?? now).toISOString()}`, `probe ${plain(meta?.version)}`].filter(Boolean).join(" · ")];
  if (panel?.cell) {
    const {cell, document: found} = panel;
    const beside = [found?.back, ...(found?.beside ?? [])].filter(Boolean);
    const reasons = found?.detail?.findings?.map((one) => `- ${plain(one.evidence)}`) ?? [];
    const command = found?.command ? ["", "```sh", found.command.replaceAll("```", ""), "```"] : [];
    return [...head, "", ...rows(PATH_HEADS, [cell, ...beside].map(pathText)), ...(reasons.length ? ["", ...reasons] : []), ...command, "", link, ""].join("\n");
  }
  const grid = buildGrid(store, view);
  const bad = worstPaths(store, 10).filter((cell) => cell.state !== "ok");
  const worst = bad.length ? ["", ...rows(PATH_HEADS, bad.map(pathText))] : [];
  const matrix = grid.columns.length > COLUMNS_AT_MOST || grid.rows.length === 0 ? []
    : ["", `Round trips, ${view.q === "loss" ? "loss in percent" : `${view.q} in ms`}:`, "",
      ...rows(["from \\ to", ...grid.columns.map((column) => plain(column.kind === "peer" ? column.name : `${column.name} (${kindTitle(column.kind)})`))],
        grid.rows.map((line) => [plain(line.name) + (line.wrong ? ` ⚑ ${plain(line.wrong)}` : ""),
          ...grid.columns.map((column) => { const said = cellAt(store, grid, view.q, line, column); return `${said.mark ?? ""}${said.text}`.trim(); })]))];
  const findings = store.findings.length ? ["", ...store.findings.map((finding) => `- **${plain(finding.severity)}** ${plain(finding.code)}: ${plain(finding.evidence)} ${plain(finding.remedy)}`)] : [];
  return [...head, ...worst, ...matrix, ...findings, "", link, ""].join("\n");
}

export function asJson(store, view, panel) {
  const shared = {generated_at: new Date(store.at ?? store.now()).toISOString(), vantage: store.meta?.vantage ?? null, verdict: store.verdict, view};
  if (panel?.cell) return JSON.stringify({...shared, path: panel.document ?? {cell: panel.cell}}, null, 2);
  const grid = buildGrid(store, view);
  const names = new Set(grid.rows.map((line) => line.name));
  const columns = new Set(grid.columns.map((column) => `${column.name}\u0000${column.kind}`));
  const cells = grid.mode === "zones" ? undefined
    : [...store.cells.values()].filter((cell) => names.has(cell.source) && columns.has(`${cell.target}\u0000${cell.kind}`));
  return JSON.stringify({...shared, cells, zone_pairs: grid.mode === "zones" ? store.zonePairs : undefined, findings: store.findings}, null, 2);
}
