//! The mesh secrets of one agent: who it is, and whom else it believes while a secret is being changed.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{MeshSecret, SecretError};

/// The one in force, the one that comes and the one that goes; more would be a list that nobody tidies.
pub const AT_MOST: usize = 3;

/// The first is who we are; all of them are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshSecrets {
    all: Vec<MeshSecret>,
    file: Option<PathBuf>,
}

/// Where in its text a secret stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    line: usize,
    /// Which one of its line, where that has more than one.
    part: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        self.part.map_or(Ok(()), |part| write!(f, ", secret {part}"))
    }
}

/// Why a text holds no mesh secrets. No word of it is part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// The only one is none, or there is none.
    #[error(transparent)]
    Only(SecretError),
    /// One of several is none.
    #[error("{0}: {1}")]
    At(Place, SecretError),
    /// The same one again.
    #[error("{0} has the same secret as {1}: remove one of them")]
    Twice(Place, Place),
    /// More than anybody needs.
    #[error(
        "{0} has one secret too many: {AT_MOST} are believed at most; remove those that no agent uses any more"
    )]
    TooMany(Place),
}

impl MeshSecrets {
    /// Reads one secret a line, or several with commas between them. Empty lines and those that begin with `#` count for
    /// nothing.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        let places = places(text);
        let mut all: Vec<(Place, MeshSecret)> = Vec::new();
        for (place, text) in &places {
            let secret = MeshSecret::parse(text).map_err(|error| match places.len() {
                1 => SecretsError::Only(error),
                _ => SecretsError::At(*place, error),
            })?;
            if let Some((first, _)) = all.iter().find(|(_, known)| *known == secret) {
                return Err(SecretsError::Twice(*place, *first));
            }
            if all.len() == AT_MOST {
                return Err(SecretsError::TooMany(*place));
            }
            all.push((*place, secret));
        }
        if all.is_empty() {
            return Err(SecretsError::Only(SecretError::Empty));
        }
        Ok(Self { all: all.into_iter().map(|(_, secret)| secret).collect(), file: None })
    }

    /// The same, which were read from this file.
    pub fn from_file(self, path: &Path) -> Self {
        Self { file: Some(path.to_owned()), ..self }
    }

    /// Where they were read from; `None` where they were given themselves, and so cannot change.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// How many are believed.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Whose we are, first, and whom else we believe. There is always a first.
    pub(crate) fn all(&self) -> &[MeshSecret] {
        &self.all
    }
}

impl From<MeshSecret> for MeshSecrets {
    fn from(only: MeshSecret) -> Self {
        Self { all: vec![only], file: None }
    }
}

fn places(text: &str) -> Vec<(Place, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.flat_map(|(line, text)| {
        let is_list = text.contains(',');
        // A comma at the end is no second secret.
        let parts = text.split(',').map(str::trim).enumerate().filter(|(_, part)| !part.is_empty());
        parts.map(move |(at, part)| (Place { line, part: is_list.then_some(at + 1) }, part))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex() -> String {
        MeshSecret::generate_hex().unwrap()
    }

    fn error(text: &str) -> String {
        MeshSecrets::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn one_a_line_or_with_commas_the_first_is_who_we_are() {
        let [a, b, c] = [hex(), hex(), hex()];
        let expected = [&a, &b, &c].map(|text| MeshSecret::parse(text).unwrap());
        for text in [
            format!("{a}\n{b}\n{c}\n"),
            format!("# since May, of Ann\n\n{a}\r\n  # next\n{b}  \n\n{c}"),
            format!("{a},{b},{c}"),
            format!("{a}, {b},\n{c}\n"),
        ] {
            assert_eq!(MeshSecrets::parse(&text).unwrap().all(), expected, "{text}");
        }
        assert_eq!(MeshSecrets::parse(&b).unwrap().all(), &expected[1..2]);
        assert_ne!(
            MeshSecrets::parse(&format!("{a}\n{b}")).unwrap(),
            MeshSecrets::parse(&format!("{b}\n{a}")).unwrap(),
            "another first is another agent"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_its_words() {
        let [a, b, c, d] = [hex(), hex(), hex(), hex()];
        assert!(
            error(&format!("{a}\n\n{b}\n{}\n", a.to_uppercase()))
                .starts_with("line 4 has the same secret as line 1")
        );
        assert!(
            error(&format!("{a},{b},{a}"))
                .starts_with("line 1, secret 3 has the same secret as line 1, secret 1")
        );
        assert!(
            error(&format!("{a}\n{b}\n# {d}\n{c}\n{d}\n"))
                .starts_with("line 5 has one secret too many: 3 are")
        );
        assert!(
            error(&format!("{a}\nhunter2!\n"))
                .starts_with("line 2: the mesh secret is neither hex nor base64")
        );
        assert!(
            error("hunter2!").starts_with("the mesh secret is neither"),
            "of one alone nobody counts lines"
        );
        for empty in ["", " \n\n", "# nothing\n", ","] {
            assert_eq!(MeshSecrets::parse(empty), Err(SecretsError::Only(SecretError::Empty)), "{empty:?}");
        }
        for text in [format!("{a}\n{a}"), format!("{a}\nhunter2!"), format!("{a}\n{b}\n{c}\n{d}")] {
            let said = error(&text);
            assert!(
                [&a, &d].iter().all(|secret| !said.contains(&secret[..8])) && !said.contains("hunter2"),
                "{said}"
            );
        }
        let all = MeshSecrets::parse(&format!("{a}\n{b}")).unwrap();
        assert!(!format!("{all:?}").contains(&a[..8]));
    }
}
