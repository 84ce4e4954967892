//! Asking for a password anew: a file that is read, or a program that is run, at each connect.
//!
//! Both happen on a thread for things that block, with a runtime of their own: starting a program takes milliseconds and
//! must not move a round trip of the thread that measures. Nothing of it is part of any phase of a connect.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpgid};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::conninfo::{PasswordCommand, PasswordSource, Secret};
use crate::sample::{Failure, Reason};

/// A program that takes longer is stopped, with all that it has started.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tokens have up to a few kilobytes. What is longer is no password.
const LONGEST: u64 = 64 * 1024;
/// So much of a program's complaint is shown.
const COMPLAINT: usize = 160;

/// The password as its source has it now. What keeps it from being told is data like any other failure.
pub(super) async fn ask(source: &PasswordSource) -> Result<Secret, Failure> {
    let source = source.clone();
    let (mut answer, asked) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let told = match &source {
            PasswordSource::File(path) => Some(read(path)),
            PasswordSource::Command(command) => run_alone(command, &mut answer),
        };
        if let Some(told) = told {
            // Who asked may have gone away.
            let _ = answer.send(told);
        }
    });
    asked.await.unwrap_or_else(|_| Err(none("asking for the password failed: this is a fault to report")))
}

/// Ends at once, and the program with it, when nobody waits for the answer any more: a runtime that is shut down waits for
/// what blocks in it.
fn run_alone(
    command: &PasswordCommand,
    answer: &mut oneshot::Sender<Result<Secret, Failure>>,
) -> Option<Result<Secret, Failure>> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                told = run(command, PATIENCE) => Some(told),
                () = answer.closed() => None,
            }
        }),
        Err(error) => {
            Some(Err(none(format!("the password command `{}` cannot be run: {error}", command.program()))))
        }
    }
}

fn none(detail: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Password, detail)
}

fn read(path: &Path) -> Result<Secret, Failure> {
    let place = path.display();
    let mut text = String::new();
    let file =
        std::fs::File::open(path).map_err(|error| none(format!("the password file {place}: {error}")))?;
    // What is in it is never said, also not by an error.
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|_| none(format!("the password file {place} is no text")))?;
    first_line(&text).ok_or_else(|| none(format!("the password file {place} has nothing on its first line")))
}

fn first_line(text: &str) -> Option<Secret> {
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| Secret::from(line.to_owned()))
}

async fn run(command: &PasswordCommand, patience: Duration) -> Result<Secret, Failure> {
    let program = command.program();
    let failed = |what: String| none(format!("the password command `{program}` {what}"));
    let mut child = Command::new(program)
        .args(command.arguments())
        // Its environment is ours, as it needs a cloud's credentials, but for the secret that is of no use to it.
        .env_remove("PROBE_MESH_SECRET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let group = Group(child.id());
    let Ok(outcome) = tokio::time::timeout(patience, finish(&mut child)).await else {
        return Err(failed(format!("did not end within {} s", patience.as_secs())));
    };
    group.has_ended();
    let (status, printed, complaint) =
        outcome.map_err(|error| failed(format!("cannot be waited for: {error}")))?;
    let printed = String::from_utf8(printed).map_err(|_| failed("printed what is no text".to_owned()))?;
    if !status.success() {
        let said = complaint_of(command, &complaint, &printed);
        return Err(failed(format!("failed ({status}){said}")));
    }
    first_line(&printed).ok_or_else(|| failed("printed nothing on its first line".to_owned()))
}

/// Both pipes to their ends, since a full one would stop the program, and then its exit.
async fn finish(child: &mut Child) -> std::io::Result<(std::process::ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (printed, complaint) = tokio::join!(all_of(stdout), all_of(stderr));
    Ok((child.wait().await?, printed?, complaint?))
}

async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(LONGEST).read_to_end(&mut kept).await?;
        // What is beyond is read and forgotten.
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// The beginning of what it complained of, without secrets.
fn complaint_of(command: &PasswordCommand, complaint: &[u8], printed: &str) -> String {
    // Hidden first and cut then, so that no half of a secret is left at the end.
    let said = command.hide_secrets(&String::from_utf8_lossy(complaint), printed);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    match said.char_indices().nth(COMPLAINT) {
        _ if said.is_empty() => String::new(),
        Some((end, _)) => format!(": {}…", &said[..end]),
        None => format!(": {said}"),
    }
}

/// A program and all that it has started, which is stopped with this: a script's children would go on and pile up.
struct Group(Option<u32>);

impl Group {
    /// Its number may be another's now.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "what a password command has started could not be stopped");
        }
        if let Some(leader) = leader.filter(|_| std::process::id() == 1) {
            reap(leader);
        }
    }
}

/// The first process of a container inherits whom the leader leaves behind, and nobody else asks how they ended. All of them
/// carry the group's number, so nobody else's children are touched.
fn reap(leader: Pid) {
    std::thread::spawn(move || {
        // They were killed, so this does not last; the error is that there are no more of them.
        while waitpgid(leader, WaitOptions::empty()).is_ok() {}
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stopwatch::Stopwatch;

    fn command(words: &[&str]) -> PasswordCommand {
        PasswordCommand::new(words.iter().map(ToString::to_string).collect()).unwrap()
    }

    async fn asked(words: &[&str]) -> Result<String, String> {
        let asked = ask(&PasswordSource::Command(command(words))).await;
        asked.map(|secret| secret.expose().to_owned()).map_err(|failure| {
            assert_eq!(failure.reason, Reason::Password);
            failure.detail
        })
    }

    #[tokio::test]
    async fn the_first_line_of_what_a_program_prints_is_the_password_and_no_shell_is_between() {
        assert_eq!(asked(&["printf", "  to ken$HOME \nmore\n"]).await.as_deref(), Ok("to ken$HOME"));
        let much =
            ["sh", "-c", "echo yes; head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero >&2"];
        assert_eq!(asked(&much).await.as_deref(), Ok("yes"), "full pipes stop nobody");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_named_and_its_arguments_and_output_are_not() {
        let script = "echo t0ken; echo \"not with $0: t0ken\" >&2; exit 7";
        let failure = asked(&["sh", "-c", script, "hunter2"]).await.unwrap_err();
        assert_eq!(failure, "the password command `sh` failed (exit status: 7): not with ***: ***");
        let long = asked(&["sh", "-c", "seq 1 100000 >&2; exit 1"]).await.unwrap_err();
        assert!(long.len() < 300 && long.ends_with('…'), "{long}");
        let missing = asked(&["/nowhere/program", "hunter2"]).await.unwrap_err();
        assert!(missing.starts_with("the password command `/nowhere/program` cannot be run"), "{missing}");
        for (words, part) in [(&["true"][..], "nothing on its first line"), (&["printf", "\\377"], "no text")]
        {
            assert!(asked(words).await.unwrap_err().contains(part), "{words:?}");
        }
    }

    /// A program that starts another one, hangs, and says which one that is.
    fn hanging(file: &Path) -> PasswordCommand {
        let script = format!("sleep 600 & echo $! > '{0}.new'; mv '{0}.new' '{0}'; wait", file.display());
        command(&["sh", "-c", &script])
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let watch = Stopwatch::start();
        while !is_so() {
            assert!(watch.elapsed() < Duration::from_secs(5), "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn is_stopped(file: &Path) {
        let child = std::fs::read_to_string(file).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        until("its child goes on", || state().map_or(true, |state| state.contains(") Z "))).await;
    }

    #[tokio::test]
    async fn one_that_hangs_is_stopped_with_all_that_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let failure = run(&hanging(&file), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(failure.detail, "the password command `sh` did not end within 1 s");
        is_stopped(&file).await;
    }

    #[tokio::test]
    async fn one_that_nobody_waits_for_any_more_is_stopped_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let source = PasswordSource::Command(hanging(&file));
        let asking = tokio::spawn(async move { ask(&source).await });
        until("it did not start", || file.exists()).await;
        asking.abort();
        is_stopped(&file).await;
    }

    #[tokio::test]
    async fn a_file_is_read_anew_each_time_and_a_useless_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let source = PasswordSource::File(path.clone());
        assert!(ask(&source).await.unwrap_err().detail.contains("token: No such file"));
        for text in ["first", "second\n", "third\r\nmore"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(ask(&source).await.unwrap().expose(), text.lines().next().unwrap());
        }
        std::fs::write(&path, "\nsecret below\n").unwrap();
        let failure = ask(&source).await.unwrap_err();
        assert!(failure.detail.contains("nothing on its first line") && !failure.detail.contains("below"));
    }
}
