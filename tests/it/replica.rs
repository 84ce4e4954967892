//! A stand-in for a replica of coderd: its relay and its health over HTTP or HTTPS, and the port of its NATS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;

use crate::encryption::Authority;

/// What a NATS server says first to another one.
const GREETING: &[u8] = b"INFO {\"server_id\":\"NBX\",\"host\":\"0.0.0.0\",\"auth_required\":true} \r\n";
/// And something that is no NATS.
const OTHER: &[u8] = b"220 mail.example.com ESMTP\r\n";

/// What its NATS port does.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Nats {
    Greets,
    /// As with TLS: connections are accepted, and nothing is said before a handshake.
    Silent,
    /// Something else greets.
    Other,
    /// Nothing listens.
    Closed,
}

/// It runs until the test ends.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) nats: SocketAddr,
    scheme: &'static str,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    relay_fails: AtomicBool,
    is_ill: AtomicBool,
    /// As coderd answers without its DERP server: with its dashboard, or with 404 where it was built without one.
    relays: Mutex<Option<&'static str>>,
    connections: AtomicUsize,
    paths: Mutex<Vec<String>>,
    nats_connections: AtomicUsize,
    /// What the NATS port was sent.
    nats_bytes: AtomicUsize,
}

impl Replica {
    pub(crate) fn start(ip: &str, nats: Nats) -> Self {
        Self::with(ip, nats, None)
    }

    /// Its relay speaks TLS, with a certificate for this name, and refuses whoever names another one.
    pub(crate) fn with_tls(ip: &str, nats: Nats, authority: &Authority, name: &str) -> Self {
        let (certificate, key) = authority.issue(name);
        let provider = probes::tls::provider();
        let key = provider.key_provider.load_private_key(key.serialize_der().try_into().unwrap()).unwrap();
        let mut names = ResolvesServerCertUsingSni::new();
        names.add(name, CertifiedKey::new(vec![certificate.der().clone()], key)).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(names));
        Self::with(ip, nats, Some(Arc::new(config)))
    }

    fn with(ip: &str, nats: Nats, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let told = Arc::<Told>::default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let http = serve(ip, &told, move |stream, told| {
            told.connections.fetch_add(1, Ordering::SeqCst);
            match &tls {
                None => answer(stream, told),
                Some(config) => {
                    let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                    answer(rustls::StreamOwned::new(connection, stream), told);
                }
            }
        });
        let nats_address = match nats {
            Nats::Closed => TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap(),
            nats => serve(ip, &told, move |mut stream, told| {
                told.nats_connections.fetch_add(1, Ordering::SeqCst);
                let _ = match nats {
                    Nats::Greets => stream.write_all(GREETING),
                    Nats::Other => stream.write_all(OTHER),
                    Nats::Silent | Nats::Closed => Ok(()),
                };
                let mut sent = Vec::new();
                let _ = stream.read_to_end(&mut sent);
                told.nats_bytes.fetch_add(sent.len(), Ordering::SeqCst);
            }),
        };
        Self { address: http, nats: nats_address, scheme, told }
    }

    /// What its row says as `relay_address`.
    pub(crate) fn relay(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Its relay hangs up on whoever asks, or answers again.
    pub(crate) fn let_relay_fail(&self, fails: bool) {
        self.told.relay_fails.store(fails, Ordering::SeqCst);
    }

    /// Its health answers 503.
    pub(crate) fn fall_ill(&self) {
        self.told.is_ill.store(true, Ordering::SeqCst);
    }

    /// Its DERP server is off: this is the answer instead.
    pub(crate) fn switch_relay_off(&self, answer: &'static str) {
        *self.told.relays.lock().unwrap() = Some(answer);
    }

    pub(crate) fn connections(&self) -> usize {
        self.told.connections.load(Ordering::SeqCst)
    }

    /// How often this path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.told.paths.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }

    /// How many have connected to its NATS port, and how many bytes they sent.
    pub(crate) fn nats_visits(&self) -> (usize, usize) {
        (self.told.nats_connections.load(Ordering::SeqCst), self.told.nats_bytes.load(Ordering::SeqCst))
    }
}

/// A thread for whoever connects.
fn serve(
    ip: &str,
    told: &Arc<Told>,
    behave: impl Fn(TcpStream, &Told) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (told, behave) = (Arc::clone(told), Arc::new(behave));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (told, behave) = (Arc::clone(&told), Arc::clone(&behave));
            std::thread::spawn(move || behave(stream, &told));
        }
    });
    address
}

/// Answers requests for as long as the client keeps the connection.
fn answer(mut stream: impl Read + Write, told: &Told) {
    let mut request = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            // A client that does not believe us leaves in the middle of the handshake.
            _ => return,
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
        let path = text.split_whitespace().nth(1).unwrap().to_owned();
        let instead = *told.relays.lock().unwrap();
        if let Some(instead) = instead.filter(|_| path == "/derp/latency-check") {
            if stream.write_all(instead.as_bytes()).is_err() || stream.flush().is_err() {
                return;
            }
            continue;
        }
        let fails = match path.as_str() {
            "/derp/latency-check" if told.relay_fails.load(Ordering::SeqCst) => return,
            "/derp/latency-check" | "/latency-check" => false,
            "/healthz" => told.is_ill.load(Ordering::SeqCst),
            _ => true,
        };
        told.paths.lock().unwrap().push(path);
        let status = if fails { "503 Service Unavailable" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).is_err() || stream.flush().is_err() {
            return;
        }
    }
}
