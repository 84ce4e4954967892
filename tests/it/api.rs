//! The HTTP API: what several real agents say of one mesh, what is streamed, who may ask, and that all of it is as described.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use probe::export::api::delta::{Delta, Snapshot};
use probes::stopwatch::Stopwatch;
use serde_json::Value;

use crate::house::{Agent, Run, Secret, pause, probe};
use crate::relay::Relay;
use crate::schema::Schemas;

/// An answer: status, head and body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.head, String::from_utf8_lossy(&self.body)))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

fn ask(agent: &Agent, path: &str, more: &str) -> Answer {
    ask_as(agent, "localhost", path, more)
}

fn ask_as(agent: &Agent, host: &str, path: &str, more: &str) -> Answer {
    let mut stream = TcpStream::connect(agent.web).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n{more}\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

fn get(agent: &Agent, path: &str) -> Value {
    let answer = ask(agent, path, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.head);
    answer.json()
}

/// Asks until this is so.
fn until<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Result<T, String>) -> T {
    let patience = Stopwatch::start();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(seen) => assert!(patience.elapsed() < Duration::from_secs(seconds), "{what}: {seen}"),
        }
        pause();
    }
}

/// Agents of which each measures all others: their addresses are known once they run, and a file tells them then.
struct Mesh {
    agents: Vec<Agent>,
    secret: Secret,
}

impl Mesh {
    fn of(names: &[&str]) -> Self {
        let secret = Secret::new();
        let files: Vec<_> = names.iter().map(|name| secret.file(&format!("{name}.toml"), "")).collect();
        let agents: Vec<_> = names
            .iter()
            .zip(&files)
            .map(|(name, file)| start(&secret, name, &["--config", file], &[]))
            .collect();
        for (own, file) in files.iter().enumerate() {
            let others = agents.iter().enumerate().filter(|(other, _)| *other != own);
            let peers: Vec<_> = others.map(|(_, agent)| format!("\"{}=coderd\"", agent.reflector)).collect();
            std::fs::write(file, format!("[targets]\npeer = [{}]\n", peers.join(", "))).unwrap();
            agents[own].signal("HUP");
        }
        Self { agents, secret }
    }

    /// Everybody knows every pair, and each is within its budget.
    fn settle(&self) {
        let (agents, pairs) = (self.agents.len(), self.agents.len() * (self.agents.len() - 1));
        for agent in &self.agents {
            until("not everybody knows all", 60, || {
                let matrix = get(agent, "/api/v1/matrix");
                let cells = matrix["cells"].as_array().unwrap();
                let well =
                    cells.iter().filter(|cell| cell["state"] == "ok" && cell["p50_us"].is_number()).count();
                let all = matrix["agents"].as_array().unwrap().len() == agents && cells.len() == pairs;
                if all && well == pairs { Ok(()) } else { Err(format!("{matrix:#}")) }
            });
        }
    }
}

fn start(secret: &Secret, name: &str, more: &[&str], variables: &[(&str, &str)]) -> Agent {
    let mut arguments = vec!["agent", "--name", name, "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"];
    arguments.extend(["--role", "coderd", "--region", "cellar", "--zone", name]);
    arguments.extend(more);
    let mut command = probe(&arguments);
    command.env("PROBE_MESH_SECRET_FILE", &secret.path).env("PROBE_INTERVALS__PEER", "100ms");
    Agent::with(command.envs(variables.iter().copied()))
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {list:#}"))
}

#[test]
fn an_agent_that_is_gone_is_history_with_every_other_one() {
    let mut mesh = Mesh::of(&["a", "b", "c", "d", "e"]);
    mesh.settle();
    let matrix = get(&mesh.agents[0], "/api/v1/matrix");
    assert_eq!(matrix["verdict"]["words"], "All 20 judged paths are within their budget.");
    assert_eq!((&matrix["vantage"]["agent"], &matrix["vantage"]["zone"]), (&"a".into(), &"a".into()));
    assert!(named(&matrix["agents"], "a")["heard_ago_us"].is_null(), "{matrix:#}");
    assert!(matrix["zone_pairs"].as_array().unwrap().iter().all(|pair| pair["budget_us"] == 10_000.0));
    // Killed, not stopped: it says no goodbye.
    drop(mesh.agents.pop());
    for agent in &mesh.agents {
        until("it is not history", 30, || {
            let matrix = get(agent, "/api/v1/matrix");
            let stale = matrix["agents"].as_array().unwrap().iter().filter(|agent| agent["stale"] == true);
            let stale: Vec<_> = stale.map(|agent| agent["name"].as_str().unwrap()).collect();
            let words = matrix["verdict"]["words"].as_str().unwrap();
            let cells = matrix["cells"].as_array().unwrap();
            let its = cells.iter().filter(|cell| cell["stale"] == true);
            let is_so = stale == ["e"]
                && words.contains("e has not been heard of")
                && its.clone().count() == 4
                && its.clone().all(|cell| cell["source"] == "e")
                && cells.iter().any(|cell| cell["target"] == "e" && cell["state"] == "unreachable");
            if is_so { Ok(()) } else { Err(format!("{matrix:#}")) }
        });
    }
}

/// A stream that is read line by line.
struct Listener {
    lines: BufReader<TcpStream>,
    head: String,
    /// Heartbeats so far.
    beats: usize,
}

/// One event of it.
#[derive(Debug)]
struct Told {
    event: String,
    id: String,
    data: Value,
}

impl Listener {
    fn new(agent: &Agent, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(agent.web).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let last = last.map_or(String::new(), |last| format!("Last-Event-ID: {last}\r\n"));
        write!(stream, "GET /api/v1/stream HTTP/1.0\r\nHost: localhost\r\n{last}\r\n").unwrap();
        let (mut lines, mut head) = (BufReader::new(stream), String::new());
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
        }
        Self { lines, head: head.to_lowercase(), beats: 0 }
    }

    /// The next event; `None` when the stream has ended.
    fn next(&mut self) -> Option<Told> {
        let (mut event, mut id, mut data) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            self.beats += usize::from(line.starts_with(':'));
            match line.trim_end().split_once(": ") {
                Some(("event", text)) => event = text.to_owned(),
                Some(("id", text)) => id = text.to_owned(),
                Some(("data", text)) => data = text.to_owned(),
                _ if line == "\n" && !data.is_empty() => {
                    return Some(Told { event, id, data: serde_json::from_str(&data).unwrap() });
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_stream_begins_with_everything_and_goes_on_with_what_changes() {
    let secret = Secret::new();
    let (other, schemas) = (start(&secret, "b", &[], &[]), Schemas::new());
    let relay = Relay::udp(other.reflector, Duration::from_millis(1), 0);
    let address = relay.address.to_string();
    let agent = start(&secret, "a", &["--peer", &format!("{address}=coderd")], &[]);
    let mut listener = Listener::new(&agent, None);
    assert!(
        listener.head.contains("text/event-stream") && listener.head.contains("no-store"),
        "{}",
        listener.head
    );
    let first = listener.next().unwrap();
    assert_eq!(first.event, "snapshot");
    schemas.check("Snapshot", &first.data);
    let mut shown: Snapshot = serde_json::from_value(first.data).unwrap();
    let mut ids = vec![first.id];
    let mut follow = |listener: &mut Listener, wanted: &str| {
        let patience = Stopwatch::start();
        while shown.matrix.cells.first().is_none_or(|cell| cell.state.as_str() != wanted) {
            assert!(patience.elapsed() < Duration::from_secs(90), "not {wanted}: {:#?}", shown.matrix);
            let told = listener.next().unwrap();
            assert_eq!(told.event, "delta");
            schemas.check("Delta", &told.data);
            shown.apply(serde_json::from_value::<Delta>(told.data).unwrap());
            ids.push(told.id);
        }
        (shown.clone(), ids.clone())
    };
    follow(&mut listener, "ok");
    // Somebody moves it away.
    relay.set_round_trip(Duration::from_millis(30));
    let (shown, ids) = follow(&mut listener, "breach");
    assert_eq!(shown.matrix.verdict.state.as_str(), "breach", "{:#?}", shown.matrix.verdict);
    let newest = &shown.events[0];
    assert_eq!(
        (newest.event.as_str(), shown.matrix.cells[0].target.as_str()),
        ("coder.probe.path.state_changed", &*address)
    );
    let breaches = get(&agent, "/api/v1/paths?state=breach&source=a");
    assert_eq!(breaches["paths"].as_array().unwrap().len(), 1, "{breaches:#}");
    assert_eq!(get(&agent, "/api/v1/paths?state=ok")["paths"].as_array().unwrap().len(), 0);

    // Who comes back gets what it missed, once and in order.
    let from = ids.len() - 3;
    let mut back = Listener::new(&agent, Some(&ids[from]));
    for id in &ids[from + 1..] {
        let told = back.next().unwrap();
        assert_eq!((told.event.as_str(), &told.id), ("delta", id));
    }
    // Who comes from another life, or from too long ago, begins anew.
    for last in ["0123456789abcdef-1", "nonsense", &ids[0].replace('-', "-9")] {
        let told = Listener::new(&agent, Some(last)).next().unwrap();
        assert_eq!(told.event, "snapshot", "{last}");
    }

    // Something comes now and then even where there is no news.
    let patience = Stopwatch::start();
    while listener.beats < 2 {
        assert!(patience.elapsed() < Duration::from_secs(60), "{} heartbeats", listener.beats);
        listener.next().unwrap();
    }

    // And all end at once when the agent stops.
    agent.signal("TERM");
    while back.next().is_some() {}
    while listener.next().is_some() {}
    assert_eq!(agent.wait().0, Some(0));
}

#[test]
fn more_listeners_than_there_is_room_for_are_told_to_come_back_later() {
    let agent = Agent::start(&Secret::new());
    let mut all: Vec<_> = (0..256).map(|_| Listener::new(&agent, None)).collect();
    assert!(all.iter().all(|listener| listener.head.contains(" 200 ")));
    let refused = ask(&agent, "/api/v1/stream", "");
    assert_eq!(refused.status, 503);
    assert!(
        refused.head.contains("retry-after: ") && refused.error().contains("as many"),
        "{}",
        refused.head
    );
    assert_eq!(ask(&agent, "/api/v1/matrix", "").status, 200, "documents are still there");
    for listener in all.drain(..) {
        listener.lines.get_ref().shutdown(Shutdown::Both).unwrap();
    }
    until("their places are not free", 30, || {
        let head = Listener::new(&agent, None).head;
        if head.contains(" 200 ") { Ok(()) } else { Err(head) }
    });
}

/// All routes of the web door, as its source has them.
fn routes() -> Vec<String> {
    let read =
        |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let source = read("src/web.rs") + &read("src/web/page.rs");
    let routes = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    routes.collect()
}

#[test]
fn every_route_is_described_and_every_answer_is_as_described() {
    let mesh = Mesh::of(&["a", "b"]);
    mesh.settle();
    let (agent, schemas) = (&mesh.agents[0], Schemas::new());
    let mut described = schemas.paths();
    let mut there = routes();
    described.sort();
    there.sort();
    assert_eq!(there, described);
    assert_eq!(get(agent, "/api/v1/openapi.json"), *schemas.document());
    let seen = |path: &str, schema: &str| {
        let answer = ask(agent, path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
        assert!(answer.head.contains("cache-control: no-store"), "{path}: {}", answer.head);
        let document = answer.json();
        schemas.check(schema, &document);
        document
    };
    seen("/api/v1/report", "Report");
    seen("/api/v1/matrix", "Matrix");
    seen("/api/v1/paths", "Paths");
    let placement = seen("/api/v1/placement", "Placement");
    let own = named(&placement["placed"], "a");
    assert_eq!((&own["region"], &own["stance"]), (&"cellar".into(), &"agrees".into()), "{own:#}");
    seen("/api/v1/findings", "Findings");
    let events = seen("/api/v1/events", "Events");
    assert_eq!(seen("/api/v1/events?limit=1", "Events")["events"].as_array().unwrap().len(), 1);
    let kinds: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| &event["event"]).collect();
    assert_eq!(*kinds.last().unwrap(), "coder.probe.agent.started", "the newest first: {kinds:?}");
    let config = seen("/api/v1/config", "Config");
    let peers =
        config["settings"].as_array().unwrap().iter().find(|one| one["key"] == "targets.peer").unwrap();
    assert_eq!(peers["origin"], "file", "{peers:#}");
    let other = format!("{}=coderd", mesh.agents[1].reflector);
    assert_eq!(peers["value"].as_array().unwrap(), &[Value::from(other)]);

    // A bin of ten seconds has to be over.
    let path = until("its history is empty", 40, || {
        let path = seen("/api/v1/path?source=a&target=b&kind=peer", "Path");
        if path["history"]["bins"].as_array().unwrap().is_empty() {
            Err(format!("{path:#}"))
        } else {
            Ok(path)
        }
    });
    assert_eq!((&path["measured_here"], &path["back"]["source"]), (&true.into(), &"b".into()), "{path:#}");
    assert_eq!(path["command"], format!("probe check --peer {}=coderd", mesh.agents[1].reflector));
    assert!(
        path["history"]["bins"][0][5].as_u64().unwrap() > 0 && path["history"]["width_us"] == 1e7,
        "{path:#}"
    );
    assert!(
        path["events"].as_array().unwrap().iter().all(|event| event["attributes"]["target_kind"] == "peer")
    );
    let coarse = seen("/api/v1/path?source=a&target=b&kind=peer&span=48h", "Path");
    assert_eq!(coarse["history"]["width_us"], 1.2e8);
    let theirs = seen("/api/v1/path?source=b&target=a&kind=peer", "Path");
    assert!(theirs["detail"].is_null() && theirs["measured_here"] == false, "{theirs:#}");
    // What somebody is shown can be typed.
    let words: Vec<_> = theirs["command"].as_str().unwrap().split(' ').skip(2).collect();
    let again =
        Run::of(probe(&["check", "--quick"]).args(words).env("PROBE_MESH_SECRET_FILE", &mesh.secret.path));
    assert!(again.code.is_some_and(|code| code != 2), "{}", again.stderr);
}

#[test]
fn a_word_that_is_not_known_is_refused_with_words() {
    let agent = Agent::start(&Secret::new());
    let schemas = Schemas::new();
    for (path, status, part) in [
        ("/api/v1/paths?state=fine", 400, "state: 'fine' is not one of ok, left"),
        ("/api/v1/paths?kind=pear", 400, "kind: 'pear' is not one of peer, postgres"),
        ("/api/v1/paths?sauce=a", 400, "known: source, target, kind, state"),
        ("/api/v1/paths?source=a&source=b", 400, "source is given twice"),
        ("/api/v1/matrix?x=1", 400, "'x' is not a parameter"),
        ("/api/v1/path?source=a&target=b", 400, "kind is missing"),
        ("/api/v1/path?source=a&target=b&kind=peer&span=1y", 400, "span: '1y' is not one of 6h, 48h"),
        ("/api/v1/path?source=a&target=169.254.169.254:80&kind=tcp", 404, "nobody measures a"),
        ("/api/v1/events?limit=0", 400, "a number from 1 to 512"),
        ("/api/v1/events?limit=many", 400, "a number from 1 to 512"),
        ("/api/v1/nothing", 404, "/api/v1/openapi.json"),
    ] {
        let answer = ask(&agent, path, "");
        assert_eq!(answer.status, status, "{path}");
        schemas.check("Error", &answer.json());
        assert!(answer.error().contains(part), "{path}: {}", answer.error());
    }
    assert_eq!(get(&agent, "/api/v1/paths?source=nobody")["paths"], Value::Array(Vec::new()));
}

#[test]
fn a_big_answer_is_packed_for_who_takes_it() {
    let agent = Agent::start(&Secret::new());
    let packed = ask(&agent, "/api/v1/config", "Accept-Encoding: gzip\r\n");
    assert!(packed.head.contains("content-encoding: gzip") && packed.body.starts_with(&[0x1f, 0x8b]));
    assert!(packed.body.len() * 3 < ask(&agent, "/api/v1/config", "").body.len());
}

#[test]
fn the_page_is_served_with_a_strict_policy_and_again_only_when_it_is_another_one() {
    let agent = Agent::start(&Secret::new());
    let page = ask(&agent, "/", "");
    assert_eq!((page.status, page.body.starts_with(b"<!doctype html>")), (200, true));
    let text = String::from_utf8(page.body.clone()).unwrap();
    let loads = ["src=\"", "href=\""].iter().flat_map(|word| text.split(word).skip(1));
    let loads: Vec<_> = loads.map(|rest| rest.split('"').next().unwrap()).collect();
    for name in
        loads.into_iter().filter(|name| name.ends_with(".js") || name.ends_with(".css")).chain(["index.html"])
    {
        let answer = ask(&agent, &format!("/{name}"), "");
        assert_eq!(answer.status, 200, "{name}");
        for line in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.head.contains(line), "{name}: {}", answer.head);
        }
        let tag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let again = ask(&agent, &format!("/{name}"), &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.body.len()), (304, 0), "{name}");
        let packed = ask(&agent, &format!("/{name}"), "Accept-Encoding: gzip\r\n");
        assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < answer.body.len(), "{name}");
    }
    for name in ["/modules.txt", "/..%2f..%2fCargo.toml", "/page/index.html", "/nothing.js"] {
        assert_eq!(ask(&agent, name, "").status, 404, "{name}");
    }
}

#[test]
fn no_secret_is_among_the_settings() {
    let secret = Secret::new();
    let text = std::fs::read_to_string(&secret.path).unwrap().trim().to_owned();
    let token = secret.file("token", "hunter2hunter2hunter2\n");
    let mut command = probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
    command.args(["--discover", "none", "--web-token-file", &token]);
    command.args(["--postgres", "postgres://coder:hunter2@127.0.0.1:1/coder?sslmode=disable"]);
    command.args(["--http", "http://127.0.0.1:1/healthz?token=hunter2"]).env("PROBE_MESH_SECRET", &text);
    let agent = Agent::with(&mut command);
    let bearer = "Authorization: Bearer hunter2hunter2hunter2\r\n";
    for path in routes().iter().filter(|path| !path.contains("stream") && !path.contains('{')) {
        let query =
            if path == "/api/v1/path" { "?source=x&target=127.0.0.1:1/coder&kind=postgres" } else { "" };
        let answer = ask(&agent, &format!("{path}{query}"), bearer);
        let body = String::from_utf8(answer.body).unwrap();
        assert!(!body.contains("hunter2") && !body.contains(&text), "{path}: {body}");
    }
    let config = ask(&agent, "/api/v1/config", bearer).json();
    let settings = config["settings"].as_array().unwrap();
    let of = |key: &str| settings.iter().find(|one| one["key"] == key).unwrap();
    assert_eq!(of("PROBE_MESH_SECRET")["value"], "***");
    assert_eq!(of("targets.postgres")["value"][0], "***");
    assert_eq!(
        (&of("web_token_file")["value"], &of("web_token_file")["origin"]),
        (&token.into(), &"--web-token-file".into())
    );
}

#[test]
fn a_name_of_the_world_that_leads_to_this_machine_is_not_answered() {
    let secret = Secret::new();
    let agent = start(&secret, "a", &[], &[]);
    for path in ["/", "/api/v1/matrix", "/api/v1/stream", "/metrics"] {
        let refused = ask_as(&agent, "rebound.example.com:9863", path, "");
        assert_eq!(refused.status, 421, "{path}: {}", refused.head);
        assert!(refused.error().contains("--web-token-file"), "{path}");
    }
    assert_eq!(ask_as(&agent, "rebound.example.com", "/healthz", "").status, 200);
    assert_eq!(ask_as(&agent, &agent.web.to_string(), "/api/v1/matrix", "").status, 200);
}

#[test]
fn a_token_is_asked_for_by_everything_but_health_and_may_change() {
    let secret = Secret::new();
    let file = secret.file("token", "0123456789abcdef\nnot this line\n");
    let agent = start(&secret, "a", &["--web-token-file", &file], &[]);
    let with = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let basic = base64::engine::general_purpose::STANDARD.encode("me:0123456789abcdef");
    for path in routes().iter().map(String::as_str).chain(["/", "/nothing"]) {
        let is_open = path == "/healthz" || path == "/readyz";
        let answer = ask(&agent, path, "");
        assert_eq!(answer.status == 200, is_open, "{path}: {}", answer.head);
        if !is_open {
            assert_eq!(answer.status, 401, "{path}");
            assert!(
                answer.head.contains("www-authenticate: bearer") && answer.error().contains("token"),
                "{}",
                answer.head
            );
            assert_eq!(ask(&agent, path, &with("0123456789abcdeF")).status, 401, "{path}");
        }
    }
    assert_eq!(ask(&agent, "/api/v1/matrix", &with("0123456789abcdef")).status, 200);
    assert_eq!(ask(&agent, "/metrics", &format!("Authorization: Basic {basic}\r\n")).status, 200);
    let person = ask(&agent, "/", "Accept: text/html,*/*\r\n");
    assert!(person.status == 401 && person.head.contains("www-authenticate: basic"), "{}", person.head);
    // One that cannot be used is not taken over; another one is.
    std::fs::write(&file, "short\n").unwrap();
    until("it is not said", 30, || {
        let said = agent.said();
        if said.iter().any(|line| line.contains("keeps its token")) {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    assert_eq!(ask(&agent, "/api/v1/matrix", &with("0123456789abcdef")).status, 200);
    std::fs::write(&file, "fedcba9876543210\n").unwrap();
    until("the new one is not known", 30, || {
        match ask(&agent, "/api/v1/matrix", &with("fedcba9876543210")).status {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    });
    assert_eq!(ask(&agent, "/api/v1/matrix", &with("0123456789abcdef")).status, 401);
}

#[test]
fn with_a_certificate_the_line_is_encrypted_and_nothing_else_is_answered() {
    let secret = Secret::new();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = secret.file("web.crt", &made.cert.pem());
    let key = secret.file("web.key", &made.signing_key.serialize_pem());
    let agent = start(&secret, "a", &["--web-certificate", &certificate, "--web-key", &key], &[]);
    let url = format!("https://{}/healthz", agent.web);
    let run =
        Run::of(&mut probe(&["check", "-o", "json", "--quick", "--http", &url, "--http-ca", &certificate]));
    assert!(run.target()["outcomes"]["ok"].as_u64().unwrap() > 0, "{}", run.stdout);
    let mut plain = TcpStream::connect(agent.web).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(plain, "GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    for (more, part) in [
        (&["--web-certificate", &certificate][..], "--web-certificate and --web-key go together"),
        (&["--web-certificate", &certificate, "--web-key", &certificate][..], "--web-key: "),
        (&["--web-token-file", "/nowhere/token"][..], "--web-token-file: cannot read /nowhere/token"),
    ] {
        let run = Run::of(
            probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"])
                .args(more)
                .env("PROBE_MESH_SECRET_FILE", &secret.path),
        );
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
}

#[test]
fn the_description_is_shipped_beside_the_source() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src/web/openapi.json"].iter().collect();
    let shipped: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(shipped["openapi"], "3.1.0");
}
