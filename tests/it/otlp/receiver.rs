//! Receivers that do as they are told: over HTTP with a thread a connection, over gRPC with a runtime of their own.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it does with a request that it has read.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Takes it.
    Take,
    /// Answers so: status, headers, body.
    Answer(u16, &'static [(&'static str, &'static str)], Vec<u8>),
    /// Of gRPC: a status, with details.
    Status(i32, Vec<u8>),
    /// Of gRPC: these words beside the status, as they are, in the head of an answer without a body or in its trailers.
    Words { in_head: bool, words: Vec<(&'static str, String)> },
    /// Takes it and is gone before it has said so.
    Vanish,
    /// Takes it, says so, and closes.
    TakeAndClose,
    /// Keeps the connection and says nothing.
    Silence,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) logs: Option<ExportLogsServiceRequest>,
    pub(super) metrics: Option<ExportMetricsServiceRequest>,
    /// Which connection it came on.
    pub(super) connection: usize,
}

impl Received {
    fn new(path: &str, headers: BTreeMap<String, String>, body: &[u8], connection: usize) -> Self {
        let is_logs = path.contains("log") || path.contains("Logs");
        Self {
            path: path.to_owned(),
            headers,
            logs: is_logs.then(|| ExportLogsServiceRequest::decode(body).unwrap()),
            metrics: (!is_logs).then(|| ExportMetricsServiceRequest::decode(body).unwrap()),
            connection,
        }
    }

    /// The ids of the events in it.
    pub(super) fn ids(&self) -> Vec<String> {
        let records = self.logs.iter().flat_map(|logs| &logs.resource_logs[0].scope_logs[0].log_records);
        records
            .map(|record| {
                let uid = record.attributes.iter().find(|pair| pair.key == "log.record.uid").unwrap();
                match uid.value.as_ref().unwrap().value.as_ref().unwrap() {
                    opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text) => {
                        text.clone()
                    }
                    other => panic!("{other:?}"),
                }
            })
            .collect()
    }
}

#[derive(Default)]
struct Book {
    received: Mutex<Vec<Received>>,
    came: Condvar,
    script: Mutex<VecDeque<Reply>>,
}

impl Book {
    fn next(&self, received: Received) -> Reply {
        let reply = self.script.lock().unwrap().pop_front().unwrap_or(Reply::Take);
        self.received.lock().unwrap().push(received);
        self.came.notify_all();
        reply
    }
}

/// A receiver.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    book: Arc<Book>,
    _runtime: Option<tokio::runtime::Runtime>,
}

impl Receiver {
    /// Over HTTP. It does what the script says with one request after the other, and takes all that come later.
    pub(super) fn http(tls: Option<Arc<ServerConfig>>, script: impl IntoIterator<Item = Reply>) -> Self {
        let book = Arc::new(Book { script: Mutex::new(script.into_iter().collect()), ..Book::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let own = Arc::clone(&book);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (book, tls) = (Arc::clone(&own), tls.clone());
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    // A client that is gone or refuses us is what some tests are about.
                    let _ = match tls {
                        None => serve(stream, &book, number),
                        Some(tls) => serve(
                            StreamOwned::new(ServerConnection::new(tls).unwrap(), stream),
                            &book,
                            number,
                        ),
                    };
                });
            }
        });
        Self { address, book, _runtime: None }
    }

    /// Over gRPC.
    pub(super) fn grpc(tls: Option<Arc<ServerConfig>>, script: impl IntoIterator<Item = Reply>) -> Self {
        let book = Arc::new(Book { script: Mutex::new(script.into_iter().collect()), ..Book::default() });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let own = Arc::clone(&book);
        runtime.spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (book, tls) = (Arc::clone(&own), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve_grpc(stream, book, number).await,
                        Some(tls) => {
                            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                                serve_grpc(stream, book, number).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, book, _runtime: Some(runtime) }
    }

    /// Waits until what it has got so far makes this true.
    pub(super) fn wait_until(&self, what: &str, is_so: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let received = self.book.received.lock().unwrap();
        let (received, late) = self
            .book
            .came
            .wait_timeout_while(received, Duration::from_secs(60), |received| !is_so(received))
            .unwrap();
        assert!(!late.timed_out(), "{what}: {received:#?}");
        received.clone()
    }

    /// Waits for so many requests.
    pub(super) fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} requests"), |received| received.len() >= count)
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.book.received.lock().unwrap().clone()
    }
}

fn serve(stream: impl Read + Write, book: &Book, connection: usize) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        stream.read_exact(&mut body)?;
        if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
            body = plain;
        }
        let reply = book.next(Received::new(&path, headers, &body, connection));
        let protobuf: &[_] = &[("Content-Type", "application/x-protobuf")];
        let (status, more, body) = match &reply {
            Reply::Take | Reply::TakeAndClose => (200, protobuf, Vec::new()),
            Reply::Answer(status, headers, body) => (*status, *headers, body.clone()),
            Reply::Vanish => return Ok(()),
            Reply::Silence => loop {
                if stream.read(&mut [0; 512])? == 0 {
                    return Ok(());
                }
            },
            Reply::Status(..) | Reply::Words { .. } => unreachable!("that is gRPC's"),
        };
        let mut answer = format!("HTTP/1.1 {status} As Told\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in more {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        answer.push_str("\r\n");
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().write_all(&body)?;
        stream.get_mut().flush()?;
        if matches!(reply, Reply::TakeAndClose) {
            return Ok(());
        }
    }
}

type Body = http_body_util::combinators::BoxBody<bytes::Bytes, std::convert::Infallible>;

/// An answer of gRPC with these words in it, right or wrong.
fn answer_in(in_head: bool, words: Vec<(&'static str, String)>) -> hyper::Response<Body> {
    let response = hyper::Response::builder().header("content-type", "application/grpc");
    if in_head {
        let response = words.into_iter().fold(response, |all, (name, value)| all.header(name, value));
        return response.body(Full::default().boxed()).unwrap();
    }
    let trailers = words.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let trailers: hyper::HeaderMap = trailers.collect();
    let body = Full::new(bytes::Bytes::from(vec![0; 5])).with_trailers(async move { Some(Ok(trailers)) });
    response.body(body.boxed()).unwrap()
}

/// Of somebody who speaks HTTP/2 and no gRPC.
fn foreign(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
) -> hyper::Response<Body> {
    let response = hyper::Response::builder().status(status);
    let response = headers.iter().fold(response, |all, (name, value)| all.header(*name, *value));
    response.body(Full::from(body).boxed()).unwrap()
}

async fn serve_grpc<S>(stream: S, book: Arc<Book>, connection: usize)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let book = Arc::clone(&book);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
            let headers: BTreeMap<_, _> =
                head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            // A byte that says whether it is compressed, and four for its length.
            let mut message = body[5..].to_vec();
            if body[0] == 1 {
                message.clear();
                flate2::read::GzDecoder::new(&body[5..]).read_to_end(&mut message).unwrap();
            }
            let reply = book.next(Received::new(head.uri.path(), headers, &message, connection));
            let (status, details) = match reply {
                Reply::Take => (0, Vec::new()),
                Reply::Status(status, details) => (status, details),
                Reply::Silence => std::future::pending().await,
                Reply::Words { in_head, words } => return Ok(answer_in(in_head, words)),
                Reply::Answer(status, headers, body) => return Ok(foreign(status, headers, body)),
                other => unreachable!("{other:?} is HTTP/1's"),
            };
            let mut trailers = hyper::HeaderMap::new();
            trailers.insert("grpc-status", status.into());
            if !details.is_empty() {
                use base64::Engine;
                let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
                trailers.insert("grpc-status-details-bin", encoded.parse().unwrap());
            }
            let answer = if status == 0 { vec![0; 5] } else { Vec::new() };
            let body = Full::new(bytes::Bytes::from(answer)).with_trailers(async move { Some(Ok(trailers)) });
            let response = hyper::Response::builder().header("content-type", "application/grpc");
            Ok::<_, hyper::Error>(response.body(body.boxed()).unwrap())
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A client that is gone is what some tests are about.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// Takes connections and never says a word.
pub(super) fn black_hole() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// Whether anybody has connected to it.
pub(super) fn fell_in(listener: &TcpListener) -> TcpStream {
    listener.accept().unwrap().0
}
