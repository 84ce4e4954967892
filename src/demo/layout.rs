//! Who stands where in the demo, and how far apart that is.

use std::time::Duration;

/// A machine with one server of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The server's name, which is its agent's as well.
    pub name: &'static str,
    /// The machine.
    pub node: &'static str,
    /// The zone of that machine.
    pub zone: &'static str,
    /// The region of that zone.
    pub region: &'static str,
}

const HOME: &str = "aws/eu-central-1";
const ABROAD: &str = "aws/us-east-1";

/// The replicas of coderd: three where they belong, and one too far away.
pub const REPLICAS: [Place; 4] = [
    Place { name: "coderd-a1", node: "node-a1", zone: "eu-central-1a", region: HOME },
    Place { name: "coderd-b1", node: "node-b1", zone: "eu-central-1b", region: HOME },
    Place { name: "coderd-c1", node: "node-c1", zone: "eu-central-1c", region: HOME },
    Place { name: "coderd-us", node: "node-us", zone: "us-east-1a", region: ABROAD },
];

/// Where the database is.
pub const DATABASE: Place =
    Place { name: "postgres-a", node: "node-a2", zone: "eu-central-1a", region: HOME };

/// The path that gets slow, and by how much: enough to be over the budget of 10 ms.
pub const SLOW: [&str; 2] = ["coderd-a1", "coderd-b1"];
/// See [`SLOW`].
pub const SLOWER_BY: Duration = Duration::from_millis(12);
/// The replica that leaves and comes back.
pub const LEAVES: &str = "coderd-c1";
/// The replica in another region.
pub const FAR: &str = "coderd-us";

impl Place {
    /// How long a round trip takes from here to there, as between machines of a cloud.
    pub fn round_trip(&self, other: &Self) -> Duration {
        Duration::from_micros(match (self.region == other.region, self.zone == other.zone) {
            (true, true) => 300,
            (true, false) => 1_000,
            (false, _) => 90_000,
        })
    }
}

/// All replicas but this one.
pub fn others(name: &str) -> impl Iterator<Item = &'static Place> {
    REPLICAS.iter().filter(move |place| place.name != name)
}

/// Every path of the region where the replicas belong, as source and target; with the database, if there is one.
pub fn paths_at_home(has_database: bool) -> Vec<(&'static str, &'static str)> {
    let home = || REPLICAS.iter().filter(|place| place.region == HOME);
    let between = home().flat_map(|source| {
        let targets = home().filter(move |target| target.name != source.name);
        targets.map(move |target| (source.name, target.name))
    });
    let to_database = home().filter(move |_| has_database).map(|source| (source.name, DATABASE.name));
    between.chain(to_database).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_home_every_replica_measures_the_other_two_and_the_database() {
        assert_eq!(paths_at_home(true).len(), 9);
        assert_eq!(paths_at_home(false).len(), 6);
        assert!(paths_at_home(true).iter().all(|(source, target)| *source != FAR && *target != FAR));
        let [a, b, _, us] = &REPLICAS;
        let ms = |one: &Place, other: &Place| one.round_trip(other).as_secs_f64() * 1000.0;
        assert_eq!([ms(a, &DATABASE), ms(a, b), ms(b, us), ms(us, &DATABASE)], [0.3, 1.0, 90.0, 90.0]);
    }
}
