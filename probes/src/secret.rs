//! The mesh secret: at least 32 random bytes, written as hex or base64, that make one trust domain.
//!
//! Whoever holds it can be any agent. Weak ones are refused here, because nobody would notice them later.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};

mod list;

pub use list::{AT_MOST, MeshSecrets, SecretsError};

/// The fewest bytes of a mesh secret.
pub const MIN_BYTES: usize = 32;

/// The decoded bytes of a mesh secret. They are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MeshSecret(Vec<u8>);

impl fmt::Debug for MeshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshSecret(***)")
    }
}

/// Why a text is not a mesh secret. The text itself is never part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing there.
    #[error("the mesh secret is empty; make one with `probe secret new`")]
    Empty,
    /// Neither hex nor base64.
    #[error("the mesh secret is neither hex nor base64; make one with `probe secret new`")]
    Encoding,
    /// Too short.
    #[error(
        "the mesh secret has {0} bytes, at least {MIN_BYTES} random ones are needed; make one with `probe secret new`"
    )]
    Short(usize),
    /// So regular that it cannot be random.
    #[error("the mesh secret is not random: its bytes repeat; make one with `probe secret new`")]
    Weak,
    /// The system gave no random bytes.
    #[error("the system's random source gave nothing")]
    NoRandom,
}

impl MeshSecret {
    /// Reads hex or base64 (standard or URL-safe alphabet, padding optional); white space around it is ignored.
    ///
    /// A text that is valid hex is read as hex, so each secret has one meaning on every agent.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        let bytes = from_hex(text).or_else(|| from_base64(text)).ok_or(SecretError::Encoding)?;
        if bytes.len() < MIN_BYTES {
            return Err(SecretError::Short(bytes.len()));
        }
        if looks_regular(&bytes) {
            return Err(SecretError::Weak);
        }
        Ok(Self(bytes))
    }

    /// A new secret of 32 bytes from the system's random source, as hex.
    pub fn generate_hex() -> Result<String, SecretError> {
        random_hex(MIN_BYTES)
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// So many bytes from the system's random source, as hex.
pub fn random_hex(bytes: usize) -> Result<String, SecretError> {
    let mut bytes = vec![0_u8; bytes];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SecretError::NoRandom)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// 32 random bytes hold fewer than 16 distinct values about once in 10^11 secrets; a typed phrase of letters repeated,
/// a row of zeros or a counted pattern does at once. A run that steps by a constant is caught apart.
fn looks_regular(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in bytes {
        seen[usize::from(*byte)] = true;
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    let step = bytes[1].wrapping_sub(bytes[0]);
    let counted = bytes.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step);
    distinct < 16 || counted
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (alphabet, standard) = (text.trim_end_matches('='), text.contains(['+', '/']));
    if standard { STANDARD_NO_PAD.decode(alphabet).ok() } else { URL_SAFE_NO_PAD.decode(alphabet).ok() }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    #[test]
    fn the_same_bytes_in_any_writing_are_the_same_secret() {
        let hex = MeshSecret::generate_hex().unwrap();
        let secret = MeshSecret::parse(&hex).unwrap();
        let bytes = secret.expose();
        for text in [
            format!("{hex}\n"),
            hex.to_uppercase(),
            STANDARD.encode(bytes),
            URL_SAFE.encode(bytes),
            format!("  {}\r\n", STANDARD_NO_PAD.encode(bytes)),
        ] {
            assert_eq!(MeshSecret::parse(&text).unwrap(), secret, "{text}");
        }
    }

    #[test]
    fn weak_secrets_are_refused() {
        for (text, error) in [
            ("", SecretError::Empty),
            (" \n", SecretError::Empty),
            ("correct horse battery staple", SecretError::Encoding),
            ("c2VjcmV0", SecretError::Short(6)),
            (&"0".repeat(64), SecretError::Weak),
            (&"deadbeef".repeat(8), SecretError::Weak),
            (&"changeme".repeat(8), SecretError::Weak),
            (&(0..32).map(|i| format!("{i:02x}")).collect::<String>(), SecretError::Weak),
            (&MeshSecret::generate_hex().unwrap()[..62], SecretError::Short(31)),
        ] {
            assert_eq!(MeshSecret::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn no_error_and_no_debug_shows_the_secret() {
        let hex = MeshSecret::generate_hex().unwrap();
        assert_eq!(format!("{:?}", MeshSecret::parse(&hex).unwrap()), "MeshSecret(***)");
        assert!(!MeshSecret::parse(&format!("{hex}!")).unwrap_err().to_string().contains(&hex[..8]));
    }
}
