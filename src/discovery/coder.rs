//! Coder's own PostgreSQL as a source: its `replicas`, `workspace_proxies` and `provisioner_daemons`, and beside them the
//! agents, which tell each other by NOTIFY where they answer ([`super::presence`]).
//!
//! One connection, a few rows every ten seconds and whenever coderd itself says that a replica has come or gone. What this
//! role may not read is said once, and the rest goes on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use probes::postgres::conninfo::Conninfo;
use probes::postgres::reader::{Reader, Row};
use probes::sample::{Failure, Reason};
use probes::stopwatch::Stopwatch;
use probes::target::HostPort;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::postgres;
use super::presence::{self, ANNOUNCE_EVERY, CHANNEL};
use super::{News, Peers};
use crate::mesh::peer::Own;
use crate::mesh::roster::{Sighting, Source};
use crate::mesh::schedule::Schedule;

mod columns;
mod connection;
mod ear;
mod hearing;
mod pace;
mod replicas;
mod rows;

use columns::{Queries, Query};
use connection::{Connection, Hearing};
use ear::Heard;
use pace::Pace;
use replicas::Ledger;
pub(crate) use replicas::relay_url;
pub(crate) use rows::PROXY_KEY;
use rows::{agent_beside, provisioner, proxy, replica, what_may_be_asked};

/// The rows are not read more often than this, however much is notified.
const READ_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Nor is told more often who has been heard, nor a question answered, however many are heard and ask.
const TELL_AT_MOST_EVERY: Duration = Duration::from_secs(1);
const ANSWER_AT_MOST_EVERY: Duration = Duration::from_secs(3);
/// And the rights are looked at anew this often: they may have been granted meanwhile.
const LOOK_AT_RIGHTS_EVERY: Duration = Duration::from_secs(300);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So many notifications wait until the rows are read.
const NOTES_AT_MOST: usize = 256;
/// Our own announcement comes back within this, or LISTEN does not work here.
const ECHO_WITHIN: Duration = Duration::from_secs(5);

/// Host and port of a relay address as Coder's tables have it.
pub fn relay_address(text: &str) -> Option<HostPort> {
    replicas::relay(text)
}

/// How Coder's database is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Coder's own connection string.
    pub conninfo: Conninfo,
    /// Who we are.
    pub own: Own,
    /// Where our reflector can be reached; where it listens on any address, that is found out.
    pub reflector: Option<SocketAddr>,
    /// Addresses to announce instead of what is found out.
    pub advertise: Vec<HostPort>,
    /// The port of agents beside replicas that cannot announce themselves.
    pub peer_port: u16,
    /// How often the rows are read.
    pub every: Duration,
}

/// Watches until nobody listens, or `stop` is set: then says goodbye to the other agents.
pub async fn watch(
    settings: Settings,
    news: mpsc::Sender<News>,
    peers: watch::Receiver<Peers>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = FIRST_PAUSE;
    let mut view = View::new(settings, peers);
    loop {
        let session = async {
            match Reader::open(&view.settings.conninfo, OPEN_WITHIN).await {
                Ok(reader) => {
                    let ended = view.follow(reader, &news, &mut pause, stop.clone()).await;
                    view.before = view.now();
                    ended
                }
                Err(failure) => Err(failure),
            }
        };
        match session.await {
            Ok(()) => return,
            Err(failure) => {
                // The agents may be reached all the same, so what was heard of them stays too.
                if news.send(News::Failed(Source::Coder, failure.to_string())).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = news.closed() => return,
            _ = stop.changed() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What is known over all connections.
struct View {
    settings: Settings,
    /// How long the connections before this one lasted together.
    before: Duration,
    since: Stopwatch,
    ledger: Ledger,
    heard: presence::Heard,
    peers: watch::Receiver<Peers>,
    said: BTreeSet<String>,
    /// Whether the server was a standby when it was asked last: LISTEN there would be an error in its log each time.
    is_standby: bool,
}

impl View {
    fn new(settings: Settings, peers: watch::Receiver<Peers>) -> Self {
        Self {
            settings,
            before: Duration::ZERO,
            since: Stopwatch::start(),
            ledger: Ledger::default(),
            heard: presence::Heard::default(),
            peers,
            said: BTreeSet::new(),
            is_standby: false,
        }
    }

    /// Reads and listens on one connection; `Ok` when nobody wants to know any more.
    async fn follow(
        &mut self,
        reader: Reader,
        news: &mpsc::Sender<News>,
        pause: &mut Duration,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        self.since = Stopwatch::start();
        let announcement = self.announcement(&reader);
        let mut connection = Connection::new(Arc::new(reader), announcement).await?;
        self.tell_hearing(&connection, news).await;
        let (listening, is_listening) = watch::channel(connection.hearing.listens());
        let (_ear, mut heard) = self.ear(&connection, news, is_listening)?;
        let mut tick = interval(self.settings.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut announce = interval(ANNOUNCE_EVERY);
        announce.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rights = interval(LOOK_AT_RIGHTS_EVERY);
        rights.reset();
        let (mut read, mut tell) = (Pace::every(READ_AT_MOST_EVERY), Pace::every(TELL_AT_MOST_EVERY));
        let mut answer = Pace::every(ANSWER_AT_MOST_EVERY);
        let mut announced = None::<Stopwatch>;
        loop {
            let echo_in = announced
                .as_ref()
                .map_or(ECHO_WITHIN, |watch: &Stopwatch| ECHO_WITHIN.saturating_sub(watch.elapsed()));
            tokio::select! {
                biased;
                _ = stop.changed() => {
                    connection.goodbye().await;
                    return Ok(());
                }
                () = news.closed() => return Ok(()),
                () = sleep(answer.wait()), if answer.is_wanted() => {
                    answer.done();
                    self.announce(&connection, news).await?;
                }
                () = sleep(tell.wait()), if tell.is_wanted() => {
                    tell.done();
                    let sightings = self.heard.sightings(self.now());
                    send(news, News::Seen(Source::Presence, sightings)).await;
                }
                _ = tick.tick() => read.want(),
                () = sleep(read.wait()), if read.is_wanted() => {
                    read.done();
                    tokio::select! {
                        done = self.read(&connection, news) => done?,
                        _ = stop.changed() => {
                            connection.goodbye().await;
                            return Ok(());
                        }
                    }
                    *pause = FIRST_PAUSE;
                    if matches!(connection.hearing, Hearing::Refused(_)) && !self.is_standby {
                        // A standby that was promoted; our announcement will tell whether it works.
                        connection.listen().await?;
                        self.hearing_changed(&mut connection, news, &listening, &mut announced, &mut announce).await;
                    } else if connection.hearing == Hearing::Pooled {
                        connection.take_back().await?;
                    }
                }
                _ = announce.tick(), if connection.hearing.listens() => {
                    if self.announce(&connection, news).await? {
                        announced.get_or_insert_with(Stopwatch::start);
                    }
                    // Whoever was silent for too long is there no more.
                    if connection.hearing == Hearing::Works {
                        tell.want();
                    }
                }
                () = sleep(echo_in), if connection.hearing == Hearing::Waiting && announced.is_some() => {
                    connection.hearing = Hearing::Deaf;
                    connection.look_again().await?;
                    self.hearing_changed(&mut connection, news, &listening, &mut announced, &mut announce).await;
                    read.want();
                }
                _ = rights.tick() => {
                    connection.queries = what_may_be_asked(&connection.reader).await?;
                    connection.look_again().await?;
                    self.hearing_changed(&mut connection, news, &listening, &mut announced, &mut announce).await;
                }
                // Last: however many there are, they must not keep the rest from its turn.
                note = heard.recv() => {
                    let note = match note {
                        Some(Heard::Note(note)) => note,
                        Some(Heard::Ended(failure)) => return Err(failure),
                        Some(Heard::Pooled) => {
                            connection.look_again().await?;
                            self.hearing_changed(&mut connection, news, &listening, &mut announced, &mut announce).await;
                            read.want();
                            continue;
                        }
                        None => return Err(Failure::new(Reason::Local, "the ear of the connection has ended")),
                    };
                    if note.channel == CHANNEL {
                        if connection.hearing.listens() {
                            connection.hearing = Hearing::Works;
                        }
                        let heard = self.heard.hear(&note.payload, self.now());
                        if heard != presence::News::Nothing && !connection.asks() {
                            answer.want_in(self.answer_in());
                        }
                        tell.want();
                    } else {
                        read.want();
                    }
                }
            }
        }
    }

    /// The time that we were connected: what was not heard or read while we were not, says nothing about anybody.
    fn now(&self) -> Duration {
        self.before + self.since.elapsed()
    }

    async fn read(&mut self, connection: &Connection, news: &mpsc::Sender<News>) -> Result<(), Failure> {
        let mut sightings = Vec::new();
        let Queries { replicas, proxies, provisioners } = &connection.queries;
        if let Some(sql) = self.statement("replicas", replicas, news).await {
            let rows = connection.reader.rows(sql, &[]).await?;
            let rows: Vec<_> = rows.iter().map(replica).collect::<Result<_, _>>()?;
            sightings.extend(self.ledger.read(&rows, self.now()));
        }
        if !matches!(connection.hearing, Hearing::Waiting | Hearing::Works) {
            // Nobody can announce itself: whoever stands beside a replica may answer at its address.
            let beside = sightings.iter().filter_map(|s| agent_beside(s, self.settings.peer_port)).collect();
            send(news, News::Seen(Source::Presence, beside)).await;
        }
        if let Some(sql) = self.statement("workspace_proxies", proxies, news).await {
            sightings.extend(self.beside(connection, sql, proxy, news).await?);
        }
        if let Some(sql) = self.statement("provisioner_daemons", provisioners, news).await {
            sightings.extend(self.beside(connection, sql, provisioner, news).await?);
        }
        if matches!(replicas, Query::Ask(_)) {
            send(news, News::Seen(Source::Coder, sightings)).await;
        } else {
            // Without the replicas nobody knows how many there are, whatever else is seen.
            send(news, News::Failed(Source::Coder, replicas.refusal("replicas"))).await;
        }
        let pooled = connection.hearing.pooled();
        match postgres::look(&connection.reader, &self.settings.conninfo.to_string(), pooled).await {
            Ok(facts) => {
                self.is_standby = facts.standby;
                send(news, News::Database(facts)).await;
            }
            Err(failure) => self.tolerate(failure, Source::Postgres, news).await?,
        }
        Ok(())
    }

    /// What to ask of this table; where nothing can be asked, that is said once.
    async fn statement<'a>(
        &mut self,
        table: &str,
        query: &'a Query,
        news: &mpsc::Sender<News>,
    ) -> Option<&'a str> {
        match query {
            Query::Ask(sql) => return Some(sql),
            Query::Missing | Query::Denied(_) if table == "replicas" => {}
            Query::Missing | Query::Denied(_) => {
                self.blind(news, Source::Coder, query.refusal(table)).await;
            }
        }
        None
    }

    /// The rows of a table that is only of interest beside the replicas.
    async fn beside(
        &mut self,
        connection: &Connection,
        sql: &str,
        read: fn(&Row) -> Result<Option<Sighting>, Failure>,
        news: &mpsc::Sender<News>,
    ) -> Result<Vec<Sighting>, Failure> {
        match connection.reader.rows(sql, &[]).await {
            Ok(rows) => {
                let mut sightings = Vec::new();
                for row in &rows {
                    match read(row) {
                        Ok(sighting) => sightings.extend(sighting),
                        Err(failure) => self.tolerate(failure, Source::Coder, news).await?,
                    }
                }
                Ok(sightings)
            }
            Err(failure) => self.tolerate(failure, Source::Coder, news).await.map(|()| Vec::new()),
        }
    }

    /// Tells the others of us; whether that was taken over. With a full queue it is not, and the rest goes on.
    async fn announce(
        &mut self,
        connection: &Connection,
        news: &mpsc::Sender<News>,
    ) -> Result<bool, Failure> {
        match connection.announce().await {
            Ok(()) => Ok(true),
            Err(failure) => self.tolerate(failure, Source::Presence, news).await.map(|()| false),
        }
    }

    /// A connection that stands is not given up for a statement that is refused.
    async fn tolerate(
        &mut self,
        failure: Failure,
        source: Source,
        news: &mpsc::Sender<News>,
    ) -> Result<(), Failure> {
        if matches!(failure.reason, Reason::Closed | Reason::Timeout | Reason::Unreachable) {
            return Err(failure);
        }
        self.blind(news, source, failure.to_string()).await;
        Ok(())
    }

    async fn blind(&mut self, news: &mpsc::Sender<News>, source: Source, text: String) {
        if self.said.insert(text.clone()) {
            send(news, News::Blind(source, text)).await;
        }
    }

    /// When to answer one who is new or asks, who need not wait for half a minute: soon where agents are few, and where
    /// they are many not all at once, since each answer reaches all of them.
    fn answer_in(&self) -> Duration {
        let spread = Duration::from_millis(20) * u32::try_from(self.heard.count()).unwrap_or(u32::MAX);
        Schedule {
            interval: spread.max(Duration::from_millis(1)),
            ..Schedule::endless(spread, &self.settings.own.name)
        }
        .at(0)
    }
}

async fn send(news: &mpsc::Sender<News>, item: News) {
    // Where nobody listens any more, the loop finds out by itself.
    let _ = news.send(item).await;
}
