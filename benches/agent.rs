//! What a whole agent costs: CPU and memory of one that measures eleven peers and a PostgreSQL once a second each; first
//! alone, then while eleven others measure it as well.
//!
//! `cargo bench --bench agent` takes two and a half minutes. The targets are 1 % of a core and 20 MB; the bench fails at
//! twice that, for machines are shared.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use probe::demo::cluster::Cluster;
use probes::secret::MeshSecret;
use probes::stopwatch::Stopwatch;

const PEERS: u8 = 11;
const SETTLE: Duration = Duration::from_secs(10);
const MEASURE: Duration = Duration::from_secs(60);

struct Agent {
    child: Child,
    reflector: SocketAddr,
}

impl Agent {
    fn start(secret: &str, arguments: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_probe"))
            .args(["agent", "--web", "127.0.0.1:0", "--log-format", "json"])
            .args(arguments)
            .env("PROBE_MESH_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let reflector = lines
            .by_ref()
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line).ok()?;
                line["reflector"].as_str()?.parse().ok()
            })
            .expect("the agent says where it listens");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, reflector }
    }

    /// User and system time so far (proc(5): fields 14 and 15 of stat, in ticks of 10 ms).
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it lives");
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        Duration::from_millis(10 * ticks)
    }

    fn kib(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux says it");
        line.split_whitespace().find_map(|word| word.parse().ok()).expect("a number")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the bench waits for real time to pass")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The same agent under as many names as there are addresses of this machine.
fn peers(port: u16) -> impl Iterator<Item = String> {
    (1..=PEERS).flat_map(move |host| ["--peer".to_owned(), format!("127.0.0.{host}:{port}=coderd")])
}

fn main() {
    let secret = MeshSecret::generate_hex().expect("random bytes");
    let cluster = Cluster::start(None, &[]).expect("PostgreSQL");
    let listen = ["--listen".to_owned(), "0.0.0.0:0".to_owned()];
    let others = Agent::start(&secret, &listen);
    let mut arguments = listen.to_vec();
    arguments.extend(peers(others.reflector.port()));
    arguments.extend(["--postgres".to_owned(), cluster.url()]);
    let agent = Agent::start(&secret, &arguments);
    let share = || {
        pause(SETTLE);
        let (before, watch) = (agent.cpu(), Stopwatch::start());
        pause(MEASURE);
        100.0 * (agent.cpu() - before).as_secs_f64() / watch.elapsed().as_secs_f64()
    };
    let alone = share();
    let mut back = listen.to_vec();
    back.extend(peers(agent.reflector.port()));
    let _measuring_back = Agent::start(&secret, &back);
    let measured = share();

    let (resident, anonymous) = (agent.kib("VmRSS:"), agent.kib("RssAnon:"));
    let mb = |kib: u64| kib as f64 * 1024.0 / 1e6;
    let table = format!(
        "| an agent with 12 targets | over {} s | target |\n|---|---|---|\n\
         | CPU | {alone:.2} % of a core | 1 % |\n\
         | CPU, while 11 others measure it | {measured:.2} % of a core | – |\n\
         | resident memory | {:.1} MB, {:.1} MB of it its own | 20 MB |\n",
        MEASURE.as_secs(),
        mb(resident),
        mb(anonymous)
    );
    let _ = std::io::stdout().write_all(table.as_bytes());
    assert!(alone < 2.0 && mb(resident) < 40.0, "twice over the target: something is wrong");
}
