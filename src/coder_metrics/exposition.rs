//! The text format of Prometheus and OpenMetrics, line by line: whatever comes, memory stays small and nothing fails.
//!
//! A page is many megabytes at worst and a handful of lines of it are wanted, so it is never held as a whole.

use std::borrow::Cow;

/// A line of coderd's has a few hundred bytes. A longer one than this is skipped.
const LONGEST_LINE: usize = 64 * 1024;

/// Cuts pieces of any length into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// Until its end, the line that has begun is too long.
    too_long: bool,
    /// Lines that were too long.
    pub(super) skipped: u32,
}

impl Lines {
    /// Takes the next piece, and hands each line that it ends to `each`, without the line feed.
    pub(super) fn take(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            if self.begun.is_empty() && !self.too_long && line.len() <= LONGEST_LINE {
                each(line);
                continue;
            }
            self.begin(line);
            self.end(&mut each);
        }
        self.begin(rest);
    }

    /// The last line may lack its line feed.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        self.end(&mut each);
    }

    fn begin(&mut self, part: &[u8]) {
        if self.too_long || self.begun.len() + part.len() > LONGEST_LINE {
            self.too_long = true;
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(part);
        }
    }

    fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        if self.too_long {
            self.skipped = self.skipped.saturating_add(1);
        } else if !self.begun.is_empty() {
            each(&self.begun);
        }
        self.begun.clear();
        self.too_long = false;
    }
}

/// The metric that a line is about; `None` for comments, empty lines and names in quotes.
pub(super) fn name_of(line: &[u8]) -> Option<&str> {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|byte| *byte == b'{' || byte.is_ascii_whitespace())?;
    let name = &line[..end];
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    if name.is_empty() || !name.iter().all(is_name) {
        return None;
    }
    std::str::from_utf8(name).ok()
}

/// Labels with their values, in the order of the line.
pub(super) type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The value of a label.
pub(super) fn label<'a>(labels: &'a Labels<'_>, name: &str) -> Option<&'a str> {
    labels.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_ref())
}

/// The labels and the value of a line; its timestamp and its exemplar are nobody's business. `None` where it cannot be
/// read.
pub(super) fn sample_of(line: &[u8]) -> Option<(Labels<'_>, f64)> {
    let line = std::str::from_utf8(line).ok()?.trim();
    let after_name = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let mut rest = line[after_name..].trim_start();
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start();
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (name, after) = rest.split_once('=')?;
            let (value, after) = quoted(after.trim_start())?;
            labels.push((name.trim(), value));
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if rest.starts_with('}') => {}
                None => return None,
            }
        }
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((labels, value))
}

/// A text in quotes, with what comes after it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let text = text.strip_prefix('"')?;
    let mut unescaped = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' if unescaped.is_empty() => {
                return Some((Cow::Borrowed(&text[..index]), &text[index + 1..]));
            }
            '"' => return Some((Cow::Owned(unescaped), &text[index + 1..])),
            '\\' => {
                if unescaped.is_empty() {
                    unescaped.push_str(&text[..index]);
                }
                unescaped.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                });
            }
            other if !unescaped.is_empty() => unescaped.push(other),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, u32) {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut each = |line: &[u8]| seen.push(String::from_utf8_lossy(line).into_owned());
        pieces.iter().for_each(|piece| lines.take(piece, &mut each));
        lines.finish(&mut each);
        (seen, lines.skipped)
    }

    #[test]
    fn lines_are_whole_however_the_page_is_cut() {
        let page = b"a 1\n\nbb 2\r\nccc 3";
        for cut in 0..page.len() {
            let (seen, skipped) = lines(&[&page[..cut], &page[cut..]]);
            let seen: Vec<_> = seen.into_iter().filter(|line| !line.is_empty()).collect();
            assert_eq!((seen, skipped), (vec!["a 1".into(), "bb 2\r".into(), "ccc 3".into()], 0), "{cut}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_skipped_and_takes_no_memory() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for _ in 0..1000 {
            lines.take(&[b'x'; 10_000], |line| seen.push(line.to_vec()));
            assert!(lines.begun.capacity() <= 2 * LONGEST_LINE);
        }
        lines.take(b"\nend 1\n", |line| seen.push(line.to_vec()));
        lines.take(&[[b'y'; 70_000].as_slice(), b"\nend 2\n"].concat(), |line| seen.push(line.to_vec()));
        assert_eq!(seen, [b"end 1", b"end 2"]);
        assert_eq!(lines.skipped, 2);
    }

    #[test]
    fn a_line_is_read_as_both_formats_write_it() {
        let labels = |line: &str| {
            let (labels, value) = sample_of(line.as_bytes())?;
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            Some((labels.join(" "), value))
        };
        for (line, said, value) in [
            ("a 1", "", 1.0),
            ("a{} 1", "", 1.0),
            ("a{le=\"+Inf\"} 1e+06 1700000000000", "le=+Inf", 1e6),
            ("a{le=\"0.5\",x=\"y\",} 7 # {trace_id=\"z\"} 0.3 1.7e9", "le=0.5 x=y", 7.0),
            (" a { le = \"1\" , x=\"\" } +Inf", "le=1 x=", f64::INFINITY),
            ("a{p=\"/x{y}\\\\z\\\"q\\\" # \\n,\"} 2\r", "p=/x{y}\\z\"q\" # \n,", 2.0),
            ("a{p=\"\\\\\"} 2", "p=\\", 2.0),
            ("a{p=\"größe\"} -0.5", "p=größe", -0.5),
        ] {
            assert_eq!(labels(line), Some((said.to_owned(), value)), "{line}");
            assert_eq!(name_of(line.as_bytes()), Some("a"), "{line}");
        }
        assert!(sample_of(b"a NaN").unwrap().1.is_nan());
        for line in
            ["a", "a{", "a{x}", "a{x=1} 1", "a{x=\"1} 1", "a{x=\"1\" y=\"2\"} 1", "a{x=\"1\"}", "a one"]
        {
            assert_eq!(labels(line), None, "{line}");
        }
        for line in ["# EOF", "# TYPE a counter", "", "  ", "{\"a b\"} 1", "<html>", "a-b 1"] {
            assert_eq!(name_of(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_does_harm(bytes in proptest::collection::vec(prop::sample::select(b"a_{}=\",\\ \n#1.+\xc3\xa4".to_vec()), 0..200), cut in 0..200_usize) {
            let cut = cut.min(bytes.len());
            let mut lines = Lines::default();
            let each = |line: &[u8]| drop((name_of(line), sample_of(line)));
            lines.take(&bytes[..cut], each);
            lines.take(&bytes[cut..], each);
            lines.finish(each);
        }

        #[test]
        fn a_labels_value_comes_back_as_it_was(value in "[ -~äλ\n\\\\\"]{0,40}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let line = format!("a{{x=\"{escaped}\"}} 1");
            let (labels, _) = sample_of(line.as_bytes()).unwrap();
            prop_assert_eq!(&labels[0].1, &value);
        }
    }
}
