//! A GET on a fresh connection, phase by phase: resolve, connect, TLS, first byte, body; and one on a kept connection.
//!
//! The round trip that is judged is request to first byte: connect and TLS take two or three round trips more on a
//! fresh connection, and a budget for one round trip must not be held against four.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::sample::{Failure, Phases, Reason, Sample, Timing};
use crate::stopwatch::Stopwatch;
use crate::target::HostPort;
use crate::tcp::{connect, no_answer};
use crate::{Order, Probe, Step};

pub mod exchange;
mod read;

pub use read::Wish;

use exchange::{Answer, Connection, LONGEST_HEAD};

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
    /// Only the empty answer of a relay will do.
    is_relay: bool,
}

impl HttpProbe {
    /// A probe of this URL. `sni` replaces the URL's host in the TLS handshake, where it is also the name that the
    /// certificate must carry; `tls` says which certificates are believed.
    pub fn new(url: HttpUrl, sni: Option<String>, tls: Arc<ClientConfig>) -> Self {
        Self { url, sni, tls, is_relay: false }
    }

    async fn get(&self, deadline: Duration) -> Result<Timing, Failure> {
        let watch = Stopwatch::start();
        let (answer, mut phases) = self.ask(deadline, None).await?;
        let rtt = self.finish(answer).await?;
        phases.total = Some(watch.elapsed());
        Ok(Timing { rtt, phases: Some(phases), encrypted: Some(self.url.tls), ..Timing::default() })
    }

    /// Reads the rest of a good answer; the time to its first byte.
    async fn finish(&self, answer: Answer) -> Result<Duration, Failure> {
        if self.is_relay && is_no_relay(&answer) {
            let text = "nothing relays there, CODER_DERP_SERVER_ENABLE may be false: the answer is a web page or none, status";
            return Err(Failure::new(Reason::NoRelay, format!("{text} {}", answer.status)));
        }
        if !answer.status.is_success() {
            return Err(status("the answer's status is", &answer));
        }
        let first_byte = answer.first_byte;
        answer
            .body(MAX_BODY_BYTES)
            .await
            .map_err(|error| Failure::new(Reason::Protocol, format!("the answer's body: {error}")))?;
        Ok(first_byte)
    }

    /// One request on a fresh connection, up to the head of its answer.
    async fn ask(&self, deadline: Duration, wish: Option<Wish<'_>>) -> Result<(Answer, Phases), Failure> {
        let (connection, phases) = self.open(deadline).await?;
        let answer = connection.ask_once(self.request(wish)?).await.map_err(|error| broken(&error))?;
        Ok((answer, phases))
    }

    fn request(&self, wish: Option<Wish<'_>>) -> Result<Request<Empty<Bytes>>, Failure> {
        let mut request = Request::get(&self.url.path_and_query)
            .header(HOST, &self.url.authority)
            .header(USER_AGENT, concat!("probe/", env!("CARGO_PKG_VERSION")));
        if let Some(Wish { accept, bearer }) = wish {
            request = request.header(ACCEPT, accept);
            if let Some(bearer) = bearer {
                request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
            }
        }
        request
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::new(Reason::Local, format!("cannot write the request: {error}")))
    }

    /// A connection on which nothing has been asked yet.
    async fn open(&self, deadline: Duration) -> Result<(Connection, Phases), Failure> {
        let connected = connect(&self.url.address, deadline).await?;
        let mut phases =
            Phases { resolve: connected.resolve, tcp: Some(connected.connect), ..Phases::default() };
        let connection = if self.url.tls {
            let name = self.sni.clone().unwrap_or_else(|| self.url.address.host.clone());
            let name = ServerName::try_from(name)
                .map_err(|error| Failure::new(Reason::Tls, format!("no name for TLS: {error}")))?;
            let handshake = Stopwatch::start();
            let stream = TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, connected.stream)
                .await
                .map_err(|error| Failure::new(Reason::Tls, format!("TLS handshake failed: {error}")))?;
            phases.tls = Some(handshake.elapsed());
            Connection::over(stream, LONGEST_HEAD).await
        } else {
            Connection::over(connected.stream, LONGEST_HEAD).await
        };
        Ok((connection.map_err(|error| broken(&error))?, phases))
    }
}

/// Without its DERP server coderd has no such path, and answers as for any page of its dashboard; or with 404, where it was
/// built without one.
fn is_no_relay(answer: &Answer) -> bool {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_page = answer.status.is_success() && kind.starts_with("text/html");
    is_page || answer.status == StatusCode::NOT_FOUND
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

/// Measures coderd's relay: in each slot a GET on a kept connection, and when a connect is asked for, one on a fresh
/// connection, as coderd itself pings the other replicas. A server may close a kept connection that was idle; then the
/// next slot opens another one first, which is no part of its round trip.
#[derive(Clone)]
pub struct RelayProbe {
    http: HttpProbe,
    kept: Arc<Mutex<Option<Connection>>>,
}

impl RelayProbe {
    /// A probe of the relay that is reached in this way.
    pub fn new(http: HttpProbe) -> Self {
        Self { http: HttpProbe { is_relay: true, ..http }, kept: Arc::default() }
    }

    async fn ask(&self, deadline: Duration) -> Result<Timing, Failure> {
        // A slot that comes while another one still waits opens a connection of its own: it does not queue up.
        let kept = self.lock().take().filter(Connection::stands);
        let (mut connection, phases) = match kept {
            Some(connection) => (connection, None),
            None => {
                let (connection, phases) = self.http.open(deadline).await?;
                (connection, Some(phases))
            }
        };
        let answer = connection.ask(self.http.request(None)?).await.map_err(|error| broken(&error))?;
        let rtt = self.http.finish(answer).await?;
        *self.lock() = Some(connection);
        Ok(Timing { rtt, phases, encrypted: Some(self.http.url.tls), ..Timing::default() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        // Nothing is left half done under this lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe for RelayProbe {
    async fn sample(&self, order: Order) -> Sample {
        if order.step != Step::Measure {
            return self.http.sample(order).await;
        }
        match tokio::time::timeout(order.deadline, self.ask(order.deadline)).await {
            Ok(Ok(timing)) => timing.into(),
            Ok(Err(failure)) => failure.into(),
            Err(_) => no_answer(order.deadline).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sample::Outcome;
    use crate::tls::{Trust, client_config};

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

    /// A server that answers so many requests on each connection and then closes it; it counts the connections.
    fn relay(requests_each: usize) -> (RelayProbe, Arc<AtomicUsize>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    for _ in 0..requests_each {
                        let mut request = Vec::new();
                        while !request.ends_with(b"\r\n\r\n") {
                            let mut byte = [0];
                            if stream.read(&mut byte).unwrap_or(0) == 0 {
                                return;
                            }
                            request.push(byte[0]);
                        }
                        assert!(request.starts_with(b"GET /derp/latency-check HTTP/1.1\r\n"));
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                    }
                });
            }
        });
        let url = format!("http://127.0.0.1:{port}/derp/latency-check").parse().unwrap();
        let tls = client_config(Trust::Nothing, None, None).unwrap();
        (RelayProbe::new(HttpProbe::new(url, None, Arc::new(tls))), connections)
    }

    async fn ask(probe: &RelayProbe, step: Step) -> Timing {
        match probe.sample(Order { step, deadline: Duration::from_secs(5) }).await.outcome {
            Outcome::Ok(timing) => timing,
            outcome => panic!("{outcome:?}"),
        }
    }

    #[tokio::test]
    async fn the_relay_is_asked_on_one_kept_connection_and_beside_it_on_a_fresh_one() {
        let (probe, connections) = relay(usize::MAX);
        assert!(ask(&probe, Step::Measure).await.phases.is_some(), "it has opened a connection");
        for _ in 0..3 {
            assert_eq!(ask(&probe, Step::Measure).await.phases, None);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        let phases = ask(&probe, Step::Connect).await.phases.unwrap();
        assert!(phases.tcp.is_some() && phases.total > phases.tcp, "{phases:?}");
        assert_eq!(connections.load(Ordering::SeqCst), 2);
        assert_eq!(ask(&probe, Step::Measure).await.phases, None, "the kept one is still there");
    }

    #[tokio::test]
    async fn a_kept_connection_that_the_server_closed_while_it_was_idle_is_no_loss() {
        let (probe, connections) = relay(1);
        for _ in 0..3 {
            ask(&probe, Step::Measure).await;
            // Until the end of the connection has been seen.
            while probe.lock().as_ref().is_some_and(Connection::stands) {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(connections.load(Ordering::SeqCst), 3);
    }
}
