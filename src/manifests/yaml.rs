//! From text to values. The parser bounds what anchors may unfold to, and its errors carry line and column.

use std::fmt;

use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;

use super::Source;

/// A document with more values than this is more than a deployment. Anchors unfold within it.
const MOST_VALUES: usize = 1_000_000;

/// Text that is not YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{place}: {cause}{hint}")]
pub struct SyntaxError {
    /// The file.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// What is wrong.
    pub cause: String,
    hint: &'static str,
}

/// Where in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The document, counted from 1.
    pub document: usize,
    /// From 1; 0 is not known.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => Ok(()),
            line => write!(f, ", document {}, line {line}, column {}", self.document, self.column),
        }
    }
}

const TEMPLATE: &str = "; this looks like a template of Helm, which has to be rendered first: \
                        helm template RELEASE CHART -f values.yaml | probe check --manifests -";

/// What to say of text that a template engine has not gone through.
pub(super) fn hint(text: &str) -> &'static str {
    if text.contains("{{") { TEMPLATE } else { "" }
}

/// Hands over each document of a file that is not empty, one after the other, so that only one is held at a time.
pub(super) fn documents(source: &Source, mut take: impl FnMut(&Value)) -> Result<(), SyntaxError> {
    let name = source.name.as_str();
    let wrong = |document, line, column, cause| {
        let place = Place { document, line, column };
        SyntaxError { file: name.to_owned(), place, cause, hint: hint(&source.text) }
    };
    if name.rsplit_once('.').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json")) {
        let document = serde_json::from_str(&source.text).map_err(|error| {
            let text = error.to_string();
            let cause = text.split(" at line ").next().unwrap_or_default().to_owned();
            wrong(1, error.line(), error.column(), cause)
        })?;
        take(&document);
        return Ok(());
    }
    for (index, (lines_before, text)) in pieces(&source.text).into_iter().enumerate() {
        let values: Vec<Value> =
            serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| {
                let position = |number| usize::try_from(number).unwrap_or_default();
                let (line, column) = error
                    .location()
                    .map_or((0, 0), |at| (position(at.line()) + lines_before, position(at.column())));
                wrong(index + 1, line, column, cause(&error))
            })?;
        values.iter().for_each(&mut take);
    }
    Ok(())
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        // As kubectl and Helm take it.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! {
            max_nodes: MOST_VALUES,
            max_events: 3 * MOST_VALUES,
        },
    }
}

fn cause(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    if text.starts_with("budget breached") || text.starts_with("alias replay") {
        return format!(
            "too much to judge: a document of more than {MOST_VALUES} values, or with anchors that unfold to as many"
        );
    }
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// The documents of a text with the number of lines before each. A line that starts with `---` is never part of a value;
/// comments and directives before one belong to the document after it.
fn pieces(text: &str) -> Vec<(usize, &str)> {
    let (mut pieces, mut start, mut lines_before, mut has_content, mut at) = (Vec::new(), 0, 0, false, 0);
    for (line_index, line) in text.split_inclusive('\n').enumerate() {
        let words = line.trim_start_matches('\u{feff}').trim_end();
        let marks = words == "---" || words.starts_with("--- ") || words.starts_with("---\t");
        if marks && has_content {
            pieces.push((lines_before, &text[start..at]));
            (start, lines_before) = (at, line_index);
        }
        has_content = marks || has_content || !(words.is_empty() || words.starts_with(['#', '%']));
        at += line.len();
    }
    pieces.push((lines_before, &text[start..]));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        let source = Source { name: name.into(), text: text.into() };
        documents(&source, |document| found.push(document.clone())).map_err(|error| error.to_string())?;
        Ok(found)
    }

    #[test]
    fn what_is_wrong_is_told_with_document_line_and_column() {
        for (text, error) in [
            (
                "a: 1\n---\nb: [1\nc: 2\n",
                "f.yaml, document 2, line 4, column 2: illegal placement of ':' indicator",
            ),
            ("# head\n---\na:\n\t- b\n", "f.yaml, document 1, line 4, column 2: tabs disallowed"),
            (
                "a: 1\r\n---\r\nb: *c\r\n",
                "f.yaml, document 2, line 3, column 4: alias references unknown anchor",
            ),
            ("{{- if .x }}\na: 1\n", "which has to be rendered first: helm template"),
        ] {
            let found = read("f.yaml", text).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
        assert_eq!(
            read("f.json", "{\"a\": 1,\n  b: 2}").unwrap_err(),
            "f.json, document 1, line 2, column 3: key must be a string"
        );
    }

    #[test]
    fn anchors_merges_empty_documents_and_line_ends_of_windows_are_read() {
        let read = |text| serde_json::to_string(&read("f.yaml", text).unwrap()).unwrap();
        assert_eq!(read("a: &x {k: v}\nb:\n  <<: *x\n  z: 1\n"), r#"[{"a":{"k":"v"},"b":{"k":"v","z":1}}]"#);
        assert_eq!(read("\u{feff}---\r\n---\r\na: 1\r\n---\r\n# none\r\n"), r#"[{"a":1}]"#);
        assert_eq!(read(""), "[]");
        assert_eq!(
            read("%YAML 1.2\n---\na: 1\n...\n# c\n--- {b: 2}\n--- \nc: |\n  x\n  ---\n"),
            "[{\"a\":1},{\"b\":2},{\"c\":\"x\\n---\\n\"}]"
        );
        assert_eq!(read("a: 1\na: 2\n"), r#"[{"a":2}]"#, "the last counts, as for kubectl");
    }

    #[test]
    fn anchors_that_unfold_without_end_are_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            let line = format!("a{level}: &a{level} [{}]\n", vec![alias; 9].join(","));
            bomb.push_str(&line);
        }
        let error = read("f.yaml", &bomb).unwrap_err();
        assert!(error.contains("too much to judge"), "{error}");
        assert!(read("f.yaml", &"[".repeat(100_000)).is_err());
    }
}
