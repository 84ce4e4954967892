//! The parameters of a request: known ones, each once, in UTF-8.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// Longer than any name that agents tell each other.
const VALUE_AT_MOST: usize = 512;

/// The parameters that were given, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(BTreeMap<&'static str, String>);

impl Query {
    /// Reads what stands behind the question mark; the error is for people.
    pub(super) fn parse(text: Option<&str>, known: &[&'static str]) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().find(|known| **known == name) else {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(format!("'{}' is not a parameter of this; known: {known}", shown(name)));
            };
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8();
            let value = value.map_err(|_| format!("{name}: not UTF-8"))?.into_owned();
            if value.is_empty() || value.len() > VALUE_AT_MOST {
                return Err(format!("{name}: 1 to {VALUE_AT_MOST} bytes are expected"));
            }
            if all.insert(*name, value).is_some() {
                return Err(format!("{name} is given twice"));
            }
        }
        Ok(Self(all))
    }

    /// This parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// This parameter, without which there is no answer.
    pub(super) fn need(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("{name} is missing"))
    }

    /// One of these words.
    pub(super) fn word(&self, name: &str, words: &[&str]) -> Result<Option<&str>, String> {
        match self.get(name) {
            Some(word) if !words.contains(&word) => {
                Err(format!("{name}: '{}' is not one of {}", shown(word), words.join(", ")))
            }
            word => Ok(word),
        }
    }

    /// The same for the same parameters, in whichever order they were given.
    pub(super) fn canonical(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// What somebody wrote, so short and plain that it can be shown.
fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query, String> {
        Query::parse(Some(text), &["source", "kind"])
    }

    #[test]
    fn names_and_values_are_read_and_the_order_makes_no_difference() {
        let query = parse("source=a%20b%26c+d&kind=peer&").unwrap();
        assert_eq!((query.get("source"), query.get("kind")), (Some("a b&c d"), Some("peer")));
        assert_eq!(query.canonical(), parse("kind=peer&source=a+b%26c%20d").unwrap().canonical());
        assert_eq!(Query::parse(None, &[]), Ok(Query::default()));
        assert_eq!(query.word("kind", &["peer", "tcp"]), Ok(Some("peer")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("sauce=a", "'sauce' is not a parameter of this; known: source, kind"),
            ("source=a&source=b", "source is given twice"),
            ("source=", "source: 1 to 512 bytes"),
            ("source=%ff", "source: not UTF-8"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(parse(&format!("source={}", "a".repeat(513))).is_err());
        assert_eq!(parse("").unwrap().need("kind"), Err("kind is missing".to_owned()));
        let error = parse("kind=pear").unwrap().word("kind", &["peer", "tcp"]).map(|_| ()).unwrap_err();
        assert_eq!(error, "kind: 'pear' is not one of peer, tcp");
    }
}
