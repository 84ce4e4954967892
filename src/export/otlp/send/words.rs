//! A stranger's words, as they may stand in a line of a log: on one line, cut, and without what is ours to keep to ourselves.

use crate::export::otlp::settings::Delivery;

/// Of a stranger's words.
const LONGEST: usize = 200;
/// A shorter part of a secret is no secret by itself.
const SHORTEST_PART: usize = 6;
const REDACTED: &str = "[redacted]";

/// What we send along and nobody may read in a log: a receiver that refuses us may well repeat it.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

/// Nothing of them is shown.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// Every header's value and the endpoint's query, each as a whole and in its parts: it may be repeated without its scheme, or
    /// quoted in another way.
    pub(super) fn of(delivery: &Delivery) -> Self {
        let values =
            delivery.headers.iter().map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let whole: Vec<String> = values.chain(delivery.endpoint.uri().query().map(str::to_owned)).collect();
        let mut all: Vec<String> = whole.iter().flat_map(|value| parts(value)).map(str::to_owned).collect();
        all.extend(whole.iter().map(|value| value.trim().to_owned()));
        all.retain(|secret| !secret.is_empty());
        // What has another in it goes first.
        all.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        all.dedup();
        Self(all)
    }

    /// As it may be shown. It is cut last, so that no part of a secret is left at the end.
    pub(super) fn shown(&self, text: &str) -> String {
        let plain = |character: char| if character.is_control() { ' ' } else { character };
        let text: String = text.trim().chars().map(plain).collect();
        let text = self.0.iter().fold(text, |text, secret| text.replace(secret, REDACTED));
        let mut shown: String = text.chars().take(LONGEST).collect();
        if text.chars().nth(LONGEST).is_some() {
            shown.push('…');
        }
        shown
    }
}

fn parts(value: &str) -> impl Iterator<Item = &str> {
    let is_inside = |character: char| character.is_alphanumeric() || "-_.+".contains(character);
    let parts = value.split(move |character| !is_inside(character));
    parts.filter(|part| part.chars().count() >= SHORTEST_PART && !part.eq_ignore_ascii_case("bearer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_cannot_forge_a_line_of_the_log() {
        let long = format!("{}\nERROR forged", "x".repeat(300));
        let shown = |text: &str| Secrets::default().shown(text);
        assert!(!shown("a\nERROR forged\x1b[2J").contains(['\n', '\x1b']));
        assert_eq!(shown(&long).chars().count(), 201);
    }

    #[test]
    fn a_secret_at_the_cut_leaves_nothing_of_it() {
        let secrets = Secrets(vec!["geheim".to_owned()]);
        for before in 190..205 {
            let shown = secrets.shown(&format!("{}geheim", "x".repeat(before)));
            assert!(!shown.contains("ge") && !shown.contains("[redacted]g"), "{shown}");
        }
    }
}
