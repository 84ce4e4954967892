//! One region or two: what is said of two ends, held against the round trip between them.
//!
//! A round trip bounds the distance from above and never from below. So the fast one proves something and the slow one
//! does not: an end that answers an anchor sooner than light could come from a region is not in that region
//! (`cross_region_implied`), while one that answers late may just have a long way around (`cross_region_suspected`). And
//! no round trip can confirm a region by itself, since there are regions 3 ms apart.

use std::time::Duration;

use super::verdict::{Judgement, Note, RegionVerdict};
use crate::mesh::cause::ms;
use crate::mesh::region::{Atlas, Region, written};
use crate::mesh::roster::RegionName;

/// From when on a round trip says something about a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What takes this long is no usual way within one region.
    pub budget: Duration,
    /// What takes at most this long is. Between zones 3.4 ms were seen.
    pub same_region: Duration,
    /// What takes at most this long is one site.
    pub same_site: Duration,
    /// So many replies it takes to know the fastest.
    pub samples: u32,
    /// Over so long.
    pub span: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            budget: Duration::from_millis(10),
            same_region: Duration::from_millis(5),
            same_site: Duration::from_millis(3),
            samples: 20,
            span: Duration::from_secs(10),
        }
    }
}

/// What was measured between two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The fastest round trip.
    pub min: Duration,
    /// How many replies there were.
    pub samples: u32,
    /// Over how long.
    pub span: Duration,
    /// Whether the end itself answered (echo, query). A bare connect may be answered by something before it.
    pub end_to_end: bool,
}

/// One of two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What it is called.
    pub name: String,
    /// Where it stands, where that is known.
    pub region: Option<RegionName>,
}

/// Something with a known region that the end without one was measured against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// What it is called.
    pub name: String,
    /// Where it stands.
    pub region: RegionName,
    /// The round trip between the two.
    pub measured: Measured,
}

/// Two ends.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Both of them; the order does not matter.
    pub ends: [&'a End; 2],
    /// What was measured between them, whoever asked.
    pub measured: Option<Measured>,
    /// Where one end has no region: what else is known of it.
    pub anchors: &'a [Anchor],
}

/// Judges two ends.
pub fn decide(pair: &Pair<'_>, atlas: &Atlas, limits: &Limits) -> Judgement {
    let [a, b] = pair.ends;
    let Some(measured) = pair.measured.filter(|measured| enough(measured, limits)) else {
        return not_measured(pair);
    };
    match (&a.region, &b.region) {
        (Some(one), Some(other)) if atlas.same(one, other) => one_region(pair, one, measured, limits),
        (Some(one), Some(other)) => two_regions(pair, [one, other], measured, atlas, limits),
        (Some(region), None) => one_label(b, a, region, pair.anchors, measured, atlas, limits),
        (None, Some(region)) => one_label(a, b, region, pair.anchors, measured, atlas, limits),
        (None, None) => no_label(pair, measured, limits),
    }
}

fn enough(measured: &Measured, limits: &Limits) -> bool {
    measured.samples >= limits.samples && measured.span >= limits.span
}

fn not_measured(pair: &Pair<'_>) -> Judgement {
    let [a, b] = pair.ends;
    let seen = match pair.measured {
        None | Some(Measured { samples: 0, .. }) => "no reply".to_owned(),
        Some(Measured { samples, span, .. }) => {
            format!("only {samples} replies over {:.0} s", span.as_secs_f64())
        }
    };
    let evidence = format!("{seen} between {} and {}", in_words(a), in_words(b));
    Judgement::new(RegionVerdict::Unknown, [Note::NoMeasurement], evidence)
}

fn one_region(pair: &Pair<'_>, region: &RegionName, measured: Measured, limits: &Limits) -> Judgement {
    let [a, b] = pair.ends;
    let said = format!("{} and {} are both labelled {}", a.name, b.name, written(region));
    let took = ms(measured.min);
    if measured.min <= limits.same_region {
        let evidence = format!("{said}, and {took} between them fits");
        Judgement::new(RegionVerdict::SameRegionConfirmed, [], evidence)
    } else if measured.min < limits.budget {
        let evidence = format!("{said}; {took} between them is slow for one region");
        Judgement::new(RegionVerdict::SameRegionConsistent, [Note::SlowPath], evidence)
    } else {
        let evidence = format!(
            "{said}, but even the fastest round trip takes {took}: a detour (VPN, firewall, proxy), or a wrong label"
        );
        let notes = [Note::DetourOrWrongLabel, Note::OverBudget];
        Judgement::new(RegionVerdict::LabelContradictsMeasurement, notes, evidence)
    }
}

fn two_regions(
    pair: &Pair<'_>,
    regions: [&RegionName; 2],
    measured: Measured,
    atlas: &Atlas,
    limits: &Limits,
) -> Judgement {
    let [a, b] = pair.ends;
    let took = ms(measured.min);
    let said = format!("{} and {}", in_words(a), in_words(b));
    let places = atlas.find(regions[0]).zip(atlas.find(regions[1]));
    if let Some((one, other)) = places
        && measured.end_to_end
        && measured.min < one.least_rtt(other)
    {
        let evidence = format!(
            "{took} between {said} is less than the {} that light needs: one of the two labels is wrong",
            ms(one.least_rtt(other))
        );
        return Judgement::new(RegionVerdict::LabelContradictsMeasurement, [Note::Physics], evidence);
    }
    let mut notes = Vec::new();
    let mut evidence = format!("{said} are in different regions, {took} apart");
    match places {
        None => {
            notes.push(Note::NoGeography);
            evidence.push_str(" (where one of the two regions is, the table does not say)");
        }
        Some((one, other)) if one.same_metro(other) => {
            notes.push(Note::SameMetro);
            evidence.push_str(", although in one metropolis");
        }
        Some((one, other)) => {
            let least = one.least_rtt(other)..one.least_rtt_in_fibre(other);
            if least.contains(&measured.min) {
                notes.push(Note::FasterThanFibre);
                evidence.push_str(&format!(
                    "; light in solid fibre needs {}, so the fibre is hollow or a label is wrong",
                    ms(least.end)
                ));
            } else if measured.min < least.start {
                notes.push(Note::NotEndToEnd);
                evidence.push_str(", which is what answers a connect before the end does");
            }
        }
    }
    notes.push(if measured.min < limits.budget { Note::WithinBudget } else { Note::OverBudget });
    Judgement::new(RegionVerdict::CrossRegionDeclared, notes, evidence)
}

/// `open` has no label, `known` stands in `region`.
fn one_label(
    open: &End,
    known: &End,
    region: &RegionName,
    anchors: &[Anchor],
    measured: Measured,
    atlas: &Atlas,
    limits: &Limits,
) -> Judgement {
    let itself = Anchor { name: known.name.clone(), region: region.clone(), measured };
    let anchors: Vec<_> = anchors.iter().chain([&itself]).collect();
    let took = format!("{} between {} and {}", ms(measured.min), open.name, in_words(known));
    // A region that the table does not know cannot be refuted.
    if let Some(here) = atlas.find(region) {
        let feasible = feasible(&anchors, atlas, limits);
        if !feasible.iter().any(|possible| possible.name == here.name) {
            return implied(open, here, &anchors, &feasible, atlas, limits);
        }
        if feasible.iter().all(|possible| possible.same_metro(here)) {
            let evidence = format!("{took}; light reaches no region but that one and those around it");
            return Judgement::new(RegionVerdict::SameRegionConsistent, [Note::ByPhysics], evidence);
        }
    }
    if measured.min >= limits.budget {
        let evidence = format!(
            "{took} is long for one region, and where {} stands nobody said; no proof, since detours take long too",
            open.name
        );
        let notes = [Note::Unlabelled, Note::OverBudget];
        Judgement::new(RegionVerdict::CrossRegionSuspected, notes, evidence)
    } else if measured.min <= limits.same_region {
        let evidence = format!("{took} fits one region; where {} stands nobody said", open.name);
        Judgement::new(RegionVerdict::SameRegionConsistent, [Note::Unlabelled], evidence)
    } else {
        let evidence = format!("{took} fits one region and two; where {} stands nobody said", open.name);
        Judgement::new(RegionVerdict::Unknown, [Note::Unlabelled], evidence)
    }
}

fn implied(
    open: &End,
    here: &Region,
    anchors: &[&Anchor],
    feasible: &[&Region],
    atlas: &Atlas,
    limits: &Limits,
) -> Judgement {
    // The anchor that leaves the least doubt.
    let refuting = bounds(anchors, atlas, limits).max_by_key(|(anchor, place)| {
        (place.least_rtt(here).saturating_sub(anchor.measured.min), std::cmp::Reverse(&anchor.name))
    });
    let mut notes = Vec::new();
    let mut evidence = match refuting {
        Some((anchor, place)) => format!(
            "{} to {} in {} rules out {} for {}: light needs {} between the two",
            ms(anchor.measured.min),
            anchor.name,
            written(&anchor.region),
            written(&here.name),
            open.name,
            ms(place.least_rtt(here)),
        ),
        None => format!("{} cannot be in {}", open.name, written(&here.name)),
    };
    if feasible.is_empty() {
        notes.push(Note::AnchorsContradict);
        evidence.push_str("; no region of the table fits all round trips, so a label may be wrong");
    } else {
        let names: Vec<_> = feasible.iter().take(4).map(|region| written(&region.name)).collect();
        let more = feasible.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" or {more} more") } else { String::new() };
        evidence.push_str(&format!("; it may be in {}{more}", names.join(", ")));
    }
    if feasible.iter().any(|possible| possible.same_metro(here)) {
        notes.push(Note::PerhapsSameMetro);
    }
    Judgement::new(RegionVerdict::CrossRegionImplied, notes, evidence)
}

fn no_label(pair: &Pair<'_>, measured: Measured, limits: &Limits) -> Judgement {
    let [a, b] = pair.ends;
    let took = format!("{} between {} and {}, whose regions nobody named", ms(measured.min), a.name, b.name);
    if measured.min <= limits.same_site {
        let evidence = format!("{took}: as near as one site");
        Judgement::new(RegionVerdict::SameRegionConsistent, [Note::SameSite, Note::Unlabelled], evidence)
    } else if measured.min >= limits.budget {
        let evidence = format!("{took}: long for one region, but no proof");
        Judgement::new(RegionVerdict::CrossRegionSuspected, [Note::Unlabelled, Note::OverBudget], evidence)
    } else {
        Judgement::new(RegionVerdict::Unknown, [Note::Unlabelled], took)
    }
}

/// Anchors that prove something, with where they are.
fn bounds<'a>(
    anchors: &'a [&'a Anchor],
    atlas: &'a Atlas,
    limits: &'a Limits,
) -> impl Iterator<Item = (&'a Anchor, &'a Region)> {
    let proving =
        anchors.iter().filter(|anchor| anchor.measured.end_to_end && enough(&anchor.measured, limits));
    proving.filter_map(|anchor| Some((*anchor, atlas.find(&anchor.region)?)))
}

/// The regions in which something with these round trips may be.
pub fn feasible<'a>(anchors: &[&Anchor], atlas: &'a Atlas, limits: &Limits) -> Vec<&'a Region> {
    let bounds: Vec<_> = bounds(anchors, atlas, limits).collect();
    let fits = |region: &&Region| {
        bounds.iter().all(|(anchor, place)| anchor.measured.min >= place.least_rtt(region))
    };
    atlas.regions().filter(fits).collect()
}

fn in_words(end: &End) -> String {
    match &end.region {
        Some(region) => format!("{} in {}", end.name, written(region)),
        None => end.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RegionVerdict::{
        CrossRegionDeclared, CrossRegionImplied, CrossRegionSuspected, LabelContradictsMeasurement,
        SameRegionConfirmed, SameRegionConsistent, Unknown,
    };
    use super::*;
    use crate::mesh::region::name;

    const USE1: &str = "aws/us-east-1";
    const USE2: &str = "aws/us-east-2";
    const EUW1: &str = "aws/eu-west-1";

    fn measured(ms: f64) -> Measured {
        Measured {
            min: Duration::from_secs_f64(ms / 1000.0),
            samples: 20,
            span: Duration::from_secs(10),
            end_to_end: true,
        }
    }

    fn anchor(name_of: &str, region: &str, ms: f64) -> Anchor {
        Anchor { name: name_of.into(), region: name(region), measured: measured(ms) }
    }

    /// Both ways round, which must be the same.
    fn judge(a: &str, b: &str, measured: Option<Measured>, anchors: &[Anchor]) -> Judgement {
        let atlas = Atlas::built_in();
        let end = |name_of: &str, region: &str| End {
            name: name_of.into(),
            region: (!region.is_empty()).then(|| name(region)),
        };
        let (a, b) = (end("a", a), end("b", b));
        let one = decide(&Pair { ends: [&a, &b], measured, anchors }, &atlas, &Limits::default());
        let other = decide(&Pair { ends: [&b, &a], measured, anchors }, &atlas, &Limits::default());
        assert_eq!((one.verdict, &one.notes), (other.verdict, &other.notes));
        one
    }

    fn verdict(a: &str, b: &str, ms: f64) -> (RegionVerdict, Vec<Note>) {
        let judgement = judge(a, b, Some(measured(ms)), &[]);
        (judgement.verdict, judgement.notes)
    }

    #[test]
    fn two_labels_that_agree() {
        assert_eq!(verdict(USE1, USE1, 0.9), (SameRegionConfirmed, vec![]));
        assert_eq!(verdict(USE1, "us-east-1", 0.9), (SameRegionConfirmed, vec![]));
        assert_eq!(verdict(USE1, USE1, 5.0), (SameRegionConfirmed, vec![]));
        assert_eq!(verdict(USE1, USE1, 7.5), (SameRegionConsistent, vec![Note::SlowPath]));
        let soft = vec![Note::DetourOrWrongLabel, Note::OverBudget];
        assert_eq!(verdict(USE1, USE1, 10.0), (LabelContradictsMeasurement, soft.clone()));
        assert_eq!(verdict(USE1, USE1, 14.8), (LabelContradictsMeasurement, soft.clone()));
        // Where the table knows nothing, the words still count.
        assert_eq!(verdict("cellar", "cellar", 0.1), (SameRegionConfirmed, vec![]));
        let behind = judge(USE1, USE1, Some(measured(38.0)), &[]);
        assert_eq!((behind.verdict, &behind.notes), (LabelContradictsMeasurement, &soft));
        assert_eq!(
            behind.evidence,
            "a and b are both labelled aws/us-east-1, but even the fastest round trip takes 38.0 ms: a detour (VPN, \
             firewall, proxy), or a wrong label"
        );
    }

    #[test]
    fn two_labels_that_differ() {
        let over = |first: &[Note]| [first, &[Note::OverBudget]].concat();
        let within = |first: &[Note]| [first, &[Note::WithinBudget]].concat();
        assert_eq!(verdict(USE1, USE2, 14.7), (CrossRegionDeclared, over(&[])));
        assert_eq!(verdict("aws/eu-central-2", "aws/eu-south-1", 4.6), (CrossRegionDeclared, within(&[])));
        assert_eq!(verdict(USE1, EUW1, 1.2), (LabelContradictsMeasurement, vec![Note::Physics]));
        assert_eq!(verdict(USE1, EUW1, 45.0), (CrossRegionDeclared, over(&[Note::FasterThanFibre])));
        assert_eq!(
            verdict("gcp/europe-west2", "aws/eu-west-2", 4.2),
            (CrossRegionDeclared, within(&[Note::SameMetro]))
        );
        assert_eq!(verdict("cellar", USE1, 4.0), (CrossRegionDeclared, within(&[Note::NoGeography])));
        assert_eq!(
            judge(USE1, EUW1, Some(measured(1.2)), &[]).evidence,
            "1.20 ms between a in aws/us-east-1 and b in aws/eu-west-1 is less than the 35.4 ms that light needs: one of \
             the two labels is wrong"
        );
    }

    #[test]
    fn what_something_before_the_end_may_have_answered_proves_nothing() {
        let connect = Measured { end_to_end: false, ..measured(1.2) };
        let judgement = judge(USE1, EUW1, Some(connect), &[]);
        assert_eq!(judgement.verdict, CrossRegionDeclared);
        assert_eq!(judgement.notes, [Note::NotEndToEnd, Note::WithinBudget]);
        let behind = [Anchor { measured: connect, ..anchor("c", EUW1, 1.2) }];
        assert_eq!(judge("", USE1, Some(measured(4.0)), &behind).verdict, SameRegionConsistent);
    }

    #[test]
    fn too_few_replies_say_nothing_whatever_the_labels() {
        let few = Measured { samples: 19, ..measured(0.5) };
        let short = Measured { span: Duration::from_millis(9_999), ..measured(0.5) };
        for (a, b) in [(USE1, USE1), (USE1, EUW1), (USE1, ""), ("", "")] {
            for measured in [None, Some(few), Some(short)] {
                let judgement = judge(a, b, measured, &[]);
                assert_eq!((judgement.verdict, judgement.notes), (Unknown, vec![Note::NoMeasurement]));
            }
        }
        assert_eq!(
            judge(USE1, EUW1, None, &[]).evidence,
            "no reply between a in aws/us-east-1 and b in aws/eu-west-1"
        );
        // And an anchor with too few of them proves nothing.
        let weak = [Anchor { measured: few, ..anchor("c", USE2, 0.8) }];
        assert_eq!(judge("", USE1, Some(measured(12.0)), &weak).verdict, CrossRegionSuspected);
    }

    #[test]
    fn one_label_and_an_anchor_that_refutes_it() {
        let judgement = judge("", USE1, Some(measured(12.0)), &[anchor("c", USE2, 0.8)]);
        assert_eq!(judgement.verdict, CrossRegionImplied);
        assert_eq!(judgement.notes, []);
        assert_eq!(
            judgement.evidence,
            "0.80 ms to c in aws/us-east-2 rules out aws/us-east-1 for a: light needs 2.16 ms between the two; it may be \
             in aws/us-east-2, gcp/us-east5"
        );
        let judgement = judge("", USE1, Some(measured(30.0)), &[anchor("c", EUW1, 2.0)]);
        assert_eq!(judgement.verdict, CrossRegionImplied);
        assert!(
            judgement.evidence.starts_with(
                "2.00 ms to c in aws/eu-west-1 rules out aws/us-east-1 for a: light needs 35.4 ms"
            )
        );
        // Of two that refute, the one that leaves the least doubt is named.
        let both = [anchor("c", USE2, 0.8), anchor("d", EUW1, 2.0)];
        let judgement = judge("", USE1, Some(measured(30.0)), &both);
        assert!(judgement.evidence.starts_with("2.00 ms to d"), "{}", judgement.evidence);
        assert_eq!(judgement.notes, [Note::AnchorsContradict]);
    }

    #[test]
    fn one_label_alone() {
        let unlabelled = vec![Note::Unlabelled];
        let suspected = vec![Note::Unlabelled, Note::OverBudget];
        assert_eq!(verdict("", USE1, 12.0), (CrossRegionSuspected, suspected.clone()));
        assert_eq!(verdict("", USE1, 10.0), (CrossRegionSuspected, suspected));
        assert_eq!(verdict("", USE1, 7.0), (Unknown, unlabelled.clone()));
        assert_eq!(verdict("", USE1, 5.0), (SameRegionConsistent, unlabelled.clone()));
        // A region that is not in the table can be neither refuted nor proved.
        assert_eq!(verdict("", "cellar", 0.1), (SameRegionConsistent, unlabelled));
        assert_eq!(
            judge("", "cellar", Some(measured(12.0)), &[anchor("c", USE1, 0.5)]).verdict,
            CrossRegionSuspected
        );
        // Nothing else is as near to Sao Paulo as its own regions are; so 9 ms prove nothing, and 0.2 ms do.
        assert_eq!(verdict("", "aws/sa-east-1", 0.2), (SameRegionConsistent, vec![Note::ByPhysics]));
        assert_eq!(
            judge("", USE1, Some(measured(12.0)), &[anchor("c", USE1, 0.2)]).notes,
            [Note::ByPhysics],
            "the anchor beside it decides, the slow way does not"
        );
    }

    #[test]
    fn no_label_at_all() {
        assert_eq!(verdict("", "", 3.0), (SameRegionConsistent, vec![Note::SameSite, Note::Unlabelled]));
        assert_eq!(verdict("", "", 3.1), (Unknown, vec![Note::Unlabelled]));
        assert_eq!(verdict("", "", 10.0), (CrossRegionSuspected, vec![Note::Unlabelled, Note::OverBudget]));
    }

    #[test]
    fn the_feasible_sets_around_virginia() {
        let atlas = Atlas::built_in();
        let around = |anchors: &[Anchor]| {
            let anchors: Vec<_> = anchors.iter().collect();
            feasible(&anchors, &atlas, &Limits::default())
                .iter()
                .map(|region| written(&region.name))
                .collect::<Vec<_>>()
        };
        let near = ["aws/us-east-1", "azure/eastus", "azure/eastus2", "gcp/us-east4"];
        for ms in [0.7, 1.0, 1.5] {
            assert_eq!(around(&[anchor("c", USE1, ms)]), near, "{ms}");
        }
        for (ms, count) in [(3.0, 8), (5.0, 12), (10.0, 15)] {
            assert_eq!(around(&[anchor("c", USE1, ms)]).len(), count, "{ms}");
        }
        let both = [anchor("a", USE1, 12.0), anchor("c", USE2, 0.8)];
        assert_eq!(around(&both), ["aws/us-east-2", "gcp/us-east5"]);
        assert_eq!(around(&[]).len(), 124);
    }

    proptest! {
        /// Whoever truly stands in a region can never be ruled out of it: no honest round trip is faster than light.
        #[test]
        fn nobody_is_ruled_out_of_where_it_is(
            home in 0usize..124, places in prop::collection::vec((0usize..124, 0.0f64..50.0), 0..6), own in 0.0f64..50.0
        ) {
            let atlas = Atlas::built_in();
            let regions: Vec<_> = atlas.regions().collect();
            let home = regions[home];
            let honest = |place: &Region, more: f64| Measured {
                min: home.least_rtt(place) + Duration::from_secs_f64(more / 1000.0),
                ..measured(0.0)
            };
            let anchors: Vec<_> = places
                .iter()
                .map(|(index, more)| Anchor {
                    name: format!("c{index}"),
                    region: regions[*index].name.clone(),
                    measured: honest(regions[*index], *more),
                })
                .collect();
            let judgement = judge("", &written(&home.name), Some(honest(home, own)), &anchors);
            prop_assert_ne!(judgement.verdict, CrossRegionImplied);
        }
    }
}
