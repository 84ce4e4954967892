//! `probe demo`: a small deployment on this machine that something happens to, without configuration, network or root.
//!
//! Each agent has its threads and its sockets as it would have in a process of its own, and answers at a door of its own;
//! all echoes and queries really go through loopback, with mutual TLS under a mesh secret that lives as long as the demo.
//! Only the distances are made up ([`wire`]). What the agents find is read at their doors, as anybody would read it.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use probes::postgres::conninfo::ConninfoError;
use probes::secret::SecretError;
use probes::stopwatch::Stopwatch;

use crate::agent::AgentError;

pub mod cluster;
pub mod layout;
pub mod picture;
pub mod report;
mod stage;
pub mod story;
pub mod wire;

use report::Report;
use stage::{READY_WITHIN, Stage};
pub use story::{Length, Story};
use story::{Teller, Told};

/// How the demo is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the server's programs are, if not in their usual places.
    pub postgres_bin: Option<PathBuf>,
    /// Which story.
    pub story: Story,
    /// How long.
    pub length: Length,
    /// Whether to say where each agent answers.
    pub is_verbose: bool,
}

/// Something to show.
#[derive(Debug, Clone, Copy)]
pub enum Word<'a> {
    /// For good.
    Line(&'a str),
    /// Until the next line: what is being waited for.
    Meanwhile(&'a str),
}

/// Why there was no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An agent.
    #[error("the agent {name} of the demo: {source}")]
    Agent {
        /// Its name.
        name: &'static str,
        /// What it said.
        source: AgentError,
    },
    /// One that ended without a word.
    #[error("the agent {0} of the demo ended unexpectedly")]
    Ended(&'static str),
    /// One that never began.
    #[error("the agent {0} of the demo was not ready within {limit:?}", limit = READY_WITHIN)]
    NotReady(&'static str),
    /// The mesh secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The private server's own connection string.
    #[error(transparent)]
    Conninfo(#[from] ConninfoError),
    /// Sockets and threads.
    #[error("the demo cannot be set up: {0}")]
    Io(#[from] io::Error),
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// What was seen.
    pub report: Report,
    /// The exit code of the signal that stopped it.
    pub stopped: Option<u8>,
}

impl Ended {
    /// 0 when everything that happened was found, 1 when something was not; the signal's own code where it came before the
    /// story had been told once.
    pub fn exit_code(&self) -> u8 {
        match self.stopped {
            Some(code) if self.report.passes == 0 => code,
            _ => u8::from(!self.report.worked()),
        }
    }
}

/// Sets the stage and tells the story until it is over, its time is, or `stop` yields the exit code of a signal.
pub async fn run(
    settings: Settings,
    tell: &mut (dyn FnMut(Word<'_>) + Send),
    stop: impl Future<Output = u8>,
) -> Result<Ended, DemoError> {
    let (clock, told) = (Stopwatch::start(), Mutex::new(Told::default()));
    let mut postgres = None;
    let play = async {
        tell(Word::Meanwhile("starting a PostgreSQL and four agents"));
        let mut stage = Stage::set(settings.postgres_bin.clone()).await?;
        tell(Word::Line(&format!("{}  open this while it runs", stage.url())));
        stage.introduce(settings.is_verbose, tell);
        postgres = Some(stage.database());
        let mut teller = Teller { tell, told: &told, clock };
        story::tell(settings.story, settings.length, &mut stage, &mut teller).await
    };
    let over = async {
        match settings.length {
            Length::For(length) => tokio::time::sleep(length).await,
            Length::OnePass | Length::UntilStopped => std::future::pending().await,
        }
    };
    // Whichever ends it, the stage is taken down with `play`, and nothing of it is left.
    let stopped = tokio::select! {
        ended = play => ended.map(|()| None)?,
        () = over => None,
        code = stop => Some(code),
    };
    let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    let report = Report::new(settings.story, told, postgres.flatten(), clock.elapsed());
    Ok(Ended { report, stopped })
}

#[cfg(test)]
mod tests {
    use super::story::Step;
    use super::*;

    fn ended(stopped: Option<u8>, passes: u32, found: Option<&str>) -> u8 {
        let step = Step {
            story: Story::Calm,
            step: "within-budget",
            what: "x".into(),
            look: "y".into(),
            at_us: 0,
            found: found.map(str::to_owned),
            after_us: None,
        };
        let told = Told { steps: vec![step], passes, ..Told::default() };
        let report = Report::new(Story::Calm, told, None, std::time::Duration::ZERO);
        Ended { report, stopped }.exit_code()
    }

    #[test]
    fn a_demo_worked_when_all_was_found_and_a_signal_counts_before_that_alone() {
        assert_eq!(ended(None, 1, Some("it")), 0);
        assert_eq!(ended(None, 0, Some("it")), 0, "its time was over");
        assert_eq!(ended(None, 1, None), 1);
        assert_eq!(ended(Some(130), 1, Some("it")), 0, "the usual end on a terminal");
        assert_eq!(ended(Some(130), 0, Some("it")), 130);
        assert_eq!(ended(Some(143), 1, None), 1);
    }
}
