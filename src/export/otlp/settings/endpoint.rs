//! Where a receiver is: a URL without a password in it.

use std::fmt;

use hyper::Uri;

/// Of a receiver that is named without a scheme and a port.
const GRPC_PORT: u16 = 4317;

/// Where a receiver is. It is shown without its query, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

impl Endpoint {
    /// A URL of HTTP, with this added to its path.
    pub(super) fn of_http(text: &str, more: &str) -> Result<Self, String> {
        let (tls, rest) = scheme(text)?
            .ok_or_else(|| format!("'{}' has no scheme: write http:// or https:// before it", shown(text)))?;
        Self::of(text, tls, rest, Some(more))
    }

    /// A URL of gRPC. Without a scheme it is `https`, unless `insecure`. A path says nothing there.
    pub(super) fn of_grpc(text: &str, insecure: bool) -> Result<Self, String> {
        let given = scheme(text)?;
        let (tls, rest) = given.unwrap_or((!insecure, text));
        let mut endpoint = Self::of(text, tls, rest, None)?;
        if given.is_none() && endpoint.uri.port().is_none() {
            endpoint.port = GRPC_PORT;
        }
        Ok(endpoint)
    }

    /// `more` is `None` where there is no path.
    fn of(text: &str, tls: bool, rest: &str, more: Option<&str>) -> Result<Self, String> {
        let no_url = |why: &str| format!("'{}' is no URL of a receiver: {why}", shown(text));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("a name or password in a URL is not supported: give it as a header".to_owned());
        }
        let path = path.split('#').next().unwrap_or_default();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let path = match more {
            None => String::new(),
            Some("") => path.to_owned(),
            Some(more) => format!("{}/{more}", path.trim_end_matches('/')),
        };
        let query = query.filter(|_| more.is_some()).map(|query| format!("?{query}")).unwrap_or_default();
        let scheme = if tls { "https" } else { "http" };
        let path = if path.is_empty() && !query.is_empty() { "/".to_owned() } else { path };
        let uri: Uri = format!("{scheme}://{authority}{path}{query}")
            .parse()
            .map_err(|_| no_url("it cannot be read"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| no_url("it has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let usual = if tls { 443 } else { 80 };
        let port = match uri.authority().map(|authority| &authority.as_str()[authority.host().len()..]) {
            None | Some("") => usual,
            Some(port) => port
                .trim_start_matches(':')
                .parse()
                .map_err(|_| no_url("its port is no number up to 65535"))?,
        };
        Ok(Self { uri, host, port, tls })
    }

    /// As it is asked for in a request.
    pub(in crate::export::otlp) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// A name or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is `https`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

/// Whether there is TLS, and what comes after the scheme; `None` where there is no scheme.
fn scheme(text: &str) -> Result<Option<(bool, &str)>, String> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Ok(Some((false, rest))),
        "https" => Ok(Some((true, rest))),
        _ => Err(format!("'{}' has a scheme that is neither http nor https", shown(text))),
    }
}

/// What may be shown of a text that is no URL: it may hold a password or a key.
fn shown(text: &str) -> &str {
    if text.contains('@') { "…" } else { text.split(['?', '#']).next().unwrap_or_default() }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let path = self.uri.path().trim_end_matches('/');
        write!(f, "{scheme}://{authority}{path}")
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
