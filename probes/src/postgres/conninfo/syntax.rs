//! The two written forms of a connection string, taken apart into keys and values.
//!
//! A text that cannot be taken apart may hold its password anywhere, so no message made here quotes it: what is
//! wrong is said in fixed words, and a key is only named where it cannot be a piece of a password.

use std::net::Ipv6Addr;

use super::ConninfoError;

/// One `key=value` of the text, decoded.
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    /// The key may be a piece of a password that was not quoted, and must not be shown.
    pub(super) hidden: bool,
}

impl Pair {
    fn known(key: &str, value: String) -> Self {
        Self { key: key.to_owned(), value, hidden: false }
    }
}

/// Takes the text apart. Where a key stands twice, the later one counts.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair>, ConninfoError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ConninfoError::Empty);
    }
    if text.contains('\0') {
        return Err(ConninfoError::Syntax("it holds a NUL character: remove it"));
    }
    if text.starts_with(['"', '\'']) {
        return Err(ConninfoError::Syntax("it starts with a quote: remove the quotes around it"));
    }
    let pairs = match text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        Some((scheme, rest)) if is_postgres(scheme) => url_pairs(rest)?,
        Some((scheme, _)) => return Err(ConninfoError::Scheme(scheme.to_owned())),
        None => keyword_pairs(text)?,
    };
    // Two lines joined without the space between them would make the password a part of a value that is shown.
    if pairs.iter().any(|pair| pair.key != "password" && pair.value.contains("password=")) {
        return Err(ConninfoError::Syntax(
            "the separator before `password=` is missing: write a space (`&` in a URL)",
        ));
    }
    Ok(pairs)
}

fn is_scheme(text: &str) -> bool {
    let name = text.strip_prefix("jdbc:").unwrap_or(text);
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 16
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn is_postgres(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("postgres") || scheme.eq_ignore_ascii_case("postgresql")
}

const RESERVED: &str =
    "percent-encode a user, password or database name that holds one of : / ? # @ % (/ is %2F, @ is %40)";

/// What follows `postgres://`. As in Go's net/url, which reads it for coderd, the user and password end at the last
/// `@` before the first `/` or `?`. A bare `#`, and an `@` after that, is a password that was not encoded.
fn url_pairs(rest: &str) -> Result<Vec<Pair>, ConninfoError> {
    if rest.contains('#') || rest.contains(char::is_control) {
        return Err(ConninfoError::Url("it holds a bare `#` or a control character", RESERVED));
    }
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match location.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (location, None),
    };
    let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let query_is_password = path.is_none() && !authority.contains('@') && query.contains('@');
    if query_is_password || path.is_some_and(|path| path.contains('@')) {
        return Err(ConninfoError::Url("it has an `@` after the first `/` or `?`", RESERVED));
    }

    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let (hosts, ports) = url_hosts(hosts)?;
    let mut pairs = vec![
        Pair::known("user", percent_decoded(user)?),
        Pair::known("password", percent_decoded(password)?),
        Pair::known("host", hosts),
        Pair::known("port", ports),
        Pair::known("dbname", percent_decoded(path.unwrap_or(""))?),
    ];
    let mut hidden = query.contains('@');
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let Some((key, value)) = parameter.split_once('=') else {
            return Err(ConninfoError::Url("a parameter after the `?` has no `=`", RESERVED));
        };
        // Go reads a `+` in the query, and only there, as a space.
        let key = percent_decoded(&key.replace('+', " "))?;
        let value = percent_decoded(&value.replace('+', " "))?;
        let is_password = key == "password";
        pairs.push(Pair { key, value, hidden });
        hidden = query.contains('@') || is_password;
    }
    Ok(pairs)
}

/// `host:port,host2:port2` as the two lists that the keyword form has. The list of ports is empty if none is given.
fn url_hosts(text: &str) -> Result<(String, String), ConninfoError> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for element in text.split(',') {
        let (host, port) = match element.strip_prefix('[') {
            Some(bracketed) => bracketed_host(bracketed)?,
            None => element.split_once(':').unwrap_or((element, "")),
        };
        // What stands here may be a password without its `@host`: the number is not shown.
        if !port.is_empty() && !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(ConninfoError::Url("what follows the host is not a port from 1 to 65535", RESERVED));
        }
        hosts.push(percent_decoded(host)?);
        ports.push(port);
    }
    let any_port = ports.iter().any(|port| !port.is_empty());
    Ok((hosts.join(","), if any_port { ports.join(",") } else { String::new() }))
}

/// The address and the port of `::1]:5432`.
fn bracketed_host(text: &str) -> Result<(&str, &str), ConninfoError> {
    let invalid = ConninfoError::Url("what stands in brackets is not an IPv6 address", "write [::1]:5432");
    let Some((host, after)) = text.split_once(']') else { return Err(invalid) };
    let address = host.split('%').next().unwrap_or(host);
    let port = if after.is_empty() { Some("") } else { after.strip_prefix(':') };
    match port {
        Some(port) if address.parse::<Ipv6Addr>().is_ok() => Ok((host, port)),
        _ => Err(invalid),
    }
}

fn percent_decoded(text: &str) -> Result<String, ConninfoError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        match after {
            [high, low, after @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            _ => {
                return Err(ConninfoError::Url(
                    "a `%` is not followed by two hex digits",
                    "write a bare `%` as %25",
                ));
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(ConninfoError::Url(
            "its percent-encoding holds a NUL or is not UTF-8",
            "encode the text as UTF-8",
        )),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `key=value key='quoted \' value'`, with libpq's rules: spaces may stand around `=`, a backslash takes the next
/// character as it is.
fn keyword_pairs(text: &str) -> Result<Vec<Pair>, ConninfoError> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let key_end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (key, after) = rest.split_at(key_end);
        let Some(value_start) = after.trim_start().strip_prefix('=') else {
            return Err(ConninfoError::Syntax(
                "a word has no `=` after it: quote a value that holds a space, as in password='a b'",
            ));
        };
        let (value, after) = keyword_value(value_start.trim_start())?;
        let hidden = pairs.last().is_some_and(|pair| pair.key == "password");
        pairs.push(Pair { key: key.to_owned(), value, hidden });
        rest = after.trim_start();
    }
    // A lone `word=` may be a base64 password that was given instead of a connection string.
    if let [only] = pairs.as_mut_slice() {
        only.hidden = true;
    }
    Ok(pairs)
}

/// The value that `text` starts with, and what follows it.
fn keyword_value(text: &str) -> Result<(String, &str), ConninfoError> {
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted.is_some() => {
                let after = &body[at + 1..];
                if after.starts_with(|c: char| !c.is_whitespace()) {
                    return Err(ConninfoError::Syntax(
                        "a closing quote is not followed by a space: write a quote inside a value as \\'",
                    ));
                }
                return Ok((value, after));
            }
            c if quoted.is_none() && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted.is_some() {
        return Err(ConninfoError::Syntax(
            "a quoted value has no closing quote: write a quote inside it as \\'",
        ));
    }
    Ok((value, ""))
}
