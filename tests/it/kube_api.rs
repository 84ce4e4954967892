//! An API server of the tests: it lists in pages and watches with bookmarks, and fails in all the ways of a real one.
//!
//! It speaks HTTP/1.1 by hand, since a connection must also break in the middle of an answer.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// How a list or a watch is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Serve,
    /// RBAC says no.
    Deny,
    /// This status, with a message that differs each time.
    Status(u16, &'static str),
    /// Nothing ever comes.
    Hang,
    /// 200, and a text that is not of this API.
    Garbage,
    /// The connection is closed before an answer.
    Drop,
    /// A watch only: opened, and closed in good order at once.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    List,
    Watch,
}

/// What somebody asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The service whose slices, or `nodes`.
    pub(crate) what: String,
    pub(crate) verb: Verb,
    pub(crate) path: String,
    pub(crate) version: Option<String>,
    pub(crate) authorization: Option<String>,
}

struct Event {
    version: u64,
    what: String,
    kind: &'static str,
    object: Value,
}

#[derive(Default)]
struct State {
    version: u64,
    /// Versions before this are forgotten.
    oldest: u64,
    objects: BTreeMap<(String, String), Value>,
    log: VecDeque<Event>,
    moods: BTreeMap<(String, Verb), Mood>,
    /// Whether a forgotten version is an answer with 410, or an event in a watch that was opened.
    gone_in_the_stream: bool,
    asked: Vec<Asked>,
    open: usize,
    /// Watches that began before are over: cut off, or closed in good order.
    cut: u64,
    /// All requests are answered with status and message counted from here.
    count: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_modify(|count| *count += 1);
        result
    }
}

/// A running server; it ends with it.
pub(crate) struct KubeApi {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    /// Tests of exact times wait for this one to end. A test must not have two servers at once.
    _busy: Box<dyn std::any::Any>,
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KubeApi {
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let busy = Box::new(crate::house::busy());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { version: 100, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(0) });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            // Dropped with this task.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, tls) = (Arc::clone(&serving), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, shared, task, _busy: busy }
    }

    /// Creates or changes an object: a slice of a service, or one of `nodes`.
    pub(crate) fn put(&self, what: &str, name: &str, object: &Value) {
        self.shared.change(|state| state.put(what, name, object));
    }

    /// Many at once.
    pub(crate) fn put_all(&self, what: &str, objects: impl IntoIterator<Item = (String, Value)>) {
        self.shared.change(|state| {
            objects.into_iter().for_each(|(name, object)| state.put(what, &name, &object));
        });
    }

    pub(crate) fn delete(&self, what: &str, name: &str) {
        self.shared.change(|state| {
            let mut object = state.objects.remove(&(what.to_owned(), name.to_owned())).unwrap();
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            let event = Event { version: state.version, what: what.to_owned(), kind: "DELETED", object };
            state.log.push_back(event);
        });
    }

    pub(crate) fn mood(&self, what: &str, verb: Verb, mood: Mood) {
        self.shared.change(|state| state.moods.insert((what.to_owned(), verb), mood));
    }

    /// Breaks all watches off, in the middle of a chunk.
    pub(crate) fn cut(&self) {
        self.shared.change(|state| state.cut += 1);
    }

    /// Sends every watch a bookmark with a version of its own, for which there is no event.
    pub(crate) fn bookmark(&self) -> u64 {
        self.shared.change(|state| {
            state.version += 1;
            let object = json!({"kind": "x", "apiVersion": "x", "metadata": {"resourceVersion": state.version.to_string()}});
            let event = Event { version: state.version, what: "*".into(), kind: "BOOKMARK", object };
            state.log.push_back(event);
            state.version
        })
    }

    /// Forgets all that happened, so that every version of before is too old.
    pub(crate) fn forget(&self, in_the_stream: bool) {
        self.shared.change(|state| {
            state.version += 1;
            state.oldest = state.version;
            state.log.clear();
            state.gone_in_the_stream = in_the_stream;
        });
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.state().asked.clone()
    }

    pub(crate) fn count(&self, what: &str, verb: Verb) -> usize {
        self.shared.state().asked.iter().filter(|asked| asked.what == what && asked.verb == verb).count()
    }

    /// Waits until so many such requests came.
    pub(crate) async fn wait_for(&self, what: &str, verb: Verb, count: usize) {
        self.until(|_| self.count(what, verb) >= count, "requests").await;
    }

    /// Waits until so many watches are open.
    pub(crate) async fn wait_for_open(&self, count: usize) {
        self.until(|shared| shared.state().open == count, "watches").await;
    }

    async fn until(&self, reached: impl Fn(&Shared) -> bool, what: &str) {
        let mut changed = self.shared.changed.subscribe();
        let waited = timeout(PATIENCE, async {
            while !reached(&self.shared) {
                changed.changed().await.unwrap();
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{what} did not come: {:#?}", self.asked()));
    }
}

impl State {
    fn put(&mut self, what: &str, name: &str, object: &Value) {
        self.version += 1;
        let mut object = object.clone();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.objects.insert((what.to_owned(), name.to_owned()), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push_back(Event { version: self.version, what: what.to_owned(), kind, object });
    }

    fn status(&mut self, code: u16, reason: &str) -> String {
        self.count += 1;
        let message = match code {
            403 => "User \"system:serviceaccount:coder:probe\" cannot do this".to_owned(),
            _ => format!("something went wrong, number {}", self.count),
        };
        let (kind, status) = ("Status", "Failure");
        json!({"kind": kind, "status": status, "code": code, "reason": reason, "message": message})
            .to_string()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: &Shared) {
    // Whoever hangs up is what some tests want.
    while let Some(asked) = read(&mut stream).await {
        let (asked, query) = asked;
        let mood = shared.change(|state| {
            state.asked.push(asked.clone());
            let mood = state.moods.get(&(asked.what.clone(), asked.verb));
            mood.copied().unwrap_or(Mood::Serve)
        });
        let body = match mood {
            Mood::Serve if asked.verb == Verb::Watch => {
                return watch_events(&mut stream, shared, &asked).await;
            }
            Mood::Close if asked.verb == Verb::Watch => {
                let closed = format!("{CHUNKED}0\r\n\r\n");
                if stream.write_all(closed.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
            Mood::Serve | Mood::Close => (200, list(shared, &asked.what, &query)),
            Mood::Deny => (403, shared.state().status(403, "Forbidden")),
            Mood::Status(code, reason) => (code, shared.state().status(code, reason)),
            Mood::Garbage => (200, "<html>Please log in.</html>\n".to_owned()),
            Mood::Hang => std::future::pending().await,
            Mood::Drop => return,
        };
        let (code, body) = body;
        let answer = format!(
            "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The head of a request; none of those that come here has a body.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(Asked, BTreeMap<String, String>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.replace("%2F", "/").replace("%3D", "=")))
        .collect();
    let service =
        query.get("labelSelector").and_then(|text| text.strip_prefix("kubernetes.io/service-name="));
    let what = if path == "/api/v1/nodes" { "nodes" } else { service.unwrap_or("?") };
    let verb = if query.get("watch").is_some_and(|watch| watch == "true") { Verb::Watch } else { Verb::List };
    let authorization = head.lines().filter_map(|line| line.split_once(": "));
    let authorization =
        authorization.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let asked = Asked {
        what: what.to_owned(),
        verb,
        path: path.to_owned(),
        version: query.get("resourceVersion").cloned(),
        authorization: authorization.map(|(_, value)| value.to_owned()),
    };
    Some((asked, query))
}

fn list(shared: &Shared, what: &str, query: &BTreeMap<String, String>) -> String {
    let state = shared.state();
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let from = number("continue").unwrap_or(0);
    let all: Vec<_> =
        state.objects.iter().filter(|((of, _), _)| of == what).map(|(_, object)| object).collect();
    let to = all.len().min(from + number("limit").unwrap_or(usize::MAX - from));
    let next = if to < all.len() { to.to_string() } else { String::new() };
    let version = state.version.to_string();
    json!({"kind": "List", "metadata": {"resourceVersion": version, "continue": next}, "items": all[from..to]}).to_string()
}

const CHUNKED: &str =
    "HTTP/1.1 200 X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

async fn watch_events<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, shared: &Shared, asked: &Asked) {
    let mut from: u64 = asked.version.as_ref().unwrap().parse().unwrap();
    let mut changed = shared.changed.subscribe();
    let (gone, in_the_stream, cut) = {
        let state = shared.state();
        (from < state.oldest, state.gone_in_the_stream, state.cut)
    };
    if gone {
        let status = shared.state().status(410, "Expired");
        let answer = if in_the_stream {
            let event = format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n");
            format!("{CHUNKED}{:x}\r\n{event}\r\n0\r\n\r\n", event.len())
        } else {
            format!("HTTP/1.1 410 X\r\ncontent-length: {}\r\n\r\n{status}", status.len())
        };
        let _ = stream.write_all(answer.as_bytes()).await;
        return;
    }
    if stream.write_all(CHUNKED.as_bytes()).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    shared.change(|state| state.open += 1);
    loop {
        let (chunk, is_cut) = {
            let state = shared.state();
            let mut chunk = String::new();
            for event in state.log.iter().filter(|event| event.version > from) {
                if event.what == asked.what || event.what == "*" {
                    chunk.push_str(&json!({"type": event.kind, "object": event.object}).to_string());
                    chunk.push('\n');
                }
            }
            from = from.max(state.version);
            (chunk, state.cut != cut)
        };
        if is_cut {
            // A chunk that is shorter than it says.
            let _ = stream.write_all(b"ff\r\n{\"type\":").await;
            break;
        }
        let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        if !chunk.starts_with("0\r\n")
            && (stream.write_all(chunk.as_bytes()).await.is_err() || stream.flush().await.is_err())
        {
            break;
        }
        let over = tokio::select! {
            told = changed.changed() => told.is_err(),
            // Nobody sends anything on a watch: this is the end of it.
            _ = stream.read_u8() => true,
        };
        if over {
            break;
        }
    }
    shared.change(|state| state.open -= 1);
}
