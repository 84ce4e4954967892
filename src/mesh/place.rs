//! Where something stands: what is claimed, weighed, and what the round trips say to it.
//!
//! A claim has a trust: 4 for the cloud's own metadata, 3 for labels and host names that machines set, 2 for people. The
//! most trusted claim wins. Where claims that are trusted equally disagree, nobody knows: the place is open, and the round trips
//! have to tell. [`decide`] holds two places and what was measured between them against each other; [`policy`] says what
//! follows.

use std::collections::BTreeSet;

use super::region::{Atlas, written};
use super::roster::{Claim, RegionName};

pub mod decide;
pub mod placed;
pub mod policy;
pub mod verdict;

/// From this trust on, two that disagree are a conflict, although one of them wins.
const TRUSTED: u8 = 3;

/// Where one member stands, by all that is claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The region, as the atlas writes it; `None` where nobody said, or where nobody can be believed.
    pub region: Option<RegionName>,
    /// All names of its zone. Two are known to share one when a name is in both; ids and names of AWS never match.
    pub zones: BTreeSet<String>,
    /// What the region rests on.
    pub trust: u8,
    /// Who says so.
    pub by: String,
    /// Trusted claims that cannot all be true; empty where they agree.
    pub conflict: Vec<Claim>,
    /// Claims of little trust that say otherwise.
    pub overruled: Vec<Claim>,
}

impl Place {
    /// Weighs all claims about one member.
    pub fn weigh(claims: &[Claim], atlas: &Atlas) -> Self {
        let mut claims: Vec<&Claim> =
            claims.iter().filter(|claim| !claim.region.region.trim().is_empty()).collect();
        claims.sort_by(|a, b| b.trust.cmp(&a.trust).then_with(|| a.cmp(b)));
        claims.dedup();
        let Some(first) = claims.first() else {
            return Self::default();
        };
        let differ = |a: &Claim, b: &Claim| !atlas.same(&a.region, &b.region);
        let top: Vec<_> = claims.iter().filter(|claim| claim.trust == first.trust).collect();
        let torn = disagree(&top, differ);
        // The one that names its provider says more.
        let named = top.iter().find(|claim| atlas.canonical(&claim.region).provider.is_some());
        let best = **named.unwrap_or(&top[0]);
        let trusted: Vec<_> = claims.iter().filter(|claim| claim.trust >= TRUSTED).collect();
        let conflict = match (disagree(&trusted, differ), torn) {
            (true, _) => trusted,
            (false, true) => top.clone(),
            (false, false) => Vec::new(),
        };
        let others = claims.iter().filter(|claim| claim.trust < TRUSTED && !conflict.contains(claim));
        let overruled = others.filter(|claim| !torn && differ(best, claim)).map(|claim| (*claim).clone());
        let agreeing = claims.iter().filter(|claim| !torn && !differ(best, claim));
        let zones = agreeing.filter_map(|claim| claim.zone.as_ref());
        Self {
            region: (!torn).then(|| atlas.canonical(&best.region)),
            zones: zones.map(|zone| zone.trim().to_lowercase()).filter(|zone| !zone.is_empty()).collect(),
            trust: best.trust,
            by: best.by.clone(),
            overruled: overruled.collect(),
            conflict: conflict.into_iter().map(|claim| (*claim).clone()).collect(),
        }
    }

    /// The region in words.
    pub fn in_words(&self) -> String {
        match &self.region {
            Some(region) => format!("{} ({})", written(region), self.by),
            None if self.conflict.is_empty() => "a region that nobody named".to_owned(),
            None => "a region that its sources disagree on".to_owned(),
        }
    }
}

fn disagree(claims: &[&&Claim], differ: impl Fn(&Claim, &Claim) -> bool) -> bool {
    claims.iter().enumerate().any(|(index, a)| claims[..index].iter().any(|b| differ(a, b)))
}

/// What somebody says, for people.
pub fn claim_in_words(claim: &Claim) -> String {
    format!("{} says {} (trust {})", claim.by, written(&claim.region), claim.trust)
}

#[cfg(test)]
mod tests {
    use super::super::region::name;
    use super::*;

    fn claim(trust: u8, by: &str, region: &str, zone: Option<&str>) -> Claim {
        Claim { trust, by: by.into(), region: name(region), zone: zone.map(str::to_owned) }
    }

    fn weigh(claims: &[Claim]) -> Place {
        Place::weigh(claims, &Atlas::built_in())
    }

    #[test]
    fn the_most_trusted_claim_wins_and_agreeing_ones_add_their_zones() {
        let place = weigh(&[
            claim(2, "--region", "US-East-1", Some("left")),
            claim(3, "node label", "us-east-1", Some("us-east-1a")),
            claim(4, "IMDS", "aws/us-east-1", Some("use1-az1")),
        ]);
        assert_eq!(place.region, Some(name("aws/us-east-1")));
        assert_eq!((place.trust, place.by.as_str()), (4, "IMDS"));
        assert_eq!(Vec::from_iter(&place.zones), ["left", "us-east-1a", "use1-az1"]);
        assert!(place.conflict.is_empty() && place.overruled.is_empty());
    }

    #[test]
    fn trusted_claims_that_disagree_are_a_conflict_although_one_wins() {
        let place = weigh(&[
            claim(3, "node label", "aws/us-east-2", Some("us-east-2a")),
            claim(4, "IMDS", "aws/us-east-1", Some("use1-az1")),
        ]);
        assert_eq!(place.region, Some(name("aws/us-east-1")));
        assert_eq!(place.conflict.len(), 2);
        assert_eq!(Vec::from_iter(&place.zones), ["use1-az1"], "a zone of another region is none of ours");
    }

    #[test]
    fn a_person_who_says_otherwise_is_overruled_and_not_a_conflict() {
        let place =
            weigh(&[claim(2, "--region", "aws/eu-west-1", None), claim(3, "label", "us-east-1", None)]);
        assert_eq!(place.region, Some(name("aws/us-east-1")));
        assert!(place.conflict.is_empty());
        assert_eq!(place.overruled.len(), 1);
    }

    #[test]
    fn equals_that_disagree_leave_the_place_open() {
        for trust in [2, 3, 4] {
            let place = weigh(&[
                claim(trust, "a", "aws/us-east-1", Some("a")),
                claim(trust, "b", "aws/us-east-2", None),
            ]);
            assert_eq!(place.region, None, "trust {trust}");
            assert_eq!(place.conflict.len(), 2);
            assert!(place.zones.is_empty());
        }
    }

    #[test]
    fn nothing_said_is_nothing_known() {
        assert_eq!(weigh(&[]), Place::default());
        assert_eq!(weigh(&[claim(4, "IMDS", "  ", Some("z"))]), Place::default());
    }

    #[test]
    fn the_order_of_claims_does_not_matter() {
        let claims = [
            claim(3, "label", "cellar", Some("a")),
            claim(3, "host name", "onprem/cellar", None),
            claim(2, "--region", "attic", None),
            claim(3, "label", "cellar", Some("a")),
        ];
        let one = weigh(&claims);
        let mut turned = claims.to_vec();
        turned.reverse();
        assert_eq!(one, weigh(&turned));
        assert_eq!(one.region, Some(name("onprem/cellar")));
    }
}
