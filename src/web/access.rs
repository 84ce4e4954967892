//! Who may ask, and over which line: an optional token, an optional certificate, both read anew when their files change.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// A Secret's or a ConfigMap's change is a symbolic link's, which no file watch sees reliably.
const LOOK_AT_FILES: Duration = Duration::from_secs(5);
/// Shorter ones can be guessed.
const TOKEN_AT_LEAST: usize = 16;

/// Where HTTP is served, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The socket.
    pub address: SocketAddr,
    /// The file whose first line everybody has to know; `None` is open to all who reach the socket.
    pub token_file: Option<PathBuf>,
    /// Files of the certificate with its chain and of its key, PEM; `None` is plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Plain HTTP for all who reach this socket.
impl From<SocketAddr> for Settings {
    fn from(address: SocketAddr) -> Self {
        Self { address, token_file: None, tls: None }
    }
}

/// Why nobody may be let in.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {cause}")]
pub struct AccessError {
    /// The flag.
    pub key: &'static str,
    /// What is wrong with its file, without any of the file's words.
    pub cause: String,
}

impl AccessError {
    fn of(key: &'static str, path: &Path, cause: impl std::fmt::Display) -> Self {
        Self { key, cause: format!("{}: {cause}", path.display()) }
    }
}

/// What is in the files.
#[derive(Debug)]
pub struct Access {
    settings: Settings,
    token: watch::Sender<Option<Arc<str>>>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl Access {
    /// Reads the files.
    pub fn read(settings: &Settings) -> Result<Self, AccessError> {
        let token = settings.token_file.as_deref().map(token).transpose()?;
        let tls = settings.tls.as_ref().map(|(certificate, key)| tls(certificate, key)).transpose()?;
        Ok(Self {
            settings: settings.clone(),
            token: watch::Sender::new(token),
            tls: watch::Sender::new(tls),
        })
    }

    /// Who is let in.
    pub(super) fn guard(&self) -> Guard {
        Guard { token: self.token.subscribe(), is_local: self.settings.address.ip().is_loopback() }
    }

    /// What the line is encrypted with.
    pub(super) fn tls(&self) -> watch::Receiver<Option<Arc<ServerConfig>>> {
        self.tls.subscribe()
    }

    /// Takes over what the files say from now on; what cannot be read or used changes nothing, and is said once.
    pub(super) async fn follow(self) {
        let files: Vec<_> =
            self.settings.tls.iter().flat_map(|(certificate, key)| [certificate, key]).collect();
        let files: Vec<_> = self.settings.token_file.iter().chain(files).collect();
        if files.is_empty() {
            return std::future::pending().await;
        }
        // A few kilobytes in the page cache: reading them blocks nobody.
        let contents = || files.iter().map(|path| std::fs::read(path).ok()).collect::<Vec<_>>();
        let mut known = contents();
        let mut look = interval(LOOK_AT_FILES);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let seen = contents();
            if seen == known {
                continue;
            }
            known = seen;
            match Self::read(&self.settings) {
                Ok(access) => {
                    self.token.send_replace(access.token.borrow().clone());
                    self.tls.send_replace(access.tls.borrow().clone());
                    tracing::info!(
                        "the token or the certificate of the web server is another one from now on"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, "the web server keeps its token and its certificate");
                }
            }
        }
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, AccessError> {
    std::fs::read(path)
        .map_err(|error| AccessError { key, cause: format!("cannot read {}: {error}", path.display()) })
}

fn token(path: &Path) -> Result<Arc<str>, AccessError> {
    const KEY: &str = "--web-token-file";
    let text = read(KEY, path)?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default().trim();
    if line.len() < TOKEN_AT_LEAST || !line.bytes().all(|byte| byte.is_ascii_graphic()) {
        let cause = format!(
            "its first line has to be a token of {TOKEN_AT_LEAST} or more letters, digits and signs: `probe secret new` makes one"
        );
        return Err(AccessError::of(KEY, path, cause));
    }
    Ok(line.into())
}

fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, AccessError> {
    const CERTIFICATE: &str = "--web-certificate";
    const KEY: &str = "--web-key";
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(CERTIFICATE, certificate)?).collect();
    let chain = chain.map_err(|error| AccessError::of(CERTIFICATE, certificate, error))?;
    if chain.is_empty() {
        return Err(AccessError::of(CERTIFICATE, certificate, "no certificate in PEM is in it"));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(KEY, key)?);
    let private = private.map_err(|error| AccessError::of(KEY, key, error))?;
    let config = ServerConfig::builder_with_provider(probes::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|error| AccessError::of(CERTIFICATE, certificate, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Who is let in.
#[derive(Clone)]
pub(super) struct Guard {
    token: watch::Receiver<Option<Arc<str>>>,
    /// Only this machine reaches the socket.
    is_local: bool,
}

/// Lets in who knows the token; where there is none, at a socket of this machine alone, who asks for it by a name of this machine: a page
/// from elsewhere whose name leads here (DNS rebinding) is somebody else.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let wanted = guard.token.borrow().clone();
    match wanted {
        Some(token) if knows(request.headers(), &token) => return next.run(request).await,
        None if !guard.is_local || is_of_this_machine(request.headers()) => return next.run(request).await,
        None => {
            let cause = "this agent serves its own machine, and was asked by another name than localhost or an address: give it a \
                         token (--web-token-file), or another address to serve (--web)";
            return (StatusCode::MISDIRECTED_REQUEST, super::api::refusal(cause)).into_response();
        }
        Some(_) => {}
    }
    let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let is_person = accepted.is_some_and(|accepted| accepted.contains("text/html"));
    let mut answer = (
        StatusCode::UNAUTHORIZED,
        [(CACHE_CONTROL, "no-store")],
        super::api::refusal("a token is needed: send it as `Authorization: Bearer TOKEN`"),
    )
        .into_response();
    let schemes = answer.headers_mut();
    schemes.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"probe\""));
    // A browser knows no other way to ask a person, and sends it with every request of the page from then on. The page itself asks
    // in a form of its own.
    if is_person {
        schemes
            .append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"probe\", charset=\"UTF-8\""));
    }
    answer
}

/// `localhost`, or an address: no name of the world leads to those.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let Some(asked) = headers.get(HOST) else { return true };
    let asked = asked.to_str().unwrap_or_default();
    let host = match asked.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => asked,
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    host == "localhost" || host.ends_with(".localhost") || address.parse::<IpAddr>().is_ok()
}

/// By either scheme; of the basic one, the password is the token.
fn knows(headers: &HeaderMap, token: &str) -> bool {
    let told = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, rest)) = told.and_then(|told| told.split_once(' ')) else { return false };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return same(rest.as_bytes(), token.as_bytes());
    }
    let decoded = STANDARD.decode(rest).unwrap_or_default();
    let password = decoded.iter().position(|byte| *byte == b':').map(|colon| &decoded[colon + 1..]);
    scheme.eq_ignore_ascii_case("basic") && password.is_some_and(|told| same(told, token.as_bytes()))
}

/// Takes as long for what is nearly right as for what is wrong from the first byte on; only the length may show.
fn same(told: &[u8], token: &[u8]) -> bool {
    let differences = told.iter().zip(token).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    told.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn the_token_is_known_by_either_scheme_and_nothing_else_is() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (told, may) in [
            (format!("Bearer {TOKEN}"), true),
            (format!("bearer  {TOKEN} "), true),
            (basic(&format!("anybody:{TOKEN}")), true),
            (basic(&format!(":{TOKEN}")), true),
            (format!("Bearer {TOKEN}0"), false),
            (format!("Bearer {}", TOKEN.to_uppercase()), false),
            (format!("Bearer {}", &TOKEN[1..]), false),
            ("Bearer ".to_owned(), false),
            (basic(TOKEN), false),
            (basic("anybody:"), false),
            ("Basic %%%".to_owned(), false),
            (TOKEN.to_owned(), false),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, told.parse().unwrap())]);
            assert_eq!(knows(&headers, TOKEN), may, "{told}");
        }
        assert!(!knows(&HeaderMap::new(), TOKEN));
    }

    #[test]
    fn an_address_and_localhost_are_this_machine_and_no_other_name_is() {
        for (asked, is_ours) in [
            ("localhost", true),
            ("LocalHost:9863", true),
            ("coderd-1.localhost:9863", true),
            ("127.0.0.1", true),
            ("127.0.0.1:9863", true),
            ("[::1]:9863", true),
            ("[::1]", true),
            ("probe.example.com", false),
            ("localhost.example.com:9863", false),
            ("127.0.0.1.nip.io:9863", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, asked.parse().unwrap())]);
            assert_eq!(is_of_this_machine(&headers), is_ours, "{asked}");
        }
        assert!(is_of_this_machine(&HeaderMap::new()), "an old client says none, and a browser always does");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_words() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let settings = |token_file: Option<PathBuf>, tls: Option<(PathBuf, PathBuf)>| {
            let address = ([127, 0, 0, 1], 0).into();
            Access::read(&Settings { address, token_file, tls })
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert_eq!(settings(Some(file("good", &format!("{TOKEN}\n"))), None), Ok(()));
        for (error, part) in [
            (settings(Some("/nowhere/token".into()), None), "--web-token-file: cannot read /nowhere/token"),
            (settings(Some(file("short", "hunter2")), None), "a token of 16 or more"),
            (settings(Some(file("spaces", "hunter2 hunter2 hunter2")), None), "a token of 16 or more"),
            (settings(None, Some((file("cert", "hunter2"), file("key", "hunter2")))), "--web-certificate: "),
        ] {
            let error = error.unwrap_err();
            assert!(error.contains(part) && !error.contains("hunter2 "), "{error}");
        }
    }
}
