//! Who is near enough to whom: sites, latency domains, and the fewest nodes that would have to move.
//!
//! A *site* is whatever hangs together by round trips of at most 3 ms, from neighbour to neighbour (single linkage). A
//! *domain* is a set in which **every** pair is below the budget (complete linkage): by single linkage at 10 ms, six
//! regions of Europe would be one. A pair that nobody measured is never near: it keeps a domain apart, and is told from one
//! that is far.
//!
//! The nodes to move are those outside of the largest set around the primary in which every pair is below the budget. That set is
//! searched for, since the domains, which grow greedily from the nearest pair on, may split it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod home;

/// What the distances are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A pair that takes this long is too far apart.
    pub budget: Duration,
    /// Neighbours that take at most this long are one site.
    pub same_site: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { budget: Duration::from_millis(10), same_site: Duration::from_millis(3) }
    }
}

/// The fastest round trip that one node saw to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Who measured.
    pub source: String,
    /// To whom.
    pub target: String,
    /// The fastest.
    pub min: Duration,
}

/// A pair whose two directions differ too much for one path: different routes, or the noise of one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lopsided {
    /// Who sees the shorter way.
    pub fast: String,
    /// Who sees the longer one.
    pub slow: String,
    /// The two.
    pub min: (Duration, Duration),
}

/// A pair that would be much nearer by way of a third.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detour {
    /// The pair.
    pub pair: (String, String),
    /// By way of whom.
    pub via: String,
    /// As it is.
    pub direct: Duration,
    /// As it could be.
    pub around: Duration,
}

/// What follows from all distances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    /// By single linkage; every node is in one of them.
    pub sites: Vec<Vec<String>>,
    /// By complete linkage; every node is in one of them. The largest comes first.
    pub domains: Vec<Vec<String>>,
    /// The largest set around the primary (or at all, without one) in which every pair is below the budget.
    pub home: Vec<String>,
    /// The fewest nodes that have to move: all outside of `home` that are known to be too far from one in it.
    pub to_move: Vec<String>,
    /// Fewer yet, where there are: if the primary moves too, these are all that have to.
    pub or_move: Option<Vec<String>>,
    /// Outside of `home` only because somebody did not measure them.
    pub undecided: Vec<String>,
    /// Pairs of which both are measured and whose directions differ.
    pub lopsided: Vec<Lopsided>,
    /// Pairs with a way around; the worst first.
    pub detours: Vec<Detour>,
}

/// A distance that nobody knows. Longer than any budget, so never near.
const UNKNOWN: u64 = u64::MAX;

/// All pairs, in nanoseconds, by the place of the nodes in the list.
struct Matrix {
    size: usize,
    cells: Vec<u64>,
}

impl Matrix {
    fn at(&self, a: usize, b: usize) -> u64 {
        self.cells[a * self.size + b]
    }

    fn row(&self, a: usize) -> &[u64] {
        &self.cells[a * self.size..(a + 1) * self.size]
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(UNKNOWN - 1)
}

/// Looks at all `nodes`. Ways from or to anybody else are passed over.
pub fn domains(nodes: &BTreeSet<String>, ways: &[Way], primary: Option<&str>, limits: &Limits) -> Domains {
    let names: Vec<&String> = nodes.iter().collect();
    let (matrix, lopsided) = symmetrised(&names, ways);
    let budget = nanos(limits.budget);
    let sites = sites(&matrix, nanos(limits.same_site));
    let domains = linked(&matrix, &sites, budget);
    let primary = primary.and_then(|primary| names.iter().position(|name| *name == primary));
    let home = home::largest(&matrix, budget, primary);
    let outside = |home: &[usize]| (0..names.len()).filter(|node| !home.contains(node)).collect::<Vec<_>>();
    let known_far =
        |node: &usize| home.iter().any(|other| (budget..UNKNOWN).contains(&matrix.at(*node, *other)));
    let (to_move, undecided): (Vec<_>, Vec<_>) = outside(&home).into_iter().partition(known_far);
    let free = outside(&home::largest(&matrix, budget, None));
    let or_move = (primary.is_some() && undecided.is_empty() && free.len() < to_move.len()).then_some(free);
    let named = |members: &[usize]| members.iter().map(|node| names[*node].clone()).collect::<Vec<_>>();
    Domains {
        sites: sites.iter().map(|site| named(site)).collect(),
        domains: domains.iter().map(|domain| named(domain)).collect(),
        home: named(&home),
        to_move: named(&to_move),
        or_move: or_move.as_deref().map(named),
        undecided: named(&undecided),
        lopsided,
        detours: detours(&matrix, &names),
    }
}

/// The faster direction of each pair is its distance.
fn symmetrised(names: &[&String], ways: &[Way]) -> (Matrix, Vec<Lopsided>) {
    let places: BTreeMap<&str, usize> =
        names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let size = names.len();
    let mut directed = vec![UNKNOWN; size * size];
    for way in ways {
        let (Some(source), Some(target)) = (places.get(way.source.as_str()), places.get(way.target.as_str()))
        else {
            continue;
        };
        let cell = &mut directed[source * size + target];
        *cell = (*cell).min(nanos(way.min));
    }
    let mut matrix = Matrix { size, cells: directed.clone() };
    let mut lopsided = Vec::new();
    for a in 0..size {
        matrix.cells[a * size + a] = 0;
        for b in a + 1..size {
            let (there, back) = (directed[a * size + b], directed[b * size + a]);
            let (near, far) = (there.min(back), there.max(back));
            matrix.cells[a * size + b] = near;
            matrix.cells[b * size + a] = near;
            // Half a millisecond, or a fifth of the longer one.
            if far != UNKNOWN && far - near > (far / 5).max(500_000) {
                let (fast, slow) = if there < back { (a, b) } else { (b, a) };
                lopsided.push(Lopsided {
                    fast: names[fast].clone(),
                    slow: names[slow].clone(),
                    min: (Duration::from_nanos(near), Duration::from_nanos(far)),
                });
            }
        }
    }
    (matrix, lopsided)
}

/// What hangs together, from neighbour to neighbour. Ordered by the first of each.
fn sites(matrix: &Matrix, at_most: u64) -> Vec<Vec<usize>> {
    let mut seen = vec![false; matrix.size];
    let mut sites = Vec::new();
    for first in 0..matrix.size {
        if seen[first] {
            continue;
        }
        seen[first] = true;
        let mut site = vec![first];
        let mut next = 0;
        while let Some(node) = site.get(next).copied() {
            next += 1;
            for (other, distance) in matrix.row(node).iter().enumerate() {
                if *distance <= at_most && !seen[other] {
                    seen[other] = true;
                    site.push(other);
                }
            }
        }
        site.sort_unstable();
        sites.push(site);
    }
    sites
}

/// Merges the nearest two as long as every pair of the result is below the budget. Sites go in as a whole, unless one is
/// itself too long for the budget: neighbours chain, and a domain must not.
fn linked(matrix: &Matrix, sites: &[Vec<usize>], budget: u64) -> Vec<Vec<usize>> {
    let mut clusters: Vec<Vec<usize>> = Vec::new();
    for site in sites {
        let whole = site.iter().all(|a| site.iter().all(|b| matrix.at(*a, *b) < budget));
        if whole {
            clusters.push(site.clone());
        } else {
            clusters.extend(site.iter().map(|node| vec![*node]));
        }
    }
    let count = clusters.len();
    let farthest = |a: &[usize], b: &[usize]| {
        a.iter().flat_map(|x| b.iter().map(|y| matrix.at(*x, *y))).max().unwrap_or(UNKNOWN)
    };
    let mut apart = vec![UNKNOWN; count * count];
    for a in 0..count {
        for b in a + 1..count {
            let distance = farthest(&clusters[a], &clusters[b]);
            apart[a * count + b] = distance;
            apart[b * count + a] = distance;
        }
    }
    let mut alive = vec![true; count];
    let nearest = |apart: &[u64], alive: &[bool], a: usize| {
        let others = (0..count).filter(|b| *b != a && alive[*b]);
        others.map(|b| (apart[a * count + b], b)).min()
    };
    // Remembered for each, and looked for anew only where a merge took it away.
    let mut near: Vec<_> = (0..count).map(|a| nearest(&apart, &alive, a)).collect();
    loop {
        let candidates = (0..count).filter(|a| alive[*a]);
        let best =
            candidates.filter_map(|a| near[a].map(|(distance, b)| (distance, a.min(b), a.max(b)))).min();
        let Some((_, a, b)) = best.filter(|(distance, ..)| *distance < budget) else {
            break;
        };
        let gone = std::mem::take(&mut clusters[b]);
        clusters[a].extend(gone);
        alive[b] = false;
        for c in (0..count).filter(|c| alive[*c] && *c != a) {
            let distance = apart[a * count + c].max(apart[b * count + c]);
            apart[a * count + c] = distance;
            apart[c * count + a] = distance;
        }
        for c in (0..count).filter(|c| alive[*c]) {
            if c == a || near[c].is_some_and(|(_, other)| other == a || other == b) {
                near[c] = nearest(&apart, &alive, c);
            }
        }
    }
    let mut domains: Vec<_> = clusters.into_iter().filter(|cluster| !cluster.is_empty()).collect();
    domains.iter_mut().for_each(|domain| domain.sort_unstable());
    domains.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    domains
}

/// Pairs that take half as long again, and 2 ms, as by way of a third.
fn detours(matrix: &Matrix, names: &[&String]) -> Vec<Detour> {
    const SPARE: u64 = 2_000_000;
    let mut detours = Vec::new();
    for a in 0..matrix.size {
        for b in a + 1..matrix.size {
            let direct = matrix.at(a, b);
            if direct == UNKNOWN || direct <= SPARE {
                continue;
            }
            let ways = matrix.row(a).iter().zip(matrix.row(b)).enumerate();
            let ways = ways.filter(|(via, _)| *via != a && *via != b);
            let best = ways.map(|(via, (x, y))| (x.saturating_add(*y), via)).min();
            if let Some((around, via)) = best
                && direct > around.saturating_add(around / 2).saturating_add(SPARE)
            {
                detours.push(Detour {
                    pair: (names[a].clone(), names[b].clone()),
                    via: names[via].clone(),
                    direct: Duration::from_nanos(direct),
                    around: Duration::from_nanos(around),
                });
            }
        }
    }
    detours.sort_by(|a, b| {
        let gain = |detour: &Detour| detour.direct.saturating_sub(detour.around);
        gain(b).cmp(&gain(a)).then_with(|| a.pair.cmp(&b.pair))
    });
    detours
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn way(source: &str, target: &str, ms: f64) -> Way {
        Way { source: source.into(), target: target.into(), min: Duration::from_secs_f64(ms / 1000.0) }
    }

    fn look(names: &[&str], ways: &[(&str, &str, f64)], primary: Option<&str>) -> Domains {
        let ways: Vec<_> = ways.iter().map(|(a, b, ms)| way(a, b, *ms)).collect();
        domains(&nodes(names), &ways, primary, &Limits::default())
    }

    #[test]
    fn a_chain_of_near_neighbours_is_one_site_and_no_domain() {
        let ways = [
            ("a", "b", 3.0),
            ("b", "c", 3.0),
            ("c", "d", 3.0),
            ("d", "e", 3.0),
            ("a", "c", 6.0),
            ("b", "d", 6.0),
            ("c", "e", 6.0),
            ("a", "d", 9.0),
            ("b", "e", 9.0),
            ("a", "e", 12.0),
        ];
        let found = look(&["a", "b", "c", "d", "e"], &ways, Some("a"));
        assert_eq!(found.sites, [["a", "b", "c", "d", "e"]]);
        assert_eq!(found.domains.len(), 2, "{:?}", found.domains);
        assert_eq!(found.home, ["a", "b", "c", "d"]);
        assert_eq!(found.to_move, ["e"]);
        assert_eq!(found.or_move, None);
    }

    #[test]
    fn sites_join_while_the_farthest_pair_is_below_the_budget() {
        let ways = [
            ("a", "b", 0.5),
            ("c", "d", 0.5),
            ("a", "c", 9.0),
            ("a", "d", 9.1),
            ("b", "c", 9.2),
            ("b", "d", 9.9),
        ];
        let found = look(&["a", "b", "c", "d"], &ways, None);
        assert_eq!(found.sites, [["a", "b"], ["c", "d"]]);
        assert_eq!(found.domains, [["a", "b", "c", "d"]]);
        assert!(found.to_move.is_empty() && found.undecided.is_empty());
        let mut far = ways;
        far[5].2 = 10.0;
        let found = look(&["a", "b", "c", "d"], &far, None);
        assert_eq!(found.domains, [["a", "b"], ["c", "d"]], "the budget itself is over it");
    }

    #[test]
    fn a_pair_that_nobody_measured_is_never_near_and_never_far() {
        let found = look(&["a", "b", "c"], &[("a", "b", 1.0), ("b", "c", 1.0)], Some("a"));
        assert_eq!(found.sites, [["a", "b", "c"]]);
        assert_eq!(found.domains, [vec!["a", "b"], vec!["c"]]);
        assert!(found.to_move.is_empty(), "nobody knows that it is far");
        assert_eq!(found.undecided, ["c"]);
        let alone = look(&["a", "b"], &[], None);
        assert_eq!(alone.domains, [["a"], ["b"]]);
        assert!(alone.to_move.is_empty());
    }

    #[test]
    fn the_fewest_to_move_are_found_where_the_domains_would_split_them() {
        // The nearest two are a and b, and b is too far from the database; so the domains leave a with b.
        let ways = [("p", "a", 5.0), ("a", "b", 1.0), ("p", "b", 12.0)];
        let found = look(&["a", "b", "p"], &ways, Some("p"));
        assert_eq!(found.domains, [vec!["a", "b"], vec!["p"]]);
        assert_eq!(found.home, ["a", "p"]);
        assert_eq!(found.to_move, ["b"]);
    }

    #[test]
    fn where_moving_the_database_is_less_work_that_is_said_too() {
        let mut ways = vec![("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0)];
        ways.extend(["a", "b", "c"].map(|node| (node, "p", 60.0)));
        let found = look(&["a", "b", "c", "p"], &ways, Some("p"));
        assert_eq!(found.to_move, ["a", "b", "c"]);
        assert_eq!(found.or_move, Some(vec!["p".to_owned()]));
        assert_eq!(look(&["a", "b", "c", "p"], &ways, None).to_move, ["p"]);
    }

    #[test]
    fn two_directions_that_differ_are_noted_and_the_faster_one_counts() {
        let found = look(
            &["a", "b", "c"],
            &[
                ("a", "b", 12.0),
                ("b", "a", 8.0),
                ("a", "c", 1.0),
                ("c", "a", 1.4),
                ("b", "c", 50.0),
                ("c", "b", 41.0),
            ],
            None,
        );
        assert_eq!(found.lopsided.len(), 1);
        assert_eq!((found.lopsided[0].fast.as_str(), found.lopsided[0].slow.as_str()), ("b", "a"));
        let both = look(&["a", "b"], &[("a", "b", 12.0), ("b", "a", 8.0)], None);
        assert_eq!(both.domains, [["a", "b"]]);
    }

    #[test]
    fn a_way_around_that_is_much_shorter_is_a_detour() {
        let found = look(&["a", "b", "c"], &[("a", "b", 30.0), ("a", "c", 4.0), ("c", "b", 5.0)], None);
        assert_eq!(found.detours.len(), 1);
        let detour = &found.detours[0];
        assert_eq!((detour.pair.0.as_str(), detour.pair.1.as_str(), detour.via.as_str()), ("a", "b", "c"));
        assert_eq!((detour.direct, detour.around), (Duration::from_millis(30), Duration::from_millis(9)));
        // 1.5 · 9 + 2 = 15.5
        assert!(
            look(&["a", "b", "c"], &[("a", "b", 15.5), ("a", "c", 4.0), ("c", "b", 5.0)], None)
                .detours
                .is_empty()
        );
        assert!(look(&["a", "b", "c"], &[("a", "b", 30.0), ("a", "c", 4.0)], None).detours.is_empty());
    }

    /// Five regions of a hundred, with a jitter that a hash makes.
    fn cluster(count: usize) -> (BTreeSet<String>, Vec<Way>) {
        let names: Vec<_> = (0..count).map(|node| format!("node-{node:03}")).collect();
        let mut ways = Vec::new();
        for a in 0..count {
            for b in 0..count {
                let noise = (a * 7919 + b * 104_729) % 1000;
                let base = if a % 5 == b % 5 { 0.3 } else { 8.5 + 6.0 * (a % 5).abs_diff(b % 5) as f64 };
                if a != b {
                    ways.push(way(&names[a], &names[b], base + noise as f64 / 400.0));
                }
            }
        }
        (names.into_iter().collect(), ways)
    }

    #[test]
    fn five_hundred_nodes_are_no_matter() {
        let (nodes, ways) = cluster(500);
        let found = domains(&nodes, &ways, Some("node-002"), &Limits::default());
        assert_eq!(found.sites.len(), 5);
        assert_eq!(found.domains.iter().map(Vec::len).collect::<Vec<_>>(), [100; 5]);
        assert_eq!(found.home.len(), 100);
        assert_eq!(found.to_move.len(), 400);
    }

    #[test]
    fn a_graph_made_to_keep_the_search_busy_ends_too() {
        let names: Vec<_> = (0..200).map(|node| format!("{node:03}")).collect();
        let mut ways = Vec::new();
        for a in 0..200_usize {
            for b in 0..a {
                let near = (a * a * 31 + b * 17 + a * b) % 10 < 9;
                ways.push(way(&names[a], &names[b], if near { 5.0 } else { 20.0 }));
            }
        }
        let found = domains(&names.iter().cloned().collect(), &ways, None, &Limits::default());
        assert!(found.home.len() > 10);
        assert_eq!(found.home.len() + found.to_move.len(), 200);
    }

    fn random() -> impl Strategy<Value = (Vec<Way>, Vec<Way>)> {
        let way = (0u8..9, 0u8..9, 1u16..200)
            .prop_map(|(a, b, tenths)| way(&format!("n{a}"), &format!("n{b}"), f64::from(tenths) / 10.0));
        let ways = prop::collection::vec(way, 0..90);
        ways.prop_flat_map(|ways| (Just(ways.clone()), Just(ways).prop_shuffle()))
    }

    fn min_of(ways: &[Way], a: &str, b: &str) -> Option<Duration> {
        let both = ways
            .iter()
            .filter(|way| (way.source == a && way.target == b) || (way.source == b && way.target == a));
        both.map(|way| way.min).min()
    }

    proptest! {
        #[test]
        fn the_order_of_what_is_told_does_not_matter((ways, shuffled) in random()) {
            let nodes = (0..9).map(|node| format!("n{node}")).collect();
            let limits = Limits::default();
            prop_assert_eq!(
                domains(&nodes, &ways, Some("n3"), &limits),
                domains(&nodes, &shuffled, Some("n3"), &limits)
            );
        }

        #[test]
        fn every_pair_of_a_domain_is_known_to_be_near_and_nobody_is_lost((ways, _) in random()) {
            let nodes: BTreeSet<_> = (0..9).map(|node| format!("n{node}")).collect();
            let limits = Limits::default();
            let found = domains(&nodes, &ways, Some("n3"), &limits);
            for domain in found.domains.iter().chain([&found.home]) {
                for a in domain {
                    for b in domain.iter().filter(|b| *b != a) {
                        prop_assert!(min_of(&ways, a, b).is_some_and(|min| min < limits.budget), "{a} {b}");
                    }
                }
            }
            for grouping in [&found.sites, &found.domains] {
                let mut all: Vec<_> = grouping.iter().flatten().cloned().collect();
                all.sort();
                prop_assert_eq!(all, nodes.iter().cloned().collect::<Vec<_>>());
            }
            // No set around the primary is larger, by trying all of them.
            let names: Vec<_> = nodes.iter().collect();
            let largest = (0u32..1 << 9)
                .filter(|set| set & (1 << 3) != 0)
                .filter(|set| {
                    let members: Vec<_> = (0..9).filter(|bit| set & (1 << bit) != 0).collect();
                    members.iter().all(|a| members.iter().all(|b| {
                        a == b || min_of(&ways, names[*a], names[*b]).is_some_and(|min| min < limits.budget)
                    }))
                })
                .map(u32::count_ones)
                .max();
            prop_assert_eq!(Some(found.home.len()), largest.map(|count| count as usize));
            prop_assert_eq!(found.home.len() + found.to_move.len() + found.undecided.len(), 9);
        }
    }
}
