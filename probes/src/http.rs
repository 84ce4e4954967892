//! A GET on a fresh connection, phase by phase: resolve, connect, TLS, first byte, body.
//!
//! The round trip that is judged is request to first byte: connect and TLS take two or three round trips more on a
//! fresh connection, and a budget for one round trip must not be held against four.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper::header::{HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::sample::{Failure, Phases, Reason, Sample, Timing};
use crate::stopwatch::Stopwatch;
use crate::target::HostPort;
use crate::tcp::{connect, no_answer};
use crate::{Order, Probe};

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

    async fn get(&self, deadline: Duration) -> Result<Timing, Failure> {
        let watch = Stopwatch::start();
        let connected = connect(&self.url.address, deadline).await?;
        let mut phases =
            Phases { resolve: connected.resolve, tcp: Some(connected.connect), ..Phases::default() };
        let rtt = if self.url.tls {
            let name = self.sni.clone().unwrap_or_else(|| self.url.address.host.clone());
            let name = ServerName::try_from(name)
                .map_err(|error| Failure::new(Reason::Tls, format!("no name for TLS: {error}")))?;
            let handshake = Stopwatch::start();
            let stream = TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, connected.stream)
                .await
                .map_err(|error| Failure::new(Reason::Tls, format!("TLS handshake failed: {error}")))?;
            phases.tls = Some(handshake.elapsed());
            self.exchange(stream).await?
        } else {
            self.exchange(connected.stream).await?
        };
        phases.total = Some(watch.elapsed());
        Ok(Timing { rtt, phases: Some(phases), encrypted: Some(self.url.tls), ..Timing::default() })
    }

    /// One request on this stream; the time to the first byte of the answer (its head).
    async fn exchange<S>(&self, stream: S) -> Result<Duration, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| {
            let reason = if error.is_parse() { Reason::Protocol } else { Reason::Closed };
            Failure::new(reason, format!("no HTTP answer: {error}"))
        };
        let (mut requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = AbortOnDrop(tokio::spawn(async move {
            // An error of the connection is an error of the request, which is looked at below.
            let _ = connection.await;
        }));
        let request = hyper::Request::get(&self.url.path_and_query)
            .header(HOST, &self.url.authority)
            .header(USER_AGENT, concat!("probe/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::new(Reason::Local, format!("cannot write the request: {error}")))?;
        let watch = Stopwatch::start();
        let answer = requests.send_request(request).await.map_err(broken)?;
        let first_byte = watch.elapsed();
        let status = answer.status();
        if !status.is_success() {
            return Err(Failure::new(Reason::Status, format!("the answer's status is {status}")));
        }
        Limited::new(answer.into_body(), MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(|error| Failure::new(Reason::Protocol, format!("the answer's body: {error}")))?;
        drop(driver);
        Ok(first_byte)
    }
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

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
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
