//! An agent under a service manager: what it says to it, in sd_notify's words.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use probes::stopwatch::Stopwatch;

use crate::house::{Agent, Secret, probe};

/// The manager's ear.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self { socket, directory }
    }

    /// All that is said until this is.
    fn hears(&self, part: &str) -> Vec<String> {
        let (patience, mut said) = (Stopwatch::start(), Vec::new());
        while patience.elapsed() < Duration::from_secs(60) {
            let mut buffer = [0; 4096];
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            said.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            if said.last().unwrap().contains(part) {
                return said;
            }
        }
        panic!("{part} was not said, but {said:?}");
    }
}

#[test]
fn it_says_that_it_is_ready_lives_reloads_and_stops() {
    let (manager, secret) = (Manager::new(), Secret::new());
    let mut command = probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
    command.env("PROBE_MESH_SECRET_FILE", &secret.path);
    command.env("NOTIFY_SOCKET", manager.directory.path().join("notify")).env("WATCHDOG_USEC", "1000000");
    let agent = Agent::with(&mut command);
    assert_eq!(manager.hears("READY=1").len(), 1, "nothing is said before");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    agent.signal("HUP");
    let reload = manager.hears("RELOADING=1");
    assert!(reload.last().unwrap().contains("MONOTONIC_USEC="), "{reload:?}");
    manager.hears("READY=1");
    agent.signal("TERM");
    manager.hears("STOPPING=1");
    assert_eq!(agent.wait().0, Some(0));
}

#[test]
fn its_status_is_a_line_on_how_it_goes() {
    let (manager, secret) = (Manager::new(), Secret::new());
    let mut command = probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
    command.env("PROBE_MESH_SECRET_FILE", &secret.path);
    command.env("NOTIFY_SOCKET", manager.directory.path().join("notify"));
    let agent = Agent::with(&mut command);
    manager.hears("STATUS=no path is judged");
    drop(agent);
}
