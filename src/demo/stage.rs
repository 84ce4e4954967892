//! Everything that runs in the demo: the agents, what lies between them, and the database.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use probes::Target;
use probes::postgres::conninfo::Conninfo;
use probes::secret::MeshSecret;
use probes::stopwatch::Stopwatch;
use probes::target::{HostPort, Kind};
use probes::tls::Identity;
use tokio::sync::{mpsc, oneshot};

use super::cluster::Cluster;
use super::layout::{self, DATABASE, Place, REPLICAS};
use super::picture::{self, Picture};
use super::wire::{Relay, Wire};
use super::{DemoError, Word, report, story};
use crate::agent::measuring::{self, MeasuringError};
use crate::agent::{self, AgentError};
use crate::discovery;
use crate::export::otlp::Asked;
use crate::mesh::links::{Intervals, Rules};
use crate::mesh::peer::{Link, Own, Role};
use crate::mesh::region;
use crate::mesh::roster::{Claim, Sighting};
use crate::mesh::state::Graces;

/// Ten questions a second instead of one, so that nobody has to wait for minutes until a verdict is certain.
const EVERY: Duration = Duration::from_millis(100);
/// And what is missing is news after seconds instead of a minute.
const GRACE: Duration = Duration::from_secs(2);
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);
/// A port that was free a moment ago may be somebody else's by now.
const TRIES: u32 = 5;

/// Everything that runs. The order is that of taking it down: who asks goes before who answers.
pub(super) struct Stage {
    agents: BTreeMap<&'static str, Running>,
    /// From whom to whom.
    ways: BTreeMap<(&'static str, &'static str), Relay>,
    /// What passes through those ways.
    _wire: Wire,
    secret: MeshSecret,
    /// The server, or why there is none.
    cluster: Result<Cluster, String>,
}

/// An agent on threads of its own.
struct Running {
    web: SocketAddr,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), AgentError>>>,
}

impl Stage {
    pub(super) async fn set(postgres_bin: Option<PathBuf>) -> Result<Self, DemoError> {
        let starting = tokio::task::spawn_blocking(move || Cluster::start(postgres_bin.as_deref(), &[]));
        let cluster = match starting.await {
            Ok(started) => started.map_err(|error| error.to_string()),
            Err(panicked) => return Err(io::Error::other(panicked).into()),
        };
        let secret = MeshSecret::parse(&MeshSecret::generate_hex()?)?;
        let (wire, mut ways) = (Wire::start()?, BTreeMap::new());
        // Nobody answers there before its agent does.
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        for source in &REPLICAS {
            for target in layout::others(source.name) {
                ways.insert((source.name, target.name), wire.udp(nowhere, source.round_trip(target))?);
            }
            if let Ok(cluster) = &cluster {
                let server = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()));
                let way = wire.tcp(server, source.round_trip(&DATABASE))?;
                ways.insert((source.name, DATABASE.name), way);
            }
        }
        let mut stage = Self { agents: BTreeMap::new(), ways, _wire: wire, secret, cluster };
        for place in &REPLICAS {
            stage.start(place).await?;
        }
        Ok(stage)
    }

    /// The one address to open.
    pub(super) fn url(&self) -> String {
        let door = self.agents.get(REPLICAS[0].name).map(|agent| agent.web);
        door.map(|door| format!("http://{door}/")).unwrap_or_default()
    }

    pub(super) fn introduce(&self, is_verbose: bool, tell: &mut (dyn FnMut(Word<'_>) + Send)) {
        match &self.cluster {
            Ok(cluster) => tell(Word::Line(&format!(
                "{} in {} is a real PostgreSQL, private and gone afterwards (pid {})",
                DATABASE.name,
                DATABASE.zone,
                cluster.pid()
            ))),
            Err(error) => tell(Word::Line(&format!("left out: PostgreSQL ({error})"))),
        }
        for place in REPLICAS.iter().filter(|_| is_verbose) {
            if let Some(agent) = self.agents.get(place.name) {
                let Place { name, node, zone, .. } = place;
                tell(Word::Line(&format!("  {name:<10} {node:<8} {zone:<14} http://{}/", agent.web)));
            }
        }
    }

    pub(super) fn has_database(&self) -> bool {
        self.cluster.is_ok()
    }

    /// What the report says of the database.
    pub(super) fn database(&self) -> Option<report::Database> {
        Some(match &self.cluster {
            Ok(_) => report::Database { is_real: true, left_out: None },
            Err(error) => report::Database { is_real: false, left_out: Some(error.clone()) },
        })
    }

    /// How the agents see everything now.
    pub(super) async fn look(&mut self) -> Result<Picture, DemoError> {
        for (name, agent) in &mut self.agents {
            agent.look_alive(name)?;
        }
        let doors: Vec<_> = self.agents.iter().map(|(name, agent)| (*name, agent.web)).collect();
        Ok(Picture::take(&doors).await)
    }

    /// Makes the path between these two so much longer than it is by itself, both ways.
    pub(super) fn slow(&self, pair: [&'static str; 2], more: Duration) {
        for (source, target) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let place = |name| REPLICAS.iter().find(|place| place.name == name);
            if let (Some(way), Some(from), Some(to)) =
                (self.ways.get(&(source, target)), place(source), place(target))
            {
                way.set_round_trip(from.round_trip(to) + more);
            }
        }
    }

    /// Ends an agent as a crash of its machine would: nothing of it gets out any more.
    pub(super) async fn kill(&mut self, name: &'static str) {
        self.cut(name, true);
        if let Some(agent) = self.agents.remove(name) {
            // Its threads end by themselves, which is waited for so that its ports are free again.
            let _ = tokio::task::spawn_blocking(move || drop(agent)).await;
        }
    }

    /// Starts the agent that was killed anew.
    pub(super) async fn bring_back(&mut self, name: &'static str) -> Result<(), DemoError> {
        for place in REPLICAS.iter().filter(|place| place.name == name) {
            self.start(place).await?;
        }
        self.cut(name, false);
        Ok(())
    }

    fn cut(&self, name: &str, is_cut: bool) {
        let its_own = self.ways.iter().filter(|((source, target), _)| *source == name || *target == name);
        its_own.for_each(|(_, way)| way.cut(is_cut));
    }

    async fn start(&mut self, place: &'static Place) -> Result<(), DemoError> {
        let name = place.name;
        for attempt in 1..=TRIES {
            let (web, reflector) = (free_tcp()?, free_udp()?);
            let mut agent = Running::start(self.settings(place, web, reflector)?)?;
            match agent.wait_until_ready(name).await {
                Ok(()) => {
                    let to_it = self.ways.iter().filter(|((_, target), _)| *target == name);
                    to_it.for_each(|(_, way)| way.lead_to(reflector));
                    self.agents.insert(name, agent);
                    return Ok(());
                }
                Err(DemoError::Agent { source, .. }) if is_taken(&source) && attempt < TRIES => {}
                Err(error) => return Err(error),
            }
        }
        Err(DemoError::NotReady(name))
    }

    fn settings(
        &self,
        place: &Place,
        web: SocketAddr,
        reflector: SocketAddr,
    ) -> Result<agent::Settings, DemoError> {
        let name = place.name.to_owned();
        let intervals = Intervals {
            peer: EVERY,
            postgres: EVERY,
            // This machine's kernel accepts them, however far away the server pretends to be.
            postgres_connect: Duration::ZERO,
            ..Intervals::default()
        };
        let graces = Graces { start: GRACE, ..Graces::default() };
        let claim = Claim {
            trust: 3,
            by: "the demo".to_owned(),
            region: region::name(DATABASE.region),
            zone: Some(DATABASE.zone.to_owned()),
        };
        let database = Sighting {
            key: DATABASE.name.to_owned(),
            role: Some(Role::Postgres),
            host_name: Some(DATABASE.name.to_owned()),
            node: Some(DATABASE.node.to_owned()),
            claims: vec![claim],
            ..Sighting::default()
        };
        Ok(agent::Settings {
            own: Own {
                name: name.clone(),
                role: Some(Role::Coderd),
                host_name: Some(name.clone()),
                node: Some(place.node.to_owned()),
                zone: Some(place.zone.to_owned()),
                region: Some(place.region.to_owned()),
            },
            measuring: measuring::Settings {
                identity: Some(Identity::Secret(self.secret.clone().into())),
                listen: Some(reflector),
                ..measuring::Settings::default()
            },
            web: web.into(),
            targets: self.targets(place)?,
            rules: Rules { intervals, graces, ..Rules::default() },
            discovery: discovery::Settings { fixed: vec![database], ..discovery::Settings::default() },
            book: crate::mesh::rules::Book::default(),
            metrics: crate::coder_metrics::Settings::default(),
            shown: crate::export::collect::Settings::default(),
            // Nothing leaves this machine, whatever its environment says.
            otlp: Asked::of(&name, &name, None, &|_| None),
            in_words: Vec::new(),
        })
    }

    /// The other replicas and the database, each through its own relay.
    fn targets(&self, place: &Place) -> Result<Vec<(Link, Target)>, DemoError> {
        let ways = self.ways.iter().filter(|((source, _), _)| *source == place.name);
        ways.map(|((_, target), way)| match (&self.cluster, story::is_database(target)) {
            (Ok(cluster), true) => {
                let conninfo = Conninfo::parse(&cluster.url_at(way.address.port()), &|_| None)?;
                let link = Link::to(*target, Kind::Postgres, Some(Role::Postgres));
                Ok((link, Target::Postgres(Box::new(conninfo))))
            }
            _ => {
                let at = HostPort { host: way.address.ip().to_string(), port: way.address.port() };
                Ok((Link::to(*target, Kind::Peer, Some(Role::Coderd)), Target::Peer(at)))
            }
        })
        .collect()
    }
}

impl Running {
    fn start(settings: agent::Settings) -> io::Result<Self> {
        let (web, name) = (settings.web.address, settings.own.name.clone());
        let (kill, killed) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // Nobody demands anything.
            let (_, demands) = mpsc::channel(1);
            let load = Box::new(|| Err("the demo has no configuration".to_owned()));
            let reload = agent::Reload { file: None, load, demands };
            let ended = runtime.block_on(async {
                tokio::select! {
                    ended = agent::run(settings, reload, std::future::pending()) => ended,
                    _ = killed => Ok(()),
                }
            });
            runtime.shutdown_background();
            ended
        })?;
        Ok(Self { web, kill: Some(kill), thread: Some(thread) })
    }

    async fn wait_until_ready(&mut self, name: &'static str) -> Result<(), DemoError> {
        let watch = Stopwatch::start();
        loop {
            self.look_alive(name)?;
            if picture::is_ready(self.web).await {
                return Ok(());
            }
            if watch.elapsed() > READY_WITHIN {
                return Err(DemoError::NotReady(name));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn look_alive(&mut self, name: &'static str) -> Result<(), DemoError> {
        let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) else { return Ok(()) };
        match thread.join() {
            Ok(Err(source)) => Err(DemoError::Agent { name, source }),
            Ok(Ok(())) | Err(_) => Err(DemoError::Ended(name)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.kill.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("an agent of the demo has panicked");
        }
    }
}

/// Whether somebody else has taken one of its ports.
fn is_taken(error: &AgentError) -> bool {
    matches!(error, AgentError::Web { .. } | AgentError::Measuring(MeasuringError::Listen(_)))
}

fn free_tcp() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn free_udp() -> io::Result<SocketAddr> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
