//! A GET on a fresh connection, phase by phase: resolve, connect, TLS, first byte, body.
//!
//! The round trip that is judged is request to first byte: connect and TLS take two or three round trips more on a
//! fresh connection, and a budget for one round trip must not be held against four.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{ACCEPT, CONTENT_ENCODING, HOST, USER_AGENT};
use hyper::{Request, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::sample::{Failure, Phases, Reason, Sample, Timing};
use crate::stopwatch::Stopwatch;
use crate::target::HostPort;
use crate::tcp::{connect, no_answer};
use crate::{Order, Probe};

pub mod exchange;

use exchange::{Answer, ExchangeError, LONGEST_HEAD, ask};

/// No health answer is longer; what is longer is not read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// An `http://` or `https://` address without user and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    address: HostPort,
    tls: bool,
    path_and_query: String,
    authority: String,
}

/// What is wrong with an HTTP address. The address itself is not repeated where it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpUrlError {
    /// Not a URL at all.
    #[error("not a URL: {0}; write http://HOST[:PORT]/PATH")]
    Syntax(String),
    /// Another scheme, or none.
    #[error("the scheme must be http:// or https://")]
    Scheme,
    /// No host.
    #[error("the URL has no host; write http://HOST[:PORT]/PATH")]
    Host,
    /// A user or password in the URL.
    #[error("the URL has a user or password in it, which this probe does not send")]
    Credentials,
}

impl HttpUrl {
    /// Host and port that are dialled.
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    /// Whether it is `https://`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for HttpUrl {
    type Err = HttpUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|error| HttpUrlError::Syntax(format!("{error}")))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(HttpUrlError::Scheme),
        };
        let authority = uri.authority().ok_or(HttpUrlError::Host)?;
        if authority.as_str().contains('@') {
            return Err(HttpUrlError::Credentials);
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let address = HostPort::parse(authority.host(), Some(port)).map_err(|_| HttpUrlError::Host)?;
        Ok(Self {
            address,
            tls,
            path_and_query: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            authority: authority.to_string(),
        })
    }
}

impl fmt::Display for HttpUrl {
    /// Scheme, authority and path; a query may hold a token and is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let path = self.path_and_query.split('?').next().unwrap_or("/");
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

/// Measures an HTTP address.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    url: HttpUrl,
    sni: Option<String>,
    tls: Arc<ClientConfig>,
}

impl HttpProbe {
    /// A probe of this URL. `sni` replaces the URL's host in the TLS handshake, where it is also the name that the
    /// certificate must carry; `tls` says which certificates are believed.
    pub fn new(url: HttpUrl, sni: Option<String>, tls: Arc<ClientConfig>) -> Self {
        Self { url, sni, tls }
    }

    /// Reads the text behind this address, in pieces of any length, at most `longest` bytes of it. Nothing but a plain 200
    /// is an answer. What was taken before a failure is of no use.
    pub async fn read(
        &self,
        deadline: Duration,
        longest: usize,
        take: impl FnMut(&[u8]) + Send,
    ) -> Result<(), Failure> {
        let read = async {
            let (answer, _) = self.ask(deadline, Some("text/plain;version=0.0.4")).await?;
            if answer.status.is_redirection() {
                return Err(status("it redirects, which is not followed: status", &answer));
            }
            if answer.status != hyper::StatusCode::OK {
                return Err(status("the answer's status is", &answer));
            }
            if answer.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
                return Err(Failure::new(
                    Reason::Protocol,
                    "the answer is compressed, which was not asked for",
                ));
            }
            answer.pieces(longest, take).await.map_err(|error| match error {
                ExchangeError::Http(error) => broken(&error),
                error @ ExchangeError::TooLong(_) => Failure::new(Reason::Protocol, error.to_string()),
            })
        };
        match tokio::time::timeout(deadline, read).await {
            Ok(result) => result,
            Err(_) => Err(no_answer(deadline)),
        }
    }

    async fn get(&self, deadline: Duration) -> Result<Timing, Failure> {
        let watch = Stopwatch::start();
        let (answer, mut phases) = self.ask(deadline, None).await?;
        if !answer.status.is_success() {
            return Err(status("the answer's status is", &answer));
        }
        let rtt = answer.first_byte;
        answer
            .body(MAX_BODY_BYTES)
            .await
            .map_err(|error| Failure::new(Reason::Protocol, format!("the answer's body: {error}")))?;
        phases.total = Some(watch.elapsed());
        Ok(Timing { rtt, phases: Some(phases), encrypted: Some(self.url.tls), ..Timing::default() })
    }

    /// One request on a fresh connection, up to the head of its answer.
    async fn ask(&self, deadline: Duration, accept: Option<&str>) -> Result<(Answer, Phases), Failure> {
        let connected = connect(&self.url.address, deadline).await?;
        let mut phases =
            Phases { resolve: connected.resolve, tcp: Some(connected.connect), ..Phases::default() };
        let mut request = Request::get(&self.url.path_and_query)
            .header(HOST, &self.url.authority)
            .header(USER_AGENT, concat!("probe/", env!("CARGO_PKG_VERSION")));
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::new(Reason::Local, format!("cannot write the request: {error}")))?;
        let answer = if self.url.tls {
            let name = self.sni.clone().unwrap_or_else(|| self.url.address.host.clone());
            let name = ServerName::try_from(name)
                .map_err(|error| Failure::new(Reason::Tls, format!("no name for TLS: {error}")))?;
            let handshake = Stopwatch::start();
            let stream = TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, connected.stream)
                .await
                .map_err(|error| Failure::new(Reason::Tls, format!("TLS handshake failed: {error}")))?;
            phases.tls = Some(handshake.elapsed());
            ask(stream, request, LONGEST_HEAD).await
        } else {
            ask(connected.stream, request, LONGEST_HEAD).await
        };
        Ok((answer.map_err(|error| broken(&error))?, phases))
    }
}

fn broken(error: &hyper::Error) -> Failure {
    let reason = if error.is_parse() { Reason::Protocol } else { Reason::Closed };
    Failure::new(reason, format!("no HTTP answer: {error}"))
}

fn status(text: &str, answer: &Answer) -> Failure {
    Failure::new(Reason::Status, format!("{text} {}", answer.status))
}

impl Probe for HttpProbe {
    /// Both steps are a whole GET: there is nothing to keep open, and an address that does not answer is best known at
    /// once.
    async fn sample(&self, order: Order) -> Sample {
        match tokio::time::timeout(order.deadline, self.get(order.deadline)).await {
            Ok(Ok(timing)) => timing.into(),
            Ok(Err(failure)) => failure.into(),
            Err(_) => no_answer(order.deadline).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_url_keeps_its_query_to_itself() {
        let url: HttpUrl = "https://coder.example.com/healthz?token=hunter2".parse().unwrap();
        assert_eq!(url.to_string(), "https://coder.example.com/healthz");
        assert_eq!(url.address().port, 443);
        let url: HttpUrl = "http://[fd00::1]:8080".parse().unwrap();
        assert_eq!((url.address().host.as_str(), url.address().port), ("fd00::1", 8080));
        assert_eq!(url.to_string(), "http://[fd00::1]:8080/");
    }

    #[test]
    fn bad_urls_say_what_is_wrong_without_a_password() {
        for (text, part) in [
            ("coder.example.com/healthz", "not a URL"),
            ("coder.example.com", "scheme"),
            ("ftp://a/", "scheme"),
            ("http:///healthz", "not a URL"),
            ("http://user:hunter2@a/", "user or password"),
            ("", "not a URL"),
        ] {
            let error = text.parse::<HttpUrl>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter2"));
        }
    }
}
