//! Which rows and columns the table has.

use std::collections::BTreeMap;

use super::zone_name;
use crate::export::api::matrix::{Cell, Document};

/// The kinds that have a table of their own: what the budgets of the guide are about.
const KINDS: [&str; 2] = ["peer", "postgres"];
/// A sign, four characters of a number, a mark of a lopsided pair, and a space before them.
const CELL: usize = 8;

/// One that measures.
pub(super) struct Row<'a> {
    /// Number and name.
    pub(super) label: String,
    /// Its name.
    pub(super) agent: &'a str,
    /// Where it stands.
    pub(super) zone: String,
}

/// One that is measured.
pub(super) struct Column<'a> {
    /// The number of the row of the same name, or a letter.
    pub(super) head: String,
    /// Its name.
    pub(super) target: &'a str,
    /// Whether the head has to be explained.
    pub(super) is_lettered: bool,
    /// In characters.
    pub(super) width: usize,
}

/// The table.
pub(super) struct Grid<'a> {
    pub(super) rows: Vec<Row<'a>>,
    columns: Vec<(&'static str, Vec<Column<'a>>)>,
    cells: BTreeMap<(&'a str, &'a str, &'a str), &'a Cell>,
}

impl<'a> Grid<'a> {
    /// Agents by region, zone and name; those without a link have no row.
    pub(super) fn of(document: &'a Document) -> Self {
        let place =
            |region: &Option<String>, zone: &Option<String>| zone_name(region.as_deref(), zone.as_deref());
        let cells: BTreeMap<_, _> = document.cells.iter().map(|cell| (cell.key(), cell)).collect();
        let measures = |name: &str| document.cells.iter().any(|cell| cell.source == name);
        let mut agents: Vec<_> = document.agents.iter().filter(|agent| measures(&agent.name)).collect();
        agents.sort_by_cached_key(|agent| {
            (agent.region.is_none(), place(&agent.region, &agent.zone), &agent.name)
        });
        let rows: Vec<_> = agents
            .iter()
            .zip(1..)
            .map(|(agent, number)| Row {
                label: format!("{number:>2} {}", agent.name),
                agent: &agent.name,
                zone: place(&agent.region, &agent.zone),
            })
            .collect();
        let number = |name: &str| rows.iter().position(|row| row.agent == name);
        let mut letters = 0;
        let columns = KINDS.map(|kind| {
            let mut targets: Vec<_> = document.targets.iter().filter(|target| target.kind == kind).collect();
            targets.sort_by_key(|target| (number(&target.name).unwrap_or(usize::MAX), &target.name));
            let columns = targets.into_iter().map(|target| {
                let row = number(&target.name);
                let head = row.map_or_else(|| letter(letters), |row| (row + 1).to_string());
                letters += usize::from(row.is_none());
                Column { head, target: &target.name, is_lettered: row.is_none(), width: CELL }
            });
            (kind, columns.collect())
        });
        Self { rows, columns: columns.into(), cells }
    }

    /// The kinds that anybody measures, with their columns.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&'static str, &[Column<'a>])> {
        self.columns
            .iter()
            .filter(|(_, columns)| !columns.is_empty())
            .map(|(kind, columns)| (*kind, &**columns))
    }

    pub(super) fn cell(&self, source: &str, kind: &str, target: &str) -> Option<&'a Cell> {
        self.cells.get(&(source, kind, target)).copied()
    }

    pub(super) fn label_width(&self) -> usize {
        self.rows.iter().map(|row| columns(&row.label)).max().unwrap_or_default() + 4
    }

    /// Of the widest line.
    pub(super) fn width(&self, of: &[Column<'_>]) -> usize {
        self.label_width() + of.iter().map(|column| column.width).sum::<usize>()
    }
}

/// A, B, … Z, A1, B1, …
fn letter(index: usize) -> String {
    let letter = char::from(b'A' + u8::try_from(index % 26).unwrap_or_default());
    match index / 26 {
        0 => letter.to_string(),
        round => format!("{letter}{round}"),
    }
}

/// How many columns of a terminal a text takes: names are ASCII, signs are one wide.
pub(super) fn columns(text: &str) -> usize {
    text.chars().count()
}
