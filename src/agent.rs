//! The heart: one loop that carries samples to the mind and its findings to the doors, until it is told to stop.
//!
//! Everything that can happen is an `Event`; the loop waits for one, handles it and waits again. Nothing in it blocks,
//! and nothing in it is near a round trip: those are measured on a thread of their own ([`measuring`]).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use probes::Target;
use probes::quic::letter::Letter;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::coder_metrics;
use crate::discovery::{self, News, Peers, Sources};
use crate::export::api::config::Setting;
use crate::export::collect;
use crate::export::events::Happening;
use crate::export::otlp;
use crate::mesh::failover::Moves;
use crate::mesh::links::{Links, Rules};
use crate::mesh::peer::{Link, Own};
use crate::mesh::pubsub::Pubsub;
use crate::mesh::rules::Book;
use crate::web;
pub use crate::web::Settings as WebSettings;

mod attributing;
mod changes;
pub(crate) mod found;
mod handing;
mod identity;
mod letters;
pub mod measuring;
mod moves;
mod own;
pub(crate) mod paths;
mod rest;
mod roster;
mod shown;
mod supervisor;
mod taking;
mod telemetry;
mod topology;

use found::Found;
use measuring::{Measuring, MeasuringError};
use supervisor::Supervisor;

/// Changes of the configuration file are looked for this often. A ConfigMap's change is a symbolic link's, which no
/// file watch sees reliably.
const LOOK_AT_FILE: Duration = Duration::from_secs(5);
const LOOK_AT_OURSELVES: Duration = Duration::from_secs(60);
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);

/// How an agent is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who we are.
    pub own: Own,
    /// Identity and reflector address.
    pub measuring: measuring::Settings,
    /// Where HTTP is served, and to whom.
    pub web: WebSettings,
    /// What is measured.
    pub targets: Vec<(Link, Target)>,
    /// What it is held against, and how often it is measured.
    pub rules: Rules,
    /// Who else is looked for, and where.
    pub discovery: discovery::Settings,
    /// What the whole mesh is judged by.
    pub book: Book,
    /// Whose own metrics are held beside what is measured.
    pub metrics: coder_metrics::Settings,
    /// How much is shown of what is measured.
    pub shown: collect::Settings,
    /// What is handed to an OTLP receiver.
    pub otlp: otlp::Asked,
    /// All settings in words, for who asks which are in force.
    pub in_words: Vec<Setting>,
}

/// How settings are read anew.
pub struct Reload {
    /// The file whose change is a reason to.
    pub file: Option<PathBuf>,
    /// Reads everything anew; the error is for people and names key and value.
    pub load: Box<dyn Fn() -> Result<Settings, String> + Send>,
    /// Each message is a demand, as by SIGHUP.
    pub demands: mpsc::Receiver<()>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The measuring thread.
    #[error(transparent)]
    Measuring(#[from] MeasuringError),
    /// Where events are to wait.
    #[error(transparent)]
    Spool(#[from] otlp::spool::SpoolError),
    /// Who may ask, and the certificate.
    #[error(transparent)]
    Access(#[from] web::AccessError),
    /// The HTTP socket.
    #[error("cannot listen on TCP {address}: {source}")]
    Web {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Everything that can happen to an agent.
enum Event {
    /// The measuring thread has something to tell.
    Measured(measuring::Event),
    /// The mind asked to be woken.
    Wake,
    /// Somebody wants to know something.
    Asked(web::Question),
    /// The configuration may be another; why it is looked at.
    Reload(&'static str),
    /// Another agent has written.
    Letter(Letter),
    /// Time to write to the other agents.
    Write,
    /// A source of discovery has something to tell.
    News(News),
    /// Coderd's metrics are to be read, or have been.
    Metrics(attributing::Step),
    /// Time to look at our own performance.
    LookAtOurselves,
    /// Time for a sign of life.
    Beat,
    /// The measuring thread is gone.
    Ended,
    /// We are told to stop.
    Stop,
}

struct Agent {
    settings: Settings,
    links: Links,
    /// What is measured now: what was given and what was found.
    targets: Vec<(Link, Target)>,
    found: Found,
    letters: letters::Letters,
    judged: topology::Judged,
    attributing: attributing::Attributing,
    moves: Moves,
    /// Whom the source that can is to ask how long a notification takes.
    asking: watch::Sender<Peers>,
    /// What came of that.
    pubsub: Pubsub,
    measuring: Measuring,
    identity_files: identity::Watch,
    events: mpsc::UnboundedSender<measuring::Event>,
    own: own::Own,
    telemetry: telemetry::Telemetry,
    shown: shown::Shown,
    handing: handing::Handing,
    /// Whether discovery may be connected to the database.
    database_wanted: watch::Sender<bool>,
    start: Instant,
}

/// Runs until `stop` is done, then drains: not ready any more, goodbye to the peers, sockets closed.
pub async fn run(
    settings: Settings,
    mut reload: Reload,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let address = settings.web.address;
    let access = web::Access::read(&settings.web)?;
    let failed = |source| AgentError::Web { address, source };
    let listener = web::bind(address).await.map_err(failed)?;
    let web_address = listener.local_addr().map_err(failed)?;
    let (readiness, ready) = watch::channel(web::Readiness::Starting);
    // A handful of questions at a time: who asks more waits.
    let (asking, mut asked) = mpsc::channel(4);
    let handing = handing::Handing::start(&settings.otlp, web::figures(asking.clone())).await?;
    let identity_files = identity::Watch::new(&settings);
    let server = tokio::spawn(web::serve(listener, access, ready, asking));
    let measuring = Measuring::start(settings.measuring.clone()).await?;
    let (events, mut measured) = mpsc::unbounded_channel();
    let links = handing::links(&settings);
    let mut agent = Agent {
        own: own::Own::new(links.scale()),
        pubsub: Pubsub::new(links.scale().exponential),
        links,
        targets: Vec::new(),
        found: Found::default(),
        letters: letters::Letters::default(),
        judged: topology::Judged::default(),
        attributing: attributing::Attributing::new(&settings.metrics, &settings.own.name, now()),
        moves: Moves::default(),
        asking: watch::Sender::new(None),
        telemetry: telemetry::Telemetry::new(&settings),
        shown: shown::Shown::new(wall()),
        handing,
        database_wanted: watch::Sender::new(!Agent::waits_for_kubernetes(&settings)),
        start: now(),
        settings,
        measuring,
        identity_files,
        events,
    };
    agent.begin().await?;
    agent.happened(&Happening::Started {
        targets: agent.settings.targets.len(),
        reflector: agent.measuring.listening(),
        web: web_address,
    });
    readiness.send_replace(web::Readiness::Ready);
    let mut supervisor = Supervisor::new();
    Supervisor::ready();
    let (telling, mut news) = mpsc::channel(64);
    let (peers, database) = (agent.asking.subscribe(), agent.database_wanted.subscribe());
    let mut sources = Sources::start(&agent.reachable(), &telling, &peers, database);

    let mut stop = std::pin::pin!(stop);
    let mut file = roster::FileWatch::new(reload.file.take());
    let mut look_at_file = interval(LOOK_AT_FILE);
    look_at_file.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut letters = agent.measuring.letters();
    let mut write = interval(letters::WRITE_EVERY);
    write.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look_at_ourselves = interval(LOOK_AT_OURSELVES);
    look_at_ourselves.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        let wake = agent.next_wake();
        let event = tokio::select! {
            () = &mut stop => Event::Stop,
            event = measured.recv() => event.map_or(Event::Ended, Event::Measured),
            Some(()) = reload.demands.recv() => Event::Reload("demanded by signal"),
            _ = look_at_file.tick() => match (agent.follow_identity(), file.changed()) {
                (_, true) => Event::Reload("the file has changed"),
                (true, _) => Event::Reload("the identity is good again"),
                _ => continue,
            },
            Some(letter) = next(&mut letters) => Event::Letter(letter),
            _ = write.tick() => Event::Write,
            Some(news) = news.recv() => Event::News(news),
            fault = sources.fault() => {
                tracing::error!(%fault, "a source of discovery has failed for good: this is a fault to report");
                continue;
            }
            step = agent.attributing.next() => Event::Metrics(step),
            Some(question) = asked.recv() => Event::Asked(question),
            _ = look_at_ourselves.tick() => Event::LookAtOurselves,
            () = supervisor.beats() => Event::Beat,
            () = sleep_until(wake) => Event::Wake,
        };
        match event {
            Event::Measured(event) => {
                if let Err(error) = agent.take(event) {
                    break Err(error);
                }
            }
            Event::Wake => agent.tick(),
            Event::Asked(question) => agent.answer(question),
            Event::Reload(why) => {
                Supervisor::reloading();
                agent.reload(&*reload.load, why).await;
                Supervisor::ready();
            }
            Event::Beat => agent.beat(),
            Event::Letter(letter) => agent.read(letter).await,
            Event::Write => {
                agent.write().await;
                agent.follow_moves();
                agent.look_at_sources();
                agent.say_where();
                agent.say_how(&mut supervisor);
            }
            Event::News(news) => agent.hear(news).await,
            Event::Metrics(step) => agent.attribute(step),
            Event::LookAtOurselves => agent.look_at_ourselves(),
            Event::Ended => break Err(MeasuringError::Ended),
            Event::Stop => break Ok(()),
        }
    };

    agent.happened(&Happening::Stopping);
    readiness.send_replace(web::Readiness::Draining);
    Supervisor::stopping();
    // They may have something to tell until they have said goodbye.
    let unheard = async { while news.recv().await.is_some() {} };
    tokio::select! {
        () = sources.stop(GOODBYE_PATIENCE) => {}
        () = unheard => {}
    }
    let mut last_words = std::pin::pin!(agent.handing.stop());
    loop {
        tokio::select! {
            () = &mut last_words => break,
            Some(question) = asked.recv() => agent.answer(question),
        }
    }
    let seen = agent.measuring.reflected();
    agent.measuring.stop().await;
    tracing::info!(
        replied = seen.replied,
        accepted = seen.accepted,
        rejected = seen.rejected,
        refused = seen.refused,
        malformed = seen.malformed,
        letters_dropped = seen.letters_dropped,
        "probe agent has stopped"
    );
    // The web server answers «draining» for as long as there is something to drain, and no longer.
    drop(readiness);
    drop(asked);
    if tokio::time::timeout(Duration::from_secs(1), server).await.is_err() {
        tracing::debug!("an HTTP client kept its connection open until the end");
    }
    Ok(ended?)
}

/// The next letter, of whoever has letters at all.
async fn next(letters: &mut Option<mpsc::Receiver<Letter>>) -> Option<Letter> {
    match letters {
        Some(letters) => letters.recv().await,
        None => std::future::pending().await,
    }
}

impl Agent {
    /// Since the start: the time that the mind is told.
    fn age(&self) -> Duration {
        now().duration_since(self.start)
    }

    /// Who asked may have gone away.
    fn answer(&mut self, question: web::Question) {
        match question {
            web::Question::Standing(answer) => drop(answer.send((self.standing(), self.own.timing()))),
            web::Question::Metrics(answer) => drop(answer.send(self.metrics())),
            web::Question::Picture(answer) => drop(answer.send(self.picture())),
            web::Question::Link { target, kind, span, answer } => {
                drop(answer.send(self.link(&target, &kind, span)));
            }
            web::Question::Config(answer) => drop(answer.send(self.settings.in_words.clone())),
        }
    }

    /// A little later than asked, so that it is surely past what the mind waits for.
    fn next_wake(&self) -> Instant {
        const SLACK: Duration = Duration::from_millis(2);
        let age = self.age();
        let longest = age + Duration::from_secs(3600);
        self.start + self.links.next_wake(age).unwrap_or(longest) + SLACK
    }

    fn tick(&mut self) {
        let age = self.age();
        for (id, change) in self.links.tick(age) {
            self.tell(id, &change);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the schedule clock is read in the agent's rooms only")]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "events and figures carry the wall clock's time, which is stamped here"
)]
fn wall() -> SystemTime {
    SystemTime::now()
}
