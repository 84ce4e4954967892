//! An agent in a process of its own, for what is measured of a whole one.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Twenty echoes a second, so that a bench need not take long.
pub(crate) const OFTEN: &[(&str, &str)] = &[("PROBE_INTERVALS__PEER", "50ms")];

#[expect(clippy::disallowed_methods, reason = "a bench takes real time")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The body of this path.
pub(crate) fn get(web: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(web).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

pub(crate) struct Agent {
    child: Child,
    pub(crate) reflector: SocketAddr,
    pub(crate) web: SocketAddr,
}

impl Agent {
    pub(crate) fn start(secret: &str, arguments: &[String], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_probe"))
            .args(["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--log-format", "json"])
            .args(arguments)
            .env("PROBE_MESH_SECRET", secret)
            .env("PROBE_NO_CLOUD_METADATA", "true")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let (reflector, web) = lines
            .by_ref()
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line).ok()?;
                let address = |key: &str| line[key].as_str()?.parse().ok();
                Some((address("reflector")?, address("web")?))
            })
            .expect("the agent says where it listens");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, reflector, web }
    }

    /// User and system time so far (proc(5): fields 14 and 15 of stat, in ticks of 10 ms).
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it lives");
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        Duration::from_millis(10 * ticks)
    }

    /// A line of its status in kB, by the line's key (proc(5)).
    pub(crate) fn kib(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
