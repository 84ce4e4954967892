//! The measuring thread: sender, reflector and all probes on one thread and one runtime of their own.
//!
//! Whatever else the process does (web, report, progress) happens elsewhere, so it cannot move a quantile.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use probes::kit::{Kit, KitError, Means};
use probes::quic::sender::SenderError;
use probes::quic::{Reflector, ReflectorCounts, Sender, reflector::ListenError};
use probes::sample::{Failure, Outcome, Reason, Sample};
use probes::tls::{Identity, MeshTls, TlsError};
use probes::{Order, Probe, Step, Target};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::mesh::schedule::Schedule;

/// What has no reply after this is lost. Longer than any budget, shorter than anybody's patience.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// How often and how long a connection is tried before its target is given up.
const OPEN_ATTEMPTS: usize = 3;
const OPEN_PATIENCE: Duration = Duration::from_secs(3);
const OPEN_PAUSE: Duration = Duration::from_millis(500);
/// A slot that is reached this late was not skipped by the path but by us (a suspended machine, no CPU).
const TOO_LATE: Duration = Duration::from_millis(100);
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);

/// What the measuring thread needs besides its jobs.
#[derive(Debug, Default)]
pub struct Settings {
    /// Who we are in the mesh; needed to listen and to measure peers.
    pub identity: Option<Identity>,
    /// Where the reflector listens.
    pub listen: Option<SocketAddr>,
    /// Name in the TLS handshake of `https://` targets instead of the URL's host.
    pub http_sni: Option<String>,
    /// PEM file of the authorities for `https://` targets.
    pub http_ca: Option<PathBuf>,
}

/// One target with its slots.
#[derive(Debug)]
pub struct Job {
    /// What is measured.
    pub target: Target,
    /// When.
    pub schedule: Schedule,
}

/// What the measuring thread tells of its jobs. `job` is the index in the list that was given.
#[derive(Debug)]
pub enum Event {
    /// The connection stands, or will not come; then no slot follows.
    Opened {
        /// Which job.
        job: usize,
        /// Phases or reason.
        sample: Sample,
    },
    /// A slot has its outcome.
    Slot {
        /// Which job.
        job: usize,
        /// How it ended.
        sample: Sample,
    },
    /// All slots of a job have their outcomes.
    Done {
        /// Which job.
        job: usize,
    },
}

/// Why there is no measuring.
#[derive(Debug, thiserror::Error)]
pub enum MeasuringError {
    /// The sending socket.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The listening socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A target that cannot be measured with what was given.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// Identity of the mesh.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A reflector without an identity.
    #[error(
        "the reflector needs a mesh secret: give --mesh-secret-file, or make one with `probe secret new`"
    )]
    NoIdentity,
    /// The system gave no thread or no runtime.
    #[error("cannot start the measuring thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The thread ended without a word.
    #[error("the measuring thread ended unexpectedly")]
    Ended,
}

/// A running measuring thread. Dropping it stops it without a goodbye; [`Measuring::stop`] says one.
#[derive(Debug)]
pub struct Measuring {
    commands: mpsc::UnboundedSender<Command>,
    reflector: Option<Arc<Reflector>>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Measure(Vec<Job>, mpsc::UnboundedSender<Event>, oneshot::Sender<Result<(), MeasuringError>>),
    Stop(oneshot::Sender<()>),
}

impl Measuring {
    /// Starts the thread and binds its sockets.
    pub async fn start(settings: Settings) -> Result<Self, MeasuringError> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new().name("probe-measure".to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(run(settings, inbox, ready)),
                Err(error) => {
                    // The starter has gone away only when the process ends.
                    let _ = ready.send(Err(error.into()));
                }
            }
        })?;
        let reflector = started.await.map_err(|_| MeasuringError::Ended)??;
        Ok(Self { commands, reflector, thread: Some(thread) })
    }

    /// Where the reflector really listens.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.reflector.as_ref().map(|reflector| reflector.local_addr())
    }

    /// What the reflector has seen so far.
    pub fn reflected(&self) -> ReflectorCounts {
        self.reflector.as_ref().map(|reflector| reflector.counts()).unwrap_or_default()
    }

    /// Measures these targets side by side; the channel closes when all are done.
    pub async fn measure(&self, jobs: Vec<Job>) -> Result<mpsc::UnboundedReceiver<Event>, MeasuringError> {
        let (events, receiver) = mpsc::unbounded_channel();
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Measure(jobs, events, answer)).map_err(|_| MeasuringError::Ended)?;
        answered.await.map_err(|_| MeasuringError::Ended)??;
        Ok(receiver)
    }

    /// Says goodbye to the peers and ends the thread.
    pub async fn stop(mut self) {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Stop(answer)).is_ok() {
            // An error means that the thread has ended already, which is what was asked for.
            let _ = answered.await;
        }
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

async fn run(
    settings: Settings,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    ready: oneshot::Sender<Result<Option<Arc<Reflector>>, MeasuringError>>,
) {
    let (sender, reflector) = match sockets(&settings) {
        Ok(sockets) => sockets,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if ready.send(Ok(reflector.clone())).is_err() {
        return;
    }
    let means = Means { sender, http_sni: settings.http_sni, http_ca: settings.http_ca };
    let mut running = JoinSet::new();
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Measure(jobs, events, answer) => {
                let kits: Result<Vec<_>, KitError> = jobs
                    .into_iter()
                    .map(|job| Ok((Arc::new(Kit::new(job.target, &means)?), job.schedule)))
                    .collect();
                let answered = match kits {
                    Ok(kits) => {
                        for (job, (kit, schedule)) in kits.into_iter().enumerate() {
                            running.spawn(measure(job, kit, schedule, events.clone()));
                        }
                        answer.send(Ok(()))
                    }
                    Err(error) => answer.send(Err(error.into())),
                };
                if answered.is_err() {
                    tracing::debug!("nobody waits for this measurement any more");
                }
            }
            Command::Stop(answer) => {
                running.shutdown().await;
                if let Some(sender) = &means.sender {
                    sender.close(GOODBYE_PATIENCE).await;
                }
                if let Some(reflector) = &reflector {
                    reflector.close(GOODBYE_PATIENCE).await;
                }
                let _ = answer.send(());
                return;
            }
        }
    }
}

fn sockets(settings: &Settings) -> Result<(Option<Sender>, Option<Arc<Reflector>>), MeasuringError> {
    let Some(identity) = &settings.identity else {
        return match settings.listen {
            Some(_) => Err(MeasuringError::NoIdentity),
            None => Ok((None, None)),
        };
    };
    if *identity == Identity::Insecure {
        tracing::warn!(
            "--insecure-no-auth: anybody who reaches this agent can echo with it and pose as a peer; use a mesh secret"
        );
    }
    let tls = MeshTls::new(identity)?;
    let reflector = match settings.listen {
        Some(address) => Some(Arc::new(Reflector::listen(address, &tls)?)),
        None => None,
    };
    Ok((Some(Sender::new(&tls)?), reflector))
}

/// One job from its first connection to the outcome of its last slot.
async fn measure(job: usize, kit: Arc<Kit>, schedule: Schedule, events: mpsc::UnboundedSender<Event>) {
    // Whoever listens has gone away when a send fails; the next await ends this job with its thread.
    let tell = |event| {
        let _ = events.send(event);
    };
    let opened = open(&kit).await;
    let stands = matches!(opened.outcome, Outcome::Ok(_));
    tell(Event::Opened { job, sample: opened });
    if stands {
        let mut in_flight = JoinSet::new();
        let start = now();
        for slot in 0..schedule.slots {
            let intended = start + schedule.at(slot);
            sleep_until(intended).await;
            if now().saturating_duration_since(intended) > TOO_LATE {
                tell(Event::Slot { job, sample: Sample { outcome: Outcome::SkippedSelf } });
                continue;
            }
            let (kit, events) = (Arc::clone(&kit), events.clone());
            in_flight.spawn(async move {
                let sample = kit.sample(Order { step: Step::Measure, deadline: DEADLINE }).await;
                let _ = events.send(Event::Slot { job, sample });
            });
        }
        while let Some(ended) = in_flight.join_next().await {
            if let Err(error) = ended {
                // A slot never goes without an outcome, and a fault of ours says nothing about the path.
                let failure = Failure::new(Reason::Local, format!("the probe itself failed: {error}"));
                tell(Event::Slot { job, sample: failure.into() });
            }
        }
    }
    tell(Event::Done { job });
}

/// A few attempts, so that a server which is just starting is not given up at once. A no to who we are is final: a
/// password is not tried twice.
async fn open(kit: &Kit) -> Sample {
    let order = Order { step: Step::Open, deadline: OPEN_PATIENCE };
    let mut sample = Sample::from(Failure::new(Reason::Unreachable, "no attempt was made"));
    for attempt in 0..OPEN_ATTEMPTS {
        if attempt > 0 {
            sleep(OPEN_PAUSE).await;
        }
        sample = kit.sample(order).await;
        let reason = match &sample.outcome {
            Outcome::Ok(_) => return sample,
            outcome => outcome.failure().map(|failure| failure.reason),
        };
        if matches!(reason, Some(Reason::Auth | Reason::Database | Reason::ConnectionsLow)) {
            return sample;
        }
    }
    sample
}

#[expect(clippy::disallowed_methods, reason = "the schedule clock is read in the agent's rooms only")]
fn now() -> Instant {
    Instant::now()
}
