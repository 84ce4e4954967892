//! Hearing the other agents: what we say of ourselves, the ear of a connection, and what is said when nothing is heard.

use std::net::IpAddr;
use std::sync::Arc;

use probes::postgres::notify::Notifier;
use probes::postgres::reader::Reader;
use probes::sample::{Failure, Reason};
use probes::stopwatch::Stopwatch;
use probes::target::HostPort;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Interval;

use super::connection::Connection;
use super::ear::{Ear, Heard};
use super::{NOTES_AT_MOST, Settings, View, send};
use crate::discovery::presence::Announcement;
use crate::discovery::{News, outward, pubsub};
use crate::mesh::pubsub::Exchange;
use crate::mesh::roster::Source;

impl View {
    /// A task that hears for this connection, ended with the answer, and what it hands on.
    pub(super) fn ear(
        &self,
        connection: &Connection,
        news: &mpsc::Sender<News>,
        listening: watch::Receiver<bool>,
    ) -> Result<(JoinSet<()>, mpsc::Receiver<Heard>), Failure> {
        let conninfo = &self.settings.conninfo;
        let notifier = Notifier::new(conninfo.clone()).map_err(|error| Failure::new(Reason::Tls, error))?;
        let (others, heard) = mpsc::channel(NOTES_AT_MOST);
        let ear = Ear {
            name: self.settings.own.name.clone(),
            reader: Arc::clone(&connection.reader),
            notifier,
            listening,
            peers: self.peers.clone(),
            others,
            news: news.clone(),
        };
        let notes = connection.reader.notes();
        let notes =
            notes.ok_or_else(|| Failure::new(Reason::Local, "somebody else has the notifications"))?;
        let mut task = JoinSet::new();
        task.spawn(ear.run(notes));
        Ok((task, heard))
    }

    /// It may be another one than before.
    pub(super) async fn hearing_changed(
        &mut self,
        connection: &mut Connection,
        news: &mpsc::Sender<News>,
        listening: &watch::Sender<bool>,
        announced: &mut Option<Stopwatch>,
        announce: &mut Interval,
    ) {
        let listens = connection.hearing.listens();
        listening.send_if_modified(|before| std::mem::replace(before, listens) != listens);
        if connection.begins() {
            *announced = None;
            announce.reset_immediately();
        }
        self.tell_hearing(connection, news).await;
    }

    /// Says what keeps us from hearing, once, and lets it count as what came of a question.
    pub(super) async fn tell_hearing(&mut self, connection: &Connection, news: &mpsc::Sender<News>) {
        let Some((text, failure)) = connection.hearing.obstacle() else { return };
        if !connection.hearing.listens() {
            let every = pubsub::ASK_EVERY;
            let exchange = Exchange { own: failure.into(), peer: None, every, peers: 0 };
            send(news, News::Pubsub(Box::new(exchange))).await;
        }
        self.blind(news, Source::Presence, text).await;
    }

    /// What we say of ourselves. On «any address» the way to the database tells which one is ours.
    pub(super) fn announcement(&self, reader: &Reader) -> Announcement {
        let Settings { own, reflector, advertise, .. } = &self.settings;
        let here = reader.local().map(|local| local.ip()).filter(|ip| !ip.is_loopback());
        let ip = reflector.and_then(|reflector| match reflector.ip() {
            any if any.is_unspecified() => here.or_else(outward),
            ip => Some(ip),
        });
        // An IPv4 address that came through a socket of both families is one.
        let ips: Vec<IpAddr> = ip.map(|ip| ip.to_canonical()).into_iter().collect();
        let mut addresses = advertise.clone();
        if let (true, Some(reflector)) = (addresses.is_empty(), reflector) {
            addresses.extend(ips.iter().map(|ip| HostPort { host: ip.to_string(), port: reflector.port() }));
        }
        Announcement::of(own, &ips, &addresses)
    }
}
