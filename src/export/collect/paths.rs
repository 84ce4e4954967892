//! The figures of links.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use probes::target::Kind;

use super::folded::{Cumulative, Folded, Group};
use super::places::{Known, Places};
use super::{OVERFLOW, Scene, Settings, Sheet, number, table, word};
use crate::mesh::distribution::Distribution;
use crate::mesh::peer::Role;
use crate::mesh::state::{State, Watch};

/// What is shown of windows, as names and quantiles.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)];

pub(super) fn collect(
    sheet: &mut Sheet,
    scene: &Scene<'_>,
    places: &Places,
    settings: &Settings,
    folded: &mut Folded,
) {
    let own = scene.links.own();
    let (shown, together) = split(scene, places, settings);
    let source =
        if settings.pairs { own.name.clone() } else { zone(places, &[&own.name], own.zone.as_deref()) };
    let source: Arc<str> = source.into();
    for watch in shown {
        let row = Row::of(&source, &watch.link.target, watch.link.kind);
        row.window(sheet, &[watch], scene.now);
        row.counters(sheet, &Cumulative::of(watch, scene.links.scale()));
        row.place(sheet, watch, places.get(&names(watch).iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let mut members = BTreeMap::<Group, Vec<&Watch>>::new();
    let mut cumulative = BTreeMap::new();
    for (group, id, watch) in &together {
        members.entry(group.clone()).or_default().push(*watch);
        cumulative.insert(*id, (group.clone(), Cumulative::of(watch, scene.links.scale())));
    }
    let sums = folded.add_up(cumulative, scene.links.scale(), scene.now);
    for ((target, kind), watches) in members {
        let row = Row::of(&source, &target, kind);
        row.window(sheet, &watches, scene.now);
        if let Some(sum) = sums.get(&(target, kind)) {
            row.counters(sheet, sum);
        }
    }
    let mut kinds = BTreeMap::<_, usize>::new();
    scene.links.all().for_each(|(_, watch)| *kinds.entry(watch.link.kind).or_default() += 1);
    for (kind, count) in kinds {
        sheet.gauge(&table::TARGETS, vec![word(&own.name), word(kind.as_str())], number(count));
    }
    let over = if settings.pairs { together.len() } else { 0 };
    sheet.gauge(&table::TARGETS_FOLDED, vec![word(&own.name)], number(over));
}

/// Links that are shown under their own names, and those that are shown together with others.
fn split<'a>(
    scene: &'a Scene<'_>,
    places: &Places,
    settings: &Settings,
) -> (Vec<&'a Watch>, Vec<(Group, u32, &'a Watch)>) {
    let mut all: Vec<_> = scene.links.all().collect();
    if !settings.pairs {
        let zone_of = |watch: &Watch| zone(places, &names(watch).each_ref().map(String::as_str), None);
        let together = all.into_iter().map(|(id, watch)| ((zone_of(watch), watch.link.kind), id, watch));
        return (Vec::new(), together.collect());
    }
    // Those that are judged go first, then those that were there first.
    all.sort_by_key(|(id, watch)| (watch.terms().limit.is_none(), *id));
    let rest = all.split_off(all.len().min(settings.targets_at_most));
    let together = rest.into_iter().map(|(id, watch)| ((OVERFLOW.to_owned(), watch.link.kind), id, watch));
    (all.into_iter().map(|(_, watch)| watch).collect(), together.collect())
}

/// What places may know the other end as.
fn names(watch: &Watch) -> [String; 2] {
    let server = watch.leads().map(|leads| leads.to.ip().to_string());
    [watch.link.target.clone(), server.unwrap_or_default()]
}

fn zone(places: &Places, names: &[&str], said: Option<&str>) -> String {
    let known = places.get(names).map(|known| &*known.zone).filter(|zone| !zone.is_empty());
    said.or(known).unwrap_or("unknown").to_owned()
}

/// The labels of one row of figures.
struct Row {
    path: [Arc<str>; 3],
    kind: Kind,
}

impl Row {
    fn of(source: &Arc<str>, target: &str, kind: Kind) -> Self {
        Self { path: [Arc::clone(source), word(target), word(kind.as_str())], kind }
    }

    fn path(&self) -> Vec<Arc<str>> {
        self.path.to_vec()
    }

    fn and(&self, more: &str) -> Vec<Arc<str>> {
        self.path.iter().cloned().chain([word(more)]).collect()
    }

    /// Of the last outcomes of these links: the worst of them, and how many are in each state.
    fn window(&self, sheet: &mut Sheet, watches: &[&Watch], now: Duration) {
        for state in State::ALL {
            let count = watches.iter().filter(|watch| watch.standing().0 == state).count();
            sheet.gauge(&table::STATE, self.and(state.as_str()), number(count));
        }
        let limits: Vec<_> = watches.iter().map(|watch| watch.terms().limit).collect();
        if let [Some(first), rest @ ..] = &*limits
            && rest.iter().all(|limit| *limit == Some(*first))
        {
            sheet.seconds(&table::BUDGET, self.path(), *first);
        }
        let views: Vec<_> = watches.iter().map(|watch| watch.series().window.all()).collect();
        let (lost, slots) = views.iter().fold((0, 0), |(lost, slots), view| {
            (lost + view.without_reply(), slots + view.slots() - view.skipped())
        });
        if slots > 0 {
            sheet.gauge(&table::LOSS, self.path(), f64::from(lost) / f64::from(slots));
        }
        let mut worst = |instrument, of: &dyn Fn(usize) -> Distribution| {
            let all: Vec<_> = (0..views.len()).map(of).collect();
            for (name, quantile) in PERCENTILES {
                if let Some(value) = all.iter().filter_map(|one| one.quantile(quantile)).max() {
                    sheet.seconds(instrument, self.and(name), value);
                }
            }
        };
        worst(&table::RTT, &|at| views[at].rtt());
        if self.kind == Kind::Postgres {
            worst(&table::EXECUTION, &|at| views[at].server());
            worst(&table::NETWORK, &|at| views[at].network());
            let connects = watches.iter().filter_map(|watch| watch.series().bare_connects(watch.age(now)));
            if let Some(connect) = connects.map(|connects| connects.p50).max() {
                sheet.seconds(&table::BARE_CONNECT, self.path(), connect);
            }
        }
    }

    /// What only rises.
    fn counters(&self, sheet: &mut Sheet, of: &Cumulative) {
        let (totals, born) = (&of.totals, of.born);
        for (state, count) in State::ALL.into_iter().zip(of.came_to) {
            sheet.count(&table::TRANSITIONS, self.and(state.as_str()), born, count);
        }
        for (instrument, count) in [
            (&table::JUDGED, totals.judged),
            (&table::EXCEEDED, totals.exceeded),
            (&table::SELF_NOISE, totals.marked_self),
        ] {
            sheet.count(instrument, self.path(), born, count);
        }
        let outcomes = &totals.outcomes;
        for (outcome, count) in [
            ("ok", outcomes.ok),
            ("lost", outcomes.lost),
            ("refused", outcomes.refused),
            ("error", outcomes.error),
            ("skipped_self", outcomes.skipped_self),
        ] {
            sheet.count(&table::SAMPLES, self.and(outcome), born, count);
        }
        let meters = &of.meters;
        match self.kind {
            Kind::Peer => {
                sheet.meter(&table::PEER_RTT, self.path(), &meters.slots);
                sheet.count(&table::LOST, self.and("there"), born, totals.lost_there);
                sheet.count(&table::LOST, self.and("back"), born, totals.lost_back);
                sheet.count(&table::LATE, self.path(), born, totals.late);
            }
            Kind::Postgres => {
                sheet.meter(&table::QUERY, self.path(), &meters.slots);
                sheet.count(&table::RETRANSMITS, self.path(), born, totals.retransmits);
            }
            Kind::Tcp => sheet.meter(&table::CONNECT, self.path(), &meters.slots),
            Kind::Http => sheet.meter(&table::HTTP, self.path(), &meters.slots),
            Kind::Relay => sheet.meter(&table::RELAY, self.and("kept"), &meters.slots),
            Kind::Nats => sheet.meter(&table::NATS, self.path(), &meters.slots),
        }
        if let Some(connects) = &meters.connects {
            sheet.meter(&table::CONNECT, self.path(), connects);
        }
        if let Some(afresh) = &meters.afresh {
            sheet.meter(&table::RELAY, self.and("fresh"), afresh);
        }
        if matches!(self.kind, Kind::Peer | Kind::Postgres) {
            sheet.count(&table::RECONNECTS, self.and("ok"), born, of.reconnects);
            sheet.count(&table::RECONNECTS, self.and("error"), born, of.connects_failed);
        }
    }

    fn place(&self, sheet: &mut Sheet, watch: &Watch, known: Option<&Known>) {
        let known = known.cloned().unwrap_or_default();
        let labels =
            [word(watch.link.role.map_or("", Role::as_str)), known.node, known.zone, known.region, known.by];
        let labels = self.path.iter().cloned().chain(labels).collect();
        sheet.put(&table::TARGET_INFO, labels, Duration::ZERO, super::Value::Number(1.0));
    }
}
