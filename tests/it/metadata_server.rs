//! What may answer where a cloud's metadata service is asked for: the service itself, or something that only looks like it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A request; names of headers are in small letters.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What comes back.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Status, headers, body.
    Reply(u16, Vec<(&'static str, String)>, String),
    /// Nothing, with the connection open.
    Silence,
    /// The head, and then a byte now and then without end.
    Trickle,
    /// Bytes that are no HTTP.
    Garbage,
    /// A body without end.
    Endless,
    /// The connection is closed.
    HangUp,
}

pub(crate) fn ok(body: &str) -> Answer {
    Answer::Reply(200, Vec::new(), body.to_owned())
}

pub(crate) fn status(code: u16) -> Answer {
    Answer::Reply(code, Vec::new(), String::new())
}

/// A server with one behaviour.
pub(crate) struct MetadataServer {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl MetadataServer {
    pub(crate) fn start(behave: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            ended: Arc::new(AtomicBool::new(false)),
        };
        let (requests, ended) = (Arc::clone(&server.requests), Arc::clone(&server.ended));
        let behave = Arc::new(behave);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, requests, behave) =
                    (stream.unwrap(), Arc::clone(&requests), Arc::clone(&behave));
                std::thread::spawn(move || {
                    // Whoever hangs up in the middle has heard enough.
                    let _ = serve(stream, &requests, &*behave);
                });
            }
        });
        server
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for MetadataServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    requests: &Mutex<Vec<Request>>,
    behave: &dyn Fn(&Request) -> Answer,
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let request = Request { method, path, headers };
    requests.lock().unwrap().push(request.clone());
    match behave(&request) {
        Answer::Reply(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            writer.write_all(format!("{head}\r\n{body}").as_bytes())
        }
        Answer::Garbage => writer.write_all(b"\0\x01 I am a printer\r\n\r\n"),
        Answer::HangUp => Ok(()),
        Answer::Endless => {
            writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
            loop {
                writer.write_all(chunk.as_bytes())?;
            }
        }
        Answer::Trickle => {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nu")?;
            until_it_hangs_up(&mut reader)
        }
        Answer::Silence => until_it_hangs_up(&mut reader),
    }
}

fn until_it_hangs_up(reader: &mut impl Read) -> std::io::Result<()> {
    while reader.read(&mut [0; 64])? > 0 {}
    Ok(())
}

/// EC2 with version 2 only: no token, no answer.
pub(crate) fn ec2(region: &'static str, zone: &'static str) -> impl Fn(&Request) -> Answer + Send + Sync {
    move |request| {
        const TOKEN: &str = "AQAEAFyW-5Q_0hC+/x==";
        if request.method == "PUT" && request.path == "/latest/api/token" {
            return match request.header("x-aws-ec2-metadata-token-ttl-seconds") {
                Some("60") => ok(TOKEN),
                _ => status(400),
            };
        }
        if request.header("x-aws-ec2-metadata-token") != Some(TOKEN) {
            return status(401);
        }
        match request.path.as_str() {
            "/latest/meta-data/placement/region" => ok(region),
            "/latest/meta-data/placement/availability-zone" => ok(zone),
            "/latest/meta-data/placement/availability-zone-id" => ok("use1-az4"),
            "/latest/meta-data/instance-id" => ok("i-0123456789abcdef0"),
            _ => status(404),
        }
    }
}

/// Compute Engine, or GKE where the zone is not told.
pub(crate) fn compute_engine(
    zone: &'static str,
    cluster: Option<&'static str>,
) -> impl Fn(&Request) -> Answer + Send + Sync {
    move |request| {
        let google = |status, body: &str| {
            Answer::Reply(status, vec![("Metadata-Flavor", "Google".to_owned())], body.to_owned())
        };
        let from_inside = request.header("host") == Some("metadata.google.internal");
        if request.header("metadata-flavor") != Some("Google") || !from_inside {
            return google(403, "");
        }
        match (request.path.as_str(), cluster) {
            ("/computeMetadata/v1/instance/zone", _) if !zone.is_empty() => google(200, zone),
            ("/computeMetadata/v1/instance/id", _) => google(200, "1234567890123456789"),
            ("/computeMetadata/v1/instance/attributes/cluster-location", Some(place)) => google(200, place),
            _ => google(404, ""),
        }
    }
}

/// Azure.
pub(crate) fn azure(location: &'static str, zone: &'static str) -> impl Fn(&Request) -> Answer + Send + Sync {
    move |request| {
        if request.header("metadata") != Some("true") || request.header("x-forwarded-for").is_some() {
            return status(400);
        }
        match request.path.as_str() {
            "/metadata/instance/compute?api-version=2021-02-01" => ok(&format!(
                r#"{{"location":"{location}","zone":"{zone}","vmId":"02AAB8A4-74EF-476E-8182-F6D2BA4166A6","name":"vm-1"}}"#
            )),
            _ => status(404),
        }
    }
}

/// The front page of whoever runs the network, whatever was asked.
pub(crate) fn captive_proxy(_: &Request) -> Answer {
    ok("<html><body>Please accept the terms of use.</body></html>")
}
