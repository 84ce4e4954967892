//! The measuring thread: sender, reflector and all probes on one thread and one runtime of their own.
//!
//! Whatever else the process does (web, report, progress) happens elsewhere, so it cannot move a quantile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use probes::Target;
use probes::kit::{Kit, KitError, Means};
use probes::own;
use probes::quic::letter::Letter;
use probes::quic::sender::SenderError;
use probes::quic::{Reflector, ReflectorCounts, Sender, reflector::ListenError};
use probes::sample::{Reopened, Sample};
use probes::tls::{Identity, MeshTls, TlsError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::mesh::schedule::Schedule;

mod job;

pub use job::DEADLINE;

const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);

/// What the measuring thread needs besides its jobs.
#[derive(Debug, Default, Clone, PartialEq)]
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
    /// What the events of this job are marked with.
    pub id: u32,
    /// What is measured.
    pub target: Target,
    /// When.
    pub schedule: Schedule,
    /// When a bare connect is made beside it.
    pub connects: Option<Schedule>,
    /// Whether its first connection is tried out before the first slot. It is one more than the schedule allows.
    pub trial: bool,
    /// Whether slots follow although the first connection did not come: a long watch waits for it, a bounded look ends.
    pub persistent: bool,
}

/// What the measuring thread tells of its jobs.
#[derive(Debug)]
pub enum Event {
    /// The first connection stands, or will not come.
    Opened {
        /// Which job.
        job: u32,
        /// Phases or reason.
        sample: Sample,
    },
    /// A connection was opened after the first one, or an attempt at that has failed.
    Reopened {
        /// Which job.
        job: u32,
        /// Phases or reason, and how long ago.
        reopened: Reopened,
    },
    /// A slot's question has left.
    Sent {
        /// Which job.
        job: u32,
        /// Which slot.
        slot: u64,
        /// How long after its instant.
        late: Duration,
    },
    /// A slot has its outcome.
    Slot {
        /// Which job.
        job: u32,
        /// Which slot.
        slot: u64,
        /// How it ended.
        sample: Sample,
    },
    /// A bare connect has its outcome.
    Connected {
        /// Which job.
        job: u32,
        /// How it ended.
        sample: Sample,
    },
    /// No further slot will come.
    Done {
        /// Which job.
        job: u32,
    },
}

impl Event {
    /// Which job it is about.
    pub fn job(&self) -> u32 {
        match self {
            Self::Opened { job, .. }
            | Self::Reopened { job, .. }
            | Self::Sent { job, .. }
            | Self::Slot { job, .. }
            | Self::Connected { job, .. }
            | Self::Done { job } => *job,
        }
    }
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
    sender: Option<Sender>,
    reflector: Option<Arc<Reflector>>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Begin(Vec<Job>, mpsc::UnboundedSender<Event>, oneshot::Sender<Result<(), MeasuringError>>),
    Connects(u32, Schedule),
    Reopen(u32),
    Write(u32, Arc<[u8]>),
    End(u32),
    Lives(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// A job that runs.
struct Running {
    kit: Arc<Kit>,
    events: mpsc::UnboundedSender<Event>,
    tasks: JoinSet<()>,
}

impl Measuring {
    /// Starts the thread and binds its sockets.
    pub async fn start(settings: Settings) -> Result<Self, MeasuringError> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new().name("probe-measure".to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(own::note_park)
                .build()
            {
                Ok(runtime) => runtime.block_on(run(settings, inbox, ready)),
                Err(error) => {
                    // The starter has gone away only when the process ends.
                    let _ = ready.send(Err(error.into()));
                }
            }
        })?;
        let (sender, reflector) = started.await.map_err(|_| MeasuringError::Ended)??;
        Ok(Self { commands, sender, reflector, thread: Some(thread) })
    }

    /// Is somebody else, and believes others, from the next connection on; what stands stays until it breaks.
    pub fn renew(&self, tls: &MeshTls) -> Result<(), TlsError> {
        self.reflector.iter().try_for_each(|reflector| reflector.renew(tls))?;
        self.sender.iter().try_for_each(|sender| sender.renew(tls))
    }

    /// Where the reflector really listens.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.reflector.as_ref().map(|reflector| reflector.local_addr())
    }

    /// What the reflector has seen so far.
    pub fn reflected(&self) -> ReflectorCounts {
        self.reflector.as_ref().map(|reflector| reflector.counts()).unwrap_or_default()
    }

    /// Begins to measure these targets side by side. All or none: a target that cannot be measured with what was given
    /// is the error, and no job begins. The channel closes when all jobs have ended.
    pub async fn begin(
        &self,
        jobs: Vec<Job>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<(), MeasuringError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Begin(jobs, events, answer))?;
        answered.await.map_err(|_| MeasuringError::Ended)?
    }

    /// Makes bare connects beside this job, as long as the schedule goes.
    pub fn connects(&self, job: u32, schedule: Schedule) -> Result<(), MeasuringError> {
        self.send(Command::Connects(job, schedule))
    }

    /// Opens the connection of this job anew, beside the one that stands until then.
    pub fn reopen(&self, job: u32) -> Result<(), MeasuringError> {
        self.send(Command::Reopen(job))
    }

    /// Sends a letter to the peer of this job, if a connection to it stands.
    pub fn write(&self, job: u32, text: Arc<[u8]>) -> Result<(), MeasuringError> {
        self.send(Command::Write(job, text))
    }

    /// Tells this to all that measure us, within a few seconds, and to whoever comes.
    pub fn tell(&self, text: Arc<[u8]>) {
        if let Some(reflector) = &self.reflector {
            reflector.tell(text);
        }
    }

    /// The letters of all peers; whoever takes them has them alone.
    pub fn letters(&self) -> Option<mpsc::Receiver<Letter>> {
        self.reflector.as_ref()?.letters()
    }

    /// Ends a job; what is on its way is forgotten.
    pub fn end(&self, job: u32) -> Result<(), MeasuringError> {
        self.send(Command::End(job))
    }

    /// Whether the thread still does its work: it has to answer for itself.
    pub fn lives(&self) -> impl Future<Output = bool> + use<> {
        let (answer, answered) = oneshot::channel();
        let is_sent = self.send(Command::Lives(answer)).is_ok();
        async move { is_sent && answered.await.is_ok() }
    }

    fn send(&self, command: Command) -> Result<(), MeasuringError> {
        self.commands.send(command).map_err(|_| MeasuringError::Ended)
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
    ready: oneshot::Sender<Result<Sockets, MeasuringError>>,
) {
    let (sender, reflector) = match sockets(&settings) {
        Ok(sockets) => sockets,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if ready.send(Ok((sender.clone(), reflector.clone()))).is_err() {
        return;
    }
    let means = Means::new(sender, settings.http_sni, settings.http_ca);
    let mut running = BTreeMap::<u32, Running>::new();
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Begin(jobs, events, answer) => {
                let begun = begin(jobs, &events, &means, &mut running).map_err(MeasuringError::from);
                if answer.send(begun).is_err() {
                    tracing::debug!("nobody waits for these jobs any more");
                }
            }
            Command::Connects(job, schedule) => {
                if let Some(Running { kit, events, tasks }) = running.get_mut(&job) {
                    // Those that are done would stay in the set for as long as the job lasts.
                    while tasks.try_join_next().is_some() {}
                    tasks.spawn(job::connects(job, Arc::clone(kit), schedule, events.clone()));
                }
            }
            Command::Reopen(job) => {
                if let Some(Running { kit, events, tasks }) = running.get_mut(&job) {
                    while tasks.try_join_next().is_some() {}
                    tasks.spawn(job::reopen(job, Arc::clone(kit), events.clone()));
                }
            }
            Command::Write(job, text) => {
                if let Some(Running { kit, tasks, .. }) = running.get_mut(&job) {
                    while tasks.try_join_next().is_some() {}
                    let kit = Arc::clone(kit);
                    tasks.spawn(async move {
                        // A peer that takes no letter gets the next one.
                        let _ = kit.write(&text).await;
                    });
                }
            }
            Command::End(job) => drop(running.remove(&job)),
            Command::Lives(answer) => {
                let _ = answer.send(());
            }
            Command::Stop(answer) => {
                drop(running);
                if let Some(sender) = means.sender() {
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

fn begin(
    jobs: Vec<Job>,
    events: &mpsc::UnboundedSender<Event>,
    means: &Means,
    running: &mut BTreeMap<u32, Running>,
) -> Result<(), KitError> {
    let ready: Result<Vec<_>, KitError> = jobs
        .into_iter()
        .map(|Job { id, target, schedule, connects, trial, persistent }| {
            let course = job::Course { schedule, trial, persistent };
            Ok((id, Arc::new(Kit::new(target, means)?), course, connects))
        })
        .collect();
    for (id, kit, course, connects) in ready? {
        let mut tasks = JoinSet::new();
        tasks.spawn(job::measure(id, Arc::clone(&kit), course, events.clone()));
        if let Some(schedule) = connects {
            tasks.spawn(job::connects(id, Arc::clone(&kit), schedule, events.clone()));
        }
        running.insert(id, Running { kit, events: events.clone(), tasks });
    }
    Ok(())
}

type Sockets = (Option<Sender>, Option<Arc<Reflector>>);

fn sockets(settings: &Settings) -> Result<Sockets, MeasuringError> {
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
    let sender = Sender::new(&tls)?;
    let sender = match &reflector {
        Some(reflector) => sender.with_post(reflector.post()),
        None => sender,
    };
    Ok((Some(sender), reflector))
}
