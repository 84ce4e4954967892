//! Lists of `key=value`, percent-encoded: headers, which are secrets, and attributes, which are not.

use std::fmt;

use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// Ours to set: another value would break the request.
const RESERVED: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-encoding",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
];

/// What is sent along with each request. Shown without the values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// Reads a list; what cannot be used is left out and said, without its value.
    pub(super) fn parse(variable: &str, list: &str) -> (Self, Vec<String>) {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        let mut notices = Vec::new();
        for (place, entry) in (1..).zip(list.split(',')) {
            if entry.trim().is_empty() {
                continue;
            }
            match header(entry) {
                Ok((name, value)) => {
                    headers.retain(|(other, _)| *other != name);
                    headers.push((name, value));
                }
                Err(why) => notices.push(format!("{variable}: entry {place} is left out: {why}")),
            }
        }
        (Self(headers), notices)
    }

    pub(in crate::export::otlp) fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name.as_str())).finish()
    }
}

fn header(entry: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = entry.split_once('=').ok_or("it has no '=' in it")?;
    let name = name.trim();
    let name: HeaderName = name.parse().map_err(|_| "its name is no name of a header")?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!("{name} is set by the agent"));
    }
    let value =
        decode(value.trim()).ok_or_else(|| format!("the value of {name} is not percent-encoded well"))?;
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| format!("the value of {name} has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Reads `OTEL_RESOURCE_ATTRIBUTES`: all of it or nothing. The last of two with one key wins.
pub(super) fn attributes(list: &str) -> Result<Vec<(String, String)>, String> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (key, value) = entry.split_once('=').ok_or_else(|| format!("'{entry}' has no '=' in it"))?;
        let bad = || format!("'{entry}' is not percent-encoded well");
        let key = decode(key.trim()).ok_or_else(bad)?;
        let value = decode(value.trim()).ok_or_else(bad)?;
        if key.is_empty() {
            return Err(format!("'{entry}' has no key"));
        }
        attributes.retain(|(other, _)| *other != key);
        attributes.push((key, value));
    }
    Ok(attributes)
}

/// `None` where a `%` is not followed by two hexadecimal digits, or the bytes are no text.
fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let whole = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !whole {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
