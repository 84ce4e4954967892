//! `probe demo`: what its story says is so at its agents' doors; and it ends when it should, and leaves nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use probe::demo::{self, Ended, Length, Settings, Story, Word};
use probes::stopwatch::Stopwatch;
use serde_json::Value;

use crate::house::{Run, pause, probe, quiet, signal};

const PATIENCE: Duration = Duration::from_secs(120);
const HOME: [&str; 3] = ["coderd-a1", "coderd-b1", "coderd-c1"];

/// A demo in this process. It goes on after each of its lines only when it is told to, while its agents go on anyway: so
/// what a line says can be held against what they say, for as long as that takes.
struct Told {
    lines: mpsc::Receiver<String>,
    goes_on: mpsc::Sender<()>,
    ended: std::thread::JoinHandle<Ended>,
    doors: Vec<(String, SocketAddr)>,
}

impl Told {
    fn start(story: Story) -> Self {
        let ((said, lines), (goes_on, wait)) = (mpsc::channel(), mpsc::channel());
        let ended = std::thread::spawn(move || {
            let mut tell = move |word: Word<'_>| {
                if let Word::Line(line) = word {
                    said.send(line.to_owned()).unwrap();
                    wait.recv().unwrap();
                }
            };
            let settings = Settings { postgres_bin: None, story, length: Length::OnePass, is_verbose: true };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(demo::run(settings, &mut tell, std::future::pending())).unwrap()
        });
        let mut told = Self { lines, goes_on, ended, doors: Vec::new() };
        while told.doors.len() < 4 {
            let line = told.line();
            let words: Vec<_> = line.split_whitespace().collect();
            if let [name, _, _, url] = &*words {
                told.doors.push(((*name).to_owned(), door(url)));
            }
            told.go_on();
        }
        told
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE * 2).unwrap()
    }

    fn go_on(&self) {
        self.goes_on.send(()).unwrap();
    }

    /// The next line, which is of this step and says that it was found.
    fn step(&self, what: &str) -> String {
        let line = self.line();
        assert!(line.contains(what) && line.contains("; found after "), "{what}: {line}");
        line
    }

    /// Waits until the agents that answer say so.
    fn wait_until(&self, what: &str, is_so: impl Fn(&[Value]) -> bool) {
        let watch = Stopwatch::start();
        loop {
            let reports: Vec<_> = self.doors.iter().filter_map(|(_, door)| report(*door)).collect();
            if is_so(&reports) {
                return;
            }
            assert!(watch.elapsed() < PATIENCE, "{what}: {:#?}", states(&reports));
            pause();
        }
    }
}

fn door(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap_or_else(|_| panic!("{url}"))
}

fn report(door: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect(door).ok()?;
    write!(stream, "GET /api/v1/report HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Source, target and state of every path.
fn states(reports: &[Value]) -> Vec<(String, String, String)> {
    paths(reports).into_iter().map(|(source, target, link)| (source, target, text(&link["state"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Source, target and all that is said of it.
fn paths(reports: &[Value]) -> Vec<(String, String, Value)> {
    let of = |report: &Value| {
        let source = text(&report["agent"]["name"]);
        let links = report["links"].as_array().unwrap().clone();
        links.into_iter().map(move |link| (source.clone(), text(&link["name"]), link))
    };
    reports.iter().flat_map(of).collect()
}

/// Those within the region of which this is true.
fn at_home(reports: &[Value], is_so: impl Fn(&Value) -> bool) -> Vec<(String, String)> {
    let is_home = |name: &str| HOME.contains(&name) || name == "postgres-a";
    let all = paths(reports).into_iter();
    all.filter(|(source, target, link)| is_home(source) && is_home(target) && is_so(link))
        .map(|(source, target, _)| (source, target))
        .collect()
}

/// Over the budget for the distance. A busy machine adds stalls of its own, which the agents tell apart as jitter.
fn is_far(link: &Value) -> bool {
    link["state"] == "breach" && link["findings"][0]["reason"] == "placement"
}

fn is_well(reports: &[Value]) -> bool {
    let near = |link: &Value| {
        let p50 = link["rtt_us"]["p50"].as_f64();
        link["state"] != "unreachable" && p50.is_some_and(|p50| p50 < 10_000.0) && !is_far(link)
    };
    at_home(reports, near).len() == 9
}

fn has_wrong_region(report: &Value) -> bool {
    report["findings"].as_array().unwrap().iter().any(|finding| {
        finding["code"] == "coderd_cross_region"
            && finding["subjects"] == serde_json::json!(["coderd-us"])
            && finding["remedy"].as_str().unwrap().contains("one region")
    })
}

#[test]
fn every_step_of_the_story_is_what_the_agents_say_at_their_doors() {
    let _quiet = quiet();
    let told = Told::start(Story::All);

    told.step("three zones of eu-central-1");
    told.wait_until("all is well within the region", is_well);
    let reports: Vec<_> = told.doors.iter().filter_map(|(_, door)| report(*door)).collect();
    assert_eq!(reports[0]["agent"]["zone"], "eu-central-1a");
    assert_eq!(reports[3]["agent"]["region"], "aws/us-east-1");
    told.go_on();

    told.step("coderd-us stands in us-east-1");
    told.wait_until("every agent sees the wrong region", |reports| {
        let of_us = |(source, target, state): &(String, String, String)| {
            (source == "coderd-us" || target == "coderd-us") && state == "breach"
        };
        reports.len() == 4
            && reports.iter().all(has_wrong_region)
            && states(reports).iter().filter(|path| of_us(path)).count() == 7
    });
    told.go_on();

    told.step("coderd-a1 – coderd-b1 is 12 ms slower");
    let slow = [("coderd-a1", "coderd-b1"), ("coderd-b1", "coderd-a1")];
    let slow = slow.map(|(source, target)| (source.to_owned(), target.to_owned()));
    told.wait_until("a breach there, and nowhere else", |reports| at_home(reports, is_far) == slow);
    told.go_on();

    told.step("coderd-a1 – coderd-b1 is as fast as before");
    told.wait_until("well again", is_well);
    told.go_on();

    told.step("coderd-c1 is killed");
    told.wait_until("gone for everybody else", |reports| {
        let gone = |path: &&(String, String, String)| {
            path.1 == "coderd-c1" && ["unreachable", "stale"].contains(&path.2.as_str())
        };
        let silent = states(reports).iter().filter(|path| path.2 == "unreachable").count();
        let all = states(reports);
        reports.len() == 3 && all.iter().filter(gone).count() == 3 && silent <= 3
    });
    told.go_on();

    told.step("coderd-c1 comes back");
    // It answers at another port.
    assert!(report(told.doors[2].1).is_none_or(|report| report["agent"]["name"] == "coderd-c1"));
    told.wait_until("everybody reaches it", |reports| {
        let to_it = states(reports).into_iter().filter(|(_, target, _)| target == "coderd-c1");
        let well = |state: &str| ["ok", "at_risk", "breach"].contains(&state);
        to_it.filter(|(.., state)| well(state)).count() == 3
    });
    told.go_on();

    let ended = told.ended.join().unwrap();
    assert_eq!((ended.exit_code(), ended.report.passes), (0, 1));
    for (_, door) in &told.doors {
        assert!(TcpStream::connect(door).is_err(), "nobody is left at {door}");
    }
}

#[test]
fn without_a_terminal_the_story_is_told_once_and_without_a_postgresql_it_says_so() {
    let run =
        Run::of(&mut probe(&["demo", "--story", "calm", "-o", "json", "--postgres-bin", "/nonexistent"]));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let mut lines = run.stderr.lines();
    door(lines.next().unwrap().split_whitespace().next().unwrap());
    assert!(
        lines.next().unwrap().starts_with("left out: PostgreSQL (no PostgreSQL server was found"),
        "{}",
        run.stderr
    );
    let report = run.json();
    assert_eq!((&report["schema_version"], &report["passes"]), (&1.into(), &1.into()));
    assert_eq!(report["postgres"]["is_real"], false);
    assert_eq!(report["paths"].as_array().unwrap().len(), 12, "{report:#}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    assert!(steps.iter().all(|step| step["found"].is_string() && step["after_us"].is_u64()), "{report:#}");
    assert!(report["findings"][0]["remedy"].is_string(), "{report:#}");
}

#[test]
fn a_demo_for_a_while_ends_by_itself_with_its_report() {
    let run = Run::of(&mut probe(&["demo", "--for", "10s"]));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.starts_with("what happened\n"), "{}", run.stdout);
    assert!(run.stdout.contains("the agents found "), "{}", run.stdout);
    assert!(!run.stderr.contains("is killed"), "it was over before: {}", run.stderr);
}

#[test]
fn an_unknown_story_is_refused_with_the_nearest_one_and_all_that_there_are() {
    let run = Run::of(&mut probe(&["demo", "--story", "slow-lnk"]));
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("a similar value exists: 'slow-link'"), "{}", run.stderr);
    assert!(run.stderr.contains("[possible values: calm, slow-link, replica-leaves, all]"), "{}", run.stderr);
}

/// A demo in a process of its own, with a directory of its own for temporary files.
struct Process {
    child: Child,
    temporary: tempfile::TempDir,
}

impl Process {
    fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        // Its database may run as another user.
        std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = probe(&["demo", "--story", "calm", "--for", "10min"]);
        command.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), temporary }
    }

    fn interrupt(mut self) -> (Option<i32>, String) {
        signal(self.child.id(), "INT");
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        let code = self.child.wait().unwrap().code();
        assert_eq!(files(self.temporary.path()), [""; 0], "nothing is left");
        (code, printed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn first_lines(stderr: ChildStderr, count: usize) -> Vec<String> {
    BufReader::new(stderr).lines().take(count).map(Result::unwrap).collect()
}

#[test]
fn ctrl_c_ends_it_at_once_and_leaves_no_process_and_no_file() {
    let mut process = Process::start();
    let lines = first_lines(process.child.stderr.take().unwrap(), 2);
    let web = door(lines[0].split_whitespace().next().unwrap());
    let pid = lines[1].split_once("(pid ").unwrap().1.trim_end_matches(')').to_owned();
    assert!(Path::new("/proc").join(&pid).exists(), "{lines:?}");
    assert!(!files(process.temporary.path()).is_empty());
    let (code, printed) = process.interrupt();
    assert_eq!(code, Some(130));
    assert!(printed.contains("the agents found "), "and the report of what was seen: {printed}");
    assert!(!Path::new("/proc").join(&pid).exists(), "the database is gone");
    assert!(TcpStream::connect(web).is_err(), "and the agents");
}

#[test]
fn ctrl_c_while_it_still_starts_leaves_no_process_and_no_file_either() {
    let process = Process::start();
    let watch = Stopwatch::start();
    while files(process.temporary.path()).is_empty() {
        assert!(watch.elapsed() < PATIENCE);
        pause();
    }
    assert_eq!(process.interrupt().0, Some(130));
}
