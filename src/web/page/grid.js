// The matrix as a table: built when rows or columns change, else changed cell by cell, so focus and scrolling stay.

import {byId, el, hiddenText, setAttribute, setText} from "./dom.js";
import {STATES, bareLoss, bareMs, kindTitle, kindWord, many, placeWords, sinceWords, stateOf} from "./words.js";
import {buildGrid, cellAt, pathWords, summary} from "./shape.js";
import {cellKey} from "./store.js";

const HORIZONTAL_NAMES = 8;
const PAGE_ROWS = 10;

// Neighbours with the same words under one header.
function runs(lines, words) {
  const found = [];
  for (const line of lines) {
    const word = words(line);
    if (found.at(-1)?.word === word) found.at(-1).lines.push(line);
    else found.push({word, lines: [line]});
  }
  return found;
}

export class Matrix {
  // on: open(source, target, kind), drill(filter)
  constructor(store, on) {
    this.store = store;
    this.on = on;
    this.body = byId("matrix-body");
    this.readout = byId("readout");
    this.at = [0, 0];
    this.built = null;
  }

  // All of it, or what has changed since the last time.
  show(view) {
    const {store} = this;
    const wanted = JSON.stringify([store.shape, view.view, view.f, store.findings.map((finding) => [finding.code, finding.subjects])]);
    const zones = this.grid?.mode === "zones";
    if (wanted !== this.built || zones) this.#build(view, wanted);
    const anew = this.q !== view.q || this.stalled !== store.stalled || zones;
    [this.q, this.stalled] = [view.q, store.stalled];
    this.#fill(anew ? null : store.changed);
    store.changed.clear();
    if (this.told) this.#tell(...this.told);
  }

  #build(view, wanted) {
    const grid = buildGrid(this.store, view);
    const outline = JSON.stringify([grid.mode, grid.rows, grid.columns, grid.hidden]);
    this.grid = grid;
    this.built = wanted;
    if (outline === this.outline) return;
    this.outline = outline;
    this.q = null;
    const held = this.#held();
    const box = this.body.querySelector(".box");
    const scroll = box ? [box.scrollLeft, box.scrollTop] : [0, 0];
    this.body.replaceChildren(...(grid.rows.length && grid.columns.length ? this.#table() : [this.#nothing(view)]));
    const next = this.body.querySelector(".box");
    if (next) [next.scrollLeft, next.scrollTop] = scroll;
    this.#restore(held);
  }

  // The cell that has the focus, by its names.
  #held() {
    const cell = document.activeElement?.closest?.("td[data-r]");
    const isOurs = cell && this.body.contains(cell);
    return {name: this.name ?? null, focused: Boolean(isOurs)};
  }

  #restore({name, focused}) {
    if (!this.cells) return;
    const found = this.cells.flat().find((cell) => cell.name === name) ?? this.cells[0]?.[0];
    if (!found) return;
    this.#moveTo(found.r, found.c, false);
    if (focused) found.td.focus({preventScroll: true});
  }

  #nothing(view) {
    this.cells = null;
    const {store} = this;
    const words = view.f && store.cells.size ? [`Nothing matches «${view.f}»`, "Clear the filter to see all paths."]
      : store.agents.size > 1 ? ["Nothing is measured yet", "Agents are known; their first round trips are on their way."]
      : store.agents.size === 1 ? ["This agent is alone", "It knows nobody to measure. Name a peer or a database, or let it discover them (docs/discovery.md)."]
      : ["No agent has told anything", "Start probe agent beside each replica of coderd."];
    return el("div", {class: "empty"}, el("p", {class: "empty-title"}, words[0]), el("p", {}, words[1]));
  }

  #table() {
    const {grid} = this;
    const isTall = grid.columns.length > HORIZONTAL_NAMES;
    const unit = el("caption", {}, grid.mode === "zones" ? "Slowest round trips from zone to zone. "
      : "Round trips from each agent to what it measures. ", el("span", {id: "caption-figure"}));
    this.caption = unit.lastChild;
    const table = el("table", {class: `grid${isTall ? " tall" : ""}`, role: "grid", "aria-labelledby": "matrix-title"}, unit,
      el("colgroup", {}, el("col", {class: "c-name"}), el("col", {class: "c-sum", span: "2"})),
      ...runs(grid.columns, (column) => column.kind).map(({lines}) => el("colgroup", {}, ...lines.map(() => el("col", {class: "c-cell"})))),
      this.#head(), ...this.#bodies());
    table.style.setProperty("--columns", grid.columns.length);
    table.addEventListener("keydown", (event) => this.#key(event));
    table.addEventListener("click", (event) => this.#click(event));
    table.addEventListener("focusin", (event) => this.#see(event));
    table.addEventListener("mouseover", (event) => this.#see(event));
    const hidden = grid.hidden ? el("p", {class: "hint"}, `${many(grid.hidden, "standby agent is", "standby agents are")} left out here; a filter that matches shows them.`) : null;
    return [el("div", {class: "box"}, table), hidden].filter(Boolean);
  }

  #head() {
    const {columns, mode} = this.grid;
    const spanning = (words, lines, className, scope = "colgroup") =>
      el("th", {scope, colspan: lines.length, class: className}, el("span", {}, words));
    const kinds = runs(columns, (column) => column.kind);
    const within = (words) => kinds.flatMap(({lines}) => runs(lines, words).map((run, index) => ({...run, first: index === 0})));
    const edge = (run) => (run.first ? "edge" : "");
    const regions = within((column) => column.region ?? "region not known");
    const levels = [
      el("tr", {class: "kinds"}, el("th", {class: "corner", rowspan: mode === "zones" ? 3 : 4, scope: "col"}, el("span", {}, "from ↓   to →")),
        el("th", {scope: "col", rowspan: mode === "zones" ? 3 : 4, class: "sum-head"}, el("span", {}, "worst")),
        el("th", {scope: "col", rowspan: mode === "zones" ? 3 : 4, class: "sum-head"}, el("span", {}, "median")),
        ...kinds.map(({word, lines}) => spanning(kindTitle(word), lines, "kind edge"))),
      el("tr", {class: "regions"}, ...regions.map((run) => spanning(run.word, run.lines, `region ${edge(run)}`))),
    ];
    if (mode !== "zones") {
      const zones = within((column) => `${column.region}\u0000${column.zone ?? ""}`);
      levels.push(el("tr", {class: "zones"}, ...zones.map((run) => spanning(run.lines[0].zone ?? "–", run.lines, `zone ${edge(run)}`))));
    }
    let last = null;
    this.heads = columns.map((column) => {
      const head = this.#name("col", column, column.kind === last ? "" : "edge");
      last = column.kind;
      return head;
    });
    levels.push(el("tr", {class: "names"}, ...this.heads));
    return el("thead", {}, ...levels);
  }

  #name(scope, line, className = "") {
    const isTall = this.grid.columns.length > HORIZONTAL_NAMES;
    const flags = [
      line.wrong && ["wrong", "⚑", scope === "row" || isTall ? line.wrong : "", `wrong region: ${line.wrong}`],
      line.stale && ["old", "…", "", "not heard of"],
      line.starved && ["old", "◔", "", "gets too little CPU"],
    ].filter(Boolean);
    const kind = scope === "row" && line.idle ? el("small", {}, "standby") : null;
    return el("th", {scope, class: `name ${className}${line.wrong ? " is-wrong" : ""}${line.stale ? " is-old" : ""}`},
      el("span", {class: "name-words", title: `${line.name} (${placeWords(line)})`},
        flags.map(([css, sign, words, said]) => el("span", {class: `flag ${css}`}, el("i", {"aria-hidden": "true"}, sign), words ? el("small", {"aria-hidden": "true"}, words) : null, hiddenText(`${said} `))),
        el("b", {}, line.name), kind));
  }

  #bodies() {
    const {rows, columns, mode} = this.grid;
    const kindEdges = columns.map((column, index) => column.kind !== columns[index - 1]?.kind);
    this.cells = [];
    this.byKey = new Map();
    this.rowSums = [];
    const sum = (className) => el("td", {class: `sum ${className}`, tabindex: "-1"});
    const total = (words) => {
      const cells = columns.map((_, index) => el("td", {class: `sum${kindEdges[index] ? " edge" : ""}`, tabindex: "-1"}));
      return {cells, row: el("tr", {class: "totals"}, el("th", {scope: "row", class: "name"}, words), el("td", {class: "sum"}), el("td", {class: "sum"}), ...cells)};
    };
    const [worst, median] = [total("worst"), total("median")];
    this.columnSums = columns.map((_, index) => [worst.cells[index], median.cells[index]]);
    const groups = runs(rows, (row) => JSON.stringify([row.region ?? null, mode === "zones" ? null : row.zone ?? null, row.idle ?? false]));
    return [el("tbody", {class: "totals"}, worst.row, median.row), ...groups.map(({lines}) => el("tbody", {},
      el("tr", {class: "group"}, el("th", {scope: "rowgroup", colspan: columns.length + 3},
        el("span", {}, `${mode === "zones" ? lines[0].region ?? "region not known" : placeWords(lines[0])}${lines[0].idle ? " · standby" : ""}`))),
      ...lines.map((row) => {
        const r = this.cells.length;
        const sums = [sum("worst"), sum("median")];
        this.rowSums.push(sums);
        const cells = columns.map((column, c) => {
          const td = el("td", {tabindex: "-1", class: kindEdges[c] ? "edge" : null});
          td.dataset.r = r;
          td.dataset.c = c;
          const cell = {td, r, c, name: `${row.id}\u0001${column.id}`, view: null};
          if (mode !== "zones") this.byKey.set(cellKey(row.name, column.name, column.kind), cell);
          return cell;
        });
        this.cells.push(cells);
        return el("tr", {}, this.#name("row", row), ...sums, ...cells.map((cell) => cell.td));
      })))];
  }

  #fill(changed) {
    if (!this.cells) return;
    const {grid} = this;
    const names = {p50: "Median (p50) in milliseconds.", p95: "95th percentile in milliseconds.", p99: "99th percentile in milliseconds.", loss: "Share without a reply, in percent."};
    setText(this.caption, names[this.q]);
    const some = changed ? [...changed].map((key) => this.byKey.get(key)).filter(Boolean) : this.cells.flat();
    if (changed && some.length === 0) return;
    for (const cell of some) this.#draw(cell, cellAt(this.store, grid, this.q, grid.rows[cell.r], grid.columns[cell.c]));
    const [rows, columns] = changed ? [new Set(some.map((cell) => cell.r)), new Set(some.map((cell) => cell.c))] : [this.cells.keys(), this.heads.keys()];
    for (const r of rows) this.#sum(this.rowSums[r], summary(this.cells[r].map((cell) => cell.view)));
    for (const c of columns) {
      const found = summary(this.cells.map((row) => row[c].view));
      this.#sum(this.columnSums[c], found);
      this.heads[c].dataset.worst = found?.worst.counts ? found.worst.state.rank : "";
    }
  }

  #draw(cell, view) {
    const before = cell.view;
    cell.view = view;
    if (before && before.text === view.text && before.label === view.label && before.band === view.band
      && before.mark === view.mark && before.hatch === view.hatch) return;
    this.#write(cell.td, view);
    const {td} = cell;
    setAttribute(td, "data-open", view.self || view.absent ? null : "");
  }

  #write(td, view) {
    const marks = (view.mark ?? "") + (view.lopsided ? "⇄" : "");
    if (marks) td.replaceChildren(el("i", {"aria-hidden": "true"}, marks), ...(view.text ? [view.text] : []));
    else setText(td, view.text);
    const look = view.self ? "self" : view.absent ? "absent" : view.hatch ? "hatch" : view.silent ? "silent" : view.band === null ? "plain" : `b${view.band}`;
    setAttribute(td, "data-look", look);
    const isPlain = look[0] === "b" && !marks;
    setAttribute(td, "aria-label", isPlain ? null : view.label);
  }

  #sum([worst, median], found) {
    if (found) this.#write(worst, {...found.worst, lopsided: false});
    else setText(worst, "");
    const value = found?.median;
    setText(median, value === null || value === undefined ? "" : this.q === "loss" ? bareLoss(value) : bareMs(value));
  }

  #moveTo(r, c, focus = true) {
    const before = this.cells[this.at[0]]?.[this.at[1]]?.td;
    if (before) before.tabIndex = -1;
    this.at = [r, c];
    const cell = this.cells[r][c];
    this.name = cell.name;
    cell.td.tabIndex = 0;
    if (focus) cell.td.focus();
  }

  #key(event) {
    const cell = event.target.closest("td[data-r]");
    if (!cell || event.altKey || event.metaKey) return;
    const [r, c] = [Number(cell.dataset.r), Number(cell.dataset.c)];
    const [bottom, right] = [this.cells.length - 1, this.cells[0].length - 1];
    const moves = {
      ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
      Home: [event.ctrlKey ? 0 : r, 0], End: [event.ctrlKey ? bottom : r, right],
      PageUp: [r - PAGE_ROWS, c], PageDown: [r + PAGE_ROWS, c],
    };
    if (moves[event.key]) {
      event.preventDefault();
      const [row, column] = moves[event.key];
      this.#moveTo(Math.min(bottom, Math.max(0, row)), Math.min(right, Math.max(0, column)));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#open(r, c);
    }
  }

  #click(event) {
    const cell = event.target.closest("td[data-r]");
    if (!cell) return;
    this.#moveTo(Number(cell.dataset.r), Number(cell.dataset.c));
    this.#open(...this.at);
  }

  #open(r, c) {
    const {grid} = this;
    const [row, column] = [grid.rows[r], grid.columns[c]];
    const {view} = this.cells[r][c];
    if (!view || view.self || view.absent) return;
    if (grid.mode === "zones") this.on.drill(`${row.zone ?? row.region ?? ""} > ${column.zone ?? column.region ?? ""}`);
    else this.on.open(row.name, column.name, column.kind);
  }

  // The focus comes back to the cell whose path was shown.
  focusPath(source, target, kind) {
    const cell = this.byKey?.get(cellKey(source, target, kind)) ?? this.cells?.[this.at[0]]?.[this.at[1]];
    if (cell) this.#moveTo(cell.r, cell.c);
    else byId("matrix").focus();
  }

  #see(event) {
    const td = event.target.closest("td[data-r]");
    if (!td) return;
    const [r, c] = [Number(td.dataset.r), Number(td.dataset.c)];
    if (event.type === "focusin" && (this.at[0] !== r || this.at[1] !== c)) this.#moveTo(r, c, false);
    this.hot?.forEach((head) => head.classList.remove("hot"));
    this.hot = [this.heads[c], td.parentNode.firstChild];
    this.hot.forEach((head) => head.classList.add("hot"));
    this.#tell(r, c);
  }

  #tell(r, c) {
    const [row, column] = [this.grid.rows[r], this.grid.columns[c]];
    if (!row || !column || !this.cells) return;
    this.told = [r, c];
    const {view} = this.cells[r][c];
    const names = `${row.name} → ${column.name} (${kindWord(column.kind)}): `;
    const cell = this.grid.mode === "zones" ? this.grid.pairs.get(`${row.id}\u0001${column.id}`)
      : this.store.cell(row.name, column.name, column.kind);
    if (!cell || view.self) return setText(this.readout, names + view.label);
    const {store} = this;
    if (this.grid.mode === "zones") {
      return setText(this.readout, `${names}${many(cell.paths, "path", "paths")}, slowest ${view.label}`);
    }
    const state = stateOf(store.isStale(cell) ? "stale" : cell.state).word;
    const why = cell.reason ? ` (${cell.reason})` : "";
    setText(this.readout, `${names}${state}${why} · ${pathWords(cell, store.now(), sinceWords(cell.since, store.now()))}`);
  }
}

export function drawLegend(node) {
  const steps = ["≤ 10 %", "25 %", "50 %", "80 %", "budget", "2×", "5×", "more"];
  const signs = [
    [STATES.breach.mark, "over budget"], [STATES.at_risk.mark, "at risk"], [STATES.unreachable.mark, "unreachable"],
    ["", "unknown or stale", "hatch"], ["–", "itself"], ["·", "not measured"], ["⇄", "the other way differs"], ["⚑", "wrong region"],
  ];
  node.replaceChildren(
    el("ul", {class: "scale", "aria-label": "Colour: share of the budget"}, ...steps.map((words, index) => el("li", {"data-look": `b${index}`}, words))),
    el("ul", {class: "signs", "aria-label": "Signs"}, ...signs.map(([sign, words, look]) =>
      el("li", {}, el("i", {"aria-hidden": "true", "data-look": look ?? null}, sign), words))));
}
