//! A real OTLP receiver that is not ours: rotel, on free ports of loopback, stopped by its own pid. It writes all that it
//! gets to its standard output.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use probes::stopwatch::Stopwatch;

use crate::house::{closed_port, pause, signal};

/// Where it listens, so that it can be started there again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) grpc: u16,
    pub(crate) http: u16,
}

impl Ports {
    pub(crate) fn free() -> Self {
        Self { grpc: closed_port(), http: closed_port() }
    }
}

/// A running receiver.
pub(crate) struct Rotel {
    child: Child,
    directory: tempfile::TempDir,
}

impl Rotel {
    pub(crate) fn start(ports: Ports) -> Self {
        let program = program().unwrap_or_else(|| {
            panic!("rotel-agent was not found on PATH or below target/tests; `bash tests/run.sh` installs what the tests need")
        });
        let directory = tempfile::Builder::new().prefix("probe-rotel-").tempdir().unwrap();
        let output = std::fs::File::create(directory.path().join("output")).unwrap();
        let child = Command::new(program)
            .args(["start", "--exporter", "blackhole", "--disable-batching"])
            .args(["--debug-log", "metrics", "--debug-log", "logs", "--debug-log-verbosity", "detailed"])
            .arg("--otlp-grpc-endpoint")
            .arg(format!("127.0.0.1:{}", ports.grpc))
            .arg("--otlp-http-endpoint")
            .arg(format!("127.0.0.1:{}", ports.http))
            .arg("--pid-file")
            .arg(directory.path().join("pid"))
            .env("NO_COLOR", "1")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut rotel = Self { child, directory };
        let watch = Stopwatch::start();
        for port in [ports.grpc, ports.http] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                let ended = rotel.child.try_wait().unwrap();
                assert!(
                    ended.is_none() && watch.elapsed() < Duration::from_secs(30),
                    "rotel does not listen ({ended:?}); it says: {}",
                    rotel.output()
                );
                pause();
            }
        }
        rotel
    }

    /// All that it has got so far, in its own words.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.directory.path().join("output")).unwrap()).into_owned()
    }

    /// Waits until it has got what makes this true; all that it has got by then.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let watch = Stopwatch::start();
        loop {
            let output = self.output();
            if is_so(&output) {
                return output;
            }
            assert!(watch.elapsed() < Duration::from_secs(60), "{what}: {output}");
            pause();
        }
    }

    /// Ends it in order; all that it has got.
    pub(crate) fn stop(mut self) -> String {
        signal(self.child.id(), "TERM");
        self.child.wait().unwrap();
        self.output()
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("tests/rotel/rotel/rotel-agent");
    let on_path = std::env::split_paths(&path).map(|directory| directory.join("rotel-agent"));
    on_path.chain([installed]).find(|file| file.is_file())
}
