//! Rules about regions: who says what, and what the round trips say to it.

use std::collections::{BTreeMap, BTreeSet};

use super::seen::{Judged, Seen};
use super::{Code, Draft, listed};
use crate::mesh::cause::ms;
use crate::mesh::peer::Role;
use crate::mesh::place::claim_in_words;
use crate::mesh::place::verdict::RegionVerdict;
use crate::mesh::region::written;

const CODERD: &[Role] = &[Role::Coderd];
const DATABASE: &[Role] = &[Role::Postgres, Role::Standby];

pub(super) fn coderd_cross_region(seen: &Seen<'_>) -> Vec<Draft> {
    let coderd = seen.coderd();
    let crossing: Vec<_> = seen
        .pairs
        .iter()
        .filter(|pair| pair.crossing.is_some() && both(seen, pair, CODERD, CODERD))
        .collect();
    let Some(first) = crossing.first() else {
        return Vec::new();
    };
    let mut regions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for index in &coderd {
        let region = seen.places[*index].region.as_ref().map(written);
        regions.entry(region.unwrap_or_else(|| "not labelled".to_owned())).or_default().push(*index);
    }
    let main = regions.values().max_by_key(|members| (members.len(), std::cmp::Reverse(members[0])));
    let main = main.cloned().unwrap_or_default();
    let involved: BTreeSet<_> = crossing.iter().flat_map(|pair| [pair.a, pair.b]).collect();
    let outside: Vec<_> = involved.iter().filter(|index| !main.contains(index)).copied().collect();
    // Where all that cross are of one group (nobody is labelled), all of them are named.
    let subjects = if outside.is_empty() { involved.into_iter().collect() } else { outside };
    let names = |members: &[usize]| members.iter().map(|index| seen.name(*index)).collect::<Vec<_>>();
    let groups: Vec<_> =
        regions.iter().map(|(region, members)| format!("{region}: {}", listed(&names(members)))).collect();
    let evidence = format!("{}. {}", groups.join("; "), first.judgement.evidence);
    vec![Draft::new(Code::CoderdCrossRegion, names(&subjects), evidence).seen_by(by(first))]
}

pub(super) fn database_cross_region(seen: &Seen<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for (code, near) in [(Code::DatabaseCrossRegion, false), (Code::DatabaseSameMetro, true)] {
        let pairs = seen
            .pairs
            .iter()
            .filter(|pair| pair.crossing == Some(near) && both(seen, pair, CODERD, DATABASE));
        drafts.extend(grouped(seen, code, pairs.collect()));
    }
    drafts
}

pub(super) fn database_nodes_far(seen: &Seen<'_>) -> Vec<Draft> {
    let far = |pair: &Judged| {
        pair.measured.as_ref().is_some_and(|seeing| {
            seeing.measured.samples >= seen.limits.samples && seeing.measured.min >= seen.limits.budget
        })
    };
    let pairs = seen.pairs.iter().filter(|pair| both(seen, pair, DATABASE, DATABASE));
    grouped(seen, Code::DatabaseNodesFar, pairs.filter(|pair| pair.crossing.is_some() || far(pair)).collect())
}

pub(super) fn suspected(seen: &Seen<'_>) -> Vec<Draft> {
    of_verdict(seen, RegionVerdict::CrossRegionSuspected, Code::CrossRegionSuspected)
}

pub(super) fn contradicted(seen: &Seen<'_>) -> Vec<Draft> {
    of_verdict(seen, RegionVerdict::LabelContradictsMeasurement, Code::LabelContradictsMeasurement)
}

/// Whether one end has one of these roles, and the other one of those.
fn both(seen: &Seen<'_>, pair: &Judged, these: &[Role], those: &[Role]) -> bool {
    (seen.is(pair.a, these) && seen.is(pair.b, those)) || (seen.is(pair.b, these) && seen.is(pair.a, those))
}

fn of_verdict(seen: &Seen<'_>, verdict: RegionVerdict, code: Code) -> Vec<Draft> {
    let pairs = seen.pairs.iter().filter(|pair| pair.judgement.verdict == verdict);
    grouped(seen, code, pairs.collect())
}

/// One finding for each server that explains most of the pairs: ten pairs with one bad end are one finding.
fn grouped(seen: &Seen<'_>, code: Code, mut pairs: Vec<&Judged>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    while !pairs.is_empty() {
        let mut counts = vec![0_usize; seen.servers.len()];
        for pair in &pairs {
            counts[pair.a] += 1;
            counts[pair.b] += 1;
        }
        let most = (0..counts.len()).max_by_key(|index| (counts[*index], std::cmp::Reverse(*index)));
        let Some(culprit) = most else {
            break;
        };
        let (its, others): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|pair| pair.a == culprit || pair.b == culprit);
        pairs = others;
        let ends = its.iter().map(|pair| if pair.a == culprit { pair.b } else { pair.a });
        let subjects = std::iter::once(culprit).chain(ends).map(|index| seen.name(index));
        let more = its.len() - 1;
        let more = if more > 0 { format!(" (and {more} more of its links)") } else { String::new() };
        let evidence = format!("{}{more}", its[0].judgement.evidence);
        drafts.push(Draft::new(code, subjects, evidence).seen_by(by(its[0])));
    }
    drafts
}

fn by(pair: &Judged) -> Option<String> {
    pair.measured.as_ref().map(|seeing| seeing.by.clone())
}

pub(super) fn label_conflict(seen: &Seen<'_>) -> Vec<Draft> {
    let places = seen.places.iter().enumerate().filter(|(_, place)| !place.conflict.is_empty());
    places
        .map(|(index, place)| {
            let claims: Vec<_> = place.conflict.iter().map(claim_in_words).collect();
            let evidence = format!("of {}, {}", seen.servers[index].name, claims.join(", "));
            Draft::new(Code::LabelConflict, [seen.name(index)], evidence)
        })
        .collect()
}

pub(super) fn label_overruled(seen: &Seen<'_>) -> Vec<Draft> {
    let places = seen.places.iter().enumerate().filter(|(_, place)| !place.overruled.is_empty());
    places
        .map(|(index, place)| {
            let claims: Vec<_> = place.overruled.iter().map(claim_in_words).collect();
            let name = seen.name(index);
            let evidence = format!("{name} is in {}, although {}", place.in_words(), claims.join(", "));
            Draft::new(Code::LabelOverruled, [name], evidence)
        })
        .collect()
}

pub(super) fn proxy_other_region(seen: &Seen<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for index in seen.with_role(&[Role::Proxy]) {
        let (server, place) = (&seen.servers[index], &seen.places[index]);
        let Some(region) = &place.region else {
            continue;
        };
        let elsewhere: Vec<_> =
            server.workspaces.iter().filter(|workspace| !seen.atlas.same(workspace, region)).collect();
        if elsewhere.is_empty() || elsewhere.len() < server.workspaces.len() {
            continue;
        }
        let both = seen.atlas.find(region).zip(seen.atlas.find(elsewhere[0]));
        let typical = both.map(|(one, other)| format!(", usually {} away", ms(one.typical_rtt(other).usual)));
        let evidence = format!(
            "{} is in {}, its workspaces are in {}{}",
            server.name,
            place.in_words(),
            listed(&elsewhere.into_iter().map(written).collect::<Vec<_>>()),
            typical.unwrap_or_default()
        );
        drafts.push(Draft::new(Code::ProxyOtherRegion, [server.name.clone()], evidence));
    }
    drafts
}
