//! The same for a ticket.

use std::fmt::Write;

use super::layout::Grid;
use super::{Figure, cell_text};
use crate::export::api::matrix::Document;

/// A heading, the verdict and a table for each kind, with a newline at its end.
pub fn render(document: &Document, figure: Figure) -> String {
    let Document { verdict, vantage, .. } = document;
    let mut text = format!(
        "**{}**\n\n{}, seen by {} at {}; {}\n",
        safe(&verdict.words),
        verdict.state.as_str(),
        safe(&vantage.agent),
        document.generated_at,
        figure.in_words()
    );
    let grid = Grid::of(document);
    for (kind, columns) in grid.kinds() {
        let names: Vec<_> = columns.iter().map(|column| safe(column.target)).collect();
        // Writing to a String cannot fail.
        let _ =
            write!(text, "\n| {kind} | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(columns.len()));
        for row in &grid.rows {
            let cells = columns.iter().map(|column| {
                let cell = grid.cell(row.agent, kind, column.target);
                cell_text(cell, row.agent == column.target, figure).0
            });
            let _ = writeln!(text, "| {} | {} |", safe(row.agent), cells.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

/// Names come from other machines: none of them may end a cell or begin a link.
pub fn safe(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = matches!(c, '|' | '[' | ']' | '<' | '>' | '`' | '*' | '_' | '\\');
            escaped.then_some('\\').into_iter().chain([if c.is_control() { ' ' } else { c }])
        })
        .collect()
}
