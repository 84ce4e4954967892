//! Who stands where, and who says so (`GET /api/v1/placement`).

use serde::{Deserialize, Serialize};

use super::findings::Finding;
use crate::mesh::peer::Role;
use crate::mesh::place::{Place, claim_in_words, placed};
use crate::mesh::region::{Atlas, written};

/// Everybody, and what is wrong with who stands where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Of the shape.
    pub schema_version: u32,
    /// When this was so.
    pub generated_at: String,
    /// By name.
    pub placed: Vec<Placed>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// One that stands somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its name.
    pub name: String,
    /// What it is, or stands beside.
    pub role: Option<String>,
    /// It is an agent.
    pub is_agent: bool,
    /// The machine.
    pub node: Option<String>,
    /// The zone.
    pub zone: Option<String>,
    /// The region; `null` where nobody said, or where nobody can be believed.
    pub region: Option<String>,
    /// How its sources agree.
    pub stance: Stance,
    /// Who says what, the most trusted first.
    pub sources: Vec<Source>,
}

/// How the sources of one place agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stance {
    /// All say the same.
    Agrees,
    /// Nobody said.
    Unknown,
    /// One that is trusted less says otherwise.
    Overruled,
    /// Those that are trusted cannot all be right.
    Differs,
}

/// What one source says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Who.
    pub source: String,
    /// The region.
    pub region: String,
    /// The zone.
    pub zone: Option<String>,
    /// 4: the cloud itself; 3: labels and host names that machines set; 2: people.
    pub confidence: u8,
    /// In words.
    pub says: String,
}

impl Placed {
    /// Of one member, by all that is claimed of it.
    pub fn of(one: &placed::Placed, atlas: &Atlas) -> Self {
        let place = Place::weigh(&one.claims, atlas);
        let mut claims: Vec<_> = one.claims.iter().collect();
        claims.sort_by(|a, b| b.trust.cmp(&a.trust).then_with(|| a.cmp(b)));
        claims.dedup();
        let sources = claims.iter().map(|claim| Source {
            source: claim.by.clone(),
            region: written(&claim.region),
            zone: claim.zone.clone(),
            confidence: claim.trust,
            says: claim_in_words(claim),
        });
        Self {
            name: one.name.clone(),
            role: one.role.map(Role::as_str).map(str::to_owned),
            is_agent: one.is_agent,
            node: one.node.clone(),
            zone: place.zones.first().cloned(),
            region: place.region.as_ref().map(written),
            stance: match (&place.region, place.conflict.is_empty(), place.overruled.is_empty()) {
                (_, false, _) => Stance::Differs,
                (None, true, _) => Stance::Unknown,
                (Some(_), true, false) => Stance::Overruled,
                (Some(_), true, true) => Stance::Agrees,
            },
            sources: sources.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::region::name;
    use crate::mesh::roster::Claim;

    #[test]
    fn how_the_sources_of_a_place_agree_is_a_word() {
        let claim =
            |trust, by: &str, region: &str| Claim { trust, by: by.into(), region: name(region), zone: None };
        let one = |claims: &[Claim]| {
            let placed = placed::Placed { name: "a".into(), claims: claims.to_vec(), ..Default::default() };
            Placed::of(&placed, &Atlas::built_in())
        };
        let (cloud, person) = (claim(4, "IMDS", "aws/us-east-1"), claim(2, "--region", "aws/us-west-2"));
        let label = claim(3, "node label", "aws/us-west-2");
        for (claims, stance) in [
            (&[][..], Stance::Unknown),
            (&[cloud.clone()][..], Stance::Agrees),
            (&[person.clone(), cloud.clone()][..], Stance::Overruled),
            (&[label, cloud.clone()][..], Stance::Differs),
        ] {
            assert_eq!(one(claims).stance, stance);
        }
        let told = one(&[person, cloud]);
        assert_eq!(told.region.as_deref(), Some("aws/us-east-1"));
        assert_eq!(
            (told.sources[0].confidence, told.sources[0].says.as_str()),
            (4, "IMDS says aws/us-east-1 (trust 4)")
        );
    }
}
