//! Where the regions of the clouds are, and what light needs between them.
//!
//! The table (`regions.csv`) is our own: the cities are those that the providers name, the coordinates are those of the
//! cities, and the radius says how far from there a data centre of that region may stand. The coordinates that Azure's
//! own list gives cannot be used: that of `francecentral` is the middle of France, and three others are of other cities. The
//! table was held against 1642 measured pairs (a year of AWS medians, Azure's published matrix): none was faster than
//! light in a vacuum would allow, nor than light in fibre.
//!
//! A round trip bounds a distance from above only. The bound that proves something is that of the vacuum, since
//! hollow-core fibre, almost as fast, is in use.

use std::collections::BTreeMap;
use std::time::Duration;

use super::roster::RegionName;

const BUILT_IN: &str = include_str!("regions.csv");
/// The mean radius of the earth.
const EARTH_KM: f64 = 6371.0088;
/// How far light gets, there and back, in 1 ms of round trip.
const VACUUM_KM_PER_MS: f64 = 149.896;
/// The same in fibre of solid glass.
const FIBRE_KM_PER_MS: f64 = 102.109;
/// A region that is larger than this is none.
const RADIUS_AT_MOST_KM: i32 = 1000;

/// What real paths take beyond straight fibre: the 5th, 50th and 95th of a hundred pairs of regions.
struct Stretch(f64, f64, f64);
/// 495 pairs of AWS; 1136 of Azure differ by less than 4 %.
const STRETCH: Stretch = Stretch(1.34, 1.78, 3.18);
/// 172 pairs less than 1500 km apart, where fixed costs weigh more.
const STRETCH_NEAR: Stretch = Stretch(1.9, 2.6, 3.9);
const NEAR_KM: f64 = 1500.0;
/// Within a metropolis the fixed costs are all there is: two providers in Singapore 2.2 ms, in London 4.1 to 4.3 ms.
const METRO_MS: Stretch = Stretch(0.5, 2.0, 4.3);

/// A region of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Its name, always with a provider.
    pub name: RegionName,
    /// Where that is, for people.
    pub city: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// How far from there a data centre of this region may stand.
    pub radius_km: f64,
}

/// What a round trip between two places usually takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typical {
    /// One of twenty pairs that far apart is faster.
    pub low: Duration,
    /// Half of them are.
    pub usual: Duration,
    /// One of twenty is slower.
    pub high: Duration,
}

impl Region {
    /// Along the surface of the earth, between the two centres.
    pub fn distance_km(&self, other: &Self) -> f64 {
        let (north, other_north) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_north = (other_north - north) / 2.0;
        let half_east = (other.longitude - self.longitude).to_radians() / 2.0;
        let haversine = half_north.sin().powi(2) + north.cos() * other_north.cos() * half_east.sin().powi(2);
        // Rounding may carry it past 1 between antipodes.
        2.0 * EARTH_KM * haversine.min(1.0).sqrt().asin()
    }

    /// The least distance between a data centre of the one and a data centre of the other. Zero within one region.
    pub fn gap_km(&self, other: &Self) -> f64 {
        if self.name == other.name {
            return 0.0;
        }
        (self.distance_km(other) - self.radius_km - other.radius_km).max(0.0)
    }

    /// Whether the two may stand in one metropolis.
    pub fn same_metro(&self, other: &Self) -> bool {
        self.gap_km(other) <= 0.0
    }

    /// No round trip between the two can be faster, whatever the cable.
    pub fn least_rtt(&self, other: &Self) -> Duration {
        ms(self.gap_km(other) / VACUUM_KM_PER_MS)
    }

    /// No round trip through fibre of solid glass can be faster.
    pub fn least_rtt_in_fibre(&self, other: &Self) -> Duration {
        ms(self.gap_km(other) / FIBRE_KM_PER_MS)
    }

    /// What pairs of regions at this distance were seen to take.
    pub fn typical_rtt(&self, other: &Self) -> Typical {
        let distance = self.distance_km(other);
        let straight = distance / FIBRE_KM_PER_MS;
        let stretch = if distance < NEAR_KM { STRETCH_NEAR } else { STRETCH };
        Typical {
            low: ms((straight * stretch.0).max(METRO_MS.0)),
            usual: ms((straight * stretch.1).max(METRO_MS.1)),
            high: ms((straight * stretch.2).max(METRO_MS.2)),
        }
    }
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

/// A region's name from `provider/region`, or from the region alone.
pub fn name(text: &str) -> RegionName {
    match text.split_once('/') {
        Some((provider, region)) => RegionName {
            provider: Some(provider.trim().to_lowercase()).filter(|provider| !provider.is_empty()),
            region: region.trim().to_lowercase(),
        },
        None => RegionName { provider: None, region: text.trim().to_lowercase() },
    }
}

/// `provider/region`, or the region alone where nobody named the provider.
pub fn written(name: &RegionName) -> String {
    match &name.provider {
        Some(provider) => format!("{provider}/{}", name.region),
        None => name.region.clone(),
    }
}

/// What is wrong with a table of regions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AtlasError {
    /// A line with too few fields.
    #[error("line {line}: '{text}' is not provider,region,city,lat,lon,radius_km")]
    Fields {
        /// The line, counted from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A name that cannot be one.
    #[error("line {line}: {field} '{text}' must consist of letters, digits, '-', '_' and '.'")]
    Name {
        /// The line, counted from 1.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What stands there.
        text: String,
    },
    /// A number that is none, or lies outside of what there is.
    #[error("line {line}: {field} '{text}' is not a number between {least} and {most}")]
    Number {
        /// The line, counted from 1.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What stands there.
        text: String,
        /// The least that makes sense.
        least: i32,
        /// The most that makes sense.
        most: i32,
    },
    /// One name twice in one table.
    #[error("line {line}: {name} stands in line {first} already")]
    Twice {
        /// The line, counted from 1.
        line: usize,
        /// The name.
        name: String,
        /// Where it was first.
        first: usize,
    },
}

/// All regions whose place is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Atlas {
    regions: BTreeMap<RegionName, Region>,
}

impl Atlas {
    /// The regions of AWS, Google Cloud and Azure.
    pub fn built_in() -> Self {
        let regions = parse(BUILT_IN).expect("the table is part of the program, and a test reads it");
        Self { regions }
    }

    /// Adds the regions of another table in the same form; one that is there already is replaced. Lines that are empty or
    /// start with `#` are skipped, and so is the heading. With an error nothing is added.
    pub fn extend(&mut self, csv: &str) -> Result<(), AtlasError> {
        self.regions.extend(parse(csv)?);
        Ok(())
    }

    /// The region of this name. Without a provider it is found when only one provider has one of that name.
    pub fn find(&self, wanted: &RegionName) -> Option<&Region> {
        let region = wanted.region.trim().to_lowercase();
        if let Some(provider) = &wanted.provider {
            let provider = Some(provider.trim().to_lowercase());
            return self.regions.get(&RegionName { provider, region });
        }
        let mut found = self.regions.values().filter(|known| known.name.region == region);
        found.next().filter(|_| found.next().is_none())
    }

    /// The name as the table writes it; what the table does not know is only put into lower case.
    pub fn canonical(&self, wanted: &RegionName) -> RegionName {
        let lower = |text: &String| text.trim().to_lowercase();
        self.find(wanted).map_or_else(
            || RegionName {
                provider: wanted.provider.as_ref().map(lower).filter(|provider| !provider.is_empty()),
                region: lower(&wanted.region),
            },
            |region| region.name.clone(),
        )
    }

    /// Whether both names mean one region. A name without a provider may be that of any.
    pub fn same(&self, one: &RegionName, other: &RegionName) -> bool {
        let (one, other) = (self.canonical(one), self.canonical(other));
        let anybody = one.provider.is_none() || other.provider.is_none();
        one.region == other.region && (anybody || one.provider == other.provider)
    }

    /// All of them, by name.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.values()
    }
}

fn parse(csv: &str) -> Result<BTreeMap<RegionName, Region>, AtlasError> {
    let mut regions: BTreeMap<RegionName, Region> = BTreeMap::new();
    let mut lines: BTreeMap<RegionName, usize> = BTreeMap::new();
    for (index, text) in csv.trim_start_matches('\u{feff}').lines().enumerate() {
        let (line, text) = (index + 1, text.trim());
        if text.is_empty() || text.starts_with('#') || text.starts_with("provider,") {
            continue;
        }
        let region = parse_line(line, text)?;
        if let Some(first) = lines.insert(region.name.clone(), line) {
            return Err(AtlasError::Twice { line, name: written(&region.name), first });
        }
        regions.insert(region.name.clone(), region);
    }
    Ok(regions)
}

/// The city stands in the middle, so it may hold commas.
fn parse_line(line: usize, text: &str) -> Result<Region, AtlasError> {
    let fields = || AtlasError::Fields { line, text: text.to_owned() };
    let mut front = text.splitn(3, ',').map(str::trim);
    let (Some(provider), Some(region), Some(rest)) = (front.next(), front.next(), front.next()) else {
        return Err(fields());
    };
    let mut back = rest.rsplitn(4, ',').map(str::trim);
    let (Some(radius), Some(longitude), Some(latitude), Some(city)) =
        (back.next(), back.next(), back.next(), back.next())
    else {
        return Err(fields());
    };
    let word = |field, text: &str| {
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !text.is_empty() && text.chars().all(sound) {
            Ok(text.to_lowercase())
        } else {
            Err(AtlasError::Name { line, field, text: text.to_owned() })
        }
    };
    let number = |field, text: &str, least: i32, most: i32| match text.parse::<f64>() {
        Ok(number) if (f64::from(least)..=f64::from(most)).contains(&number) => Ok(number),
        _ => Err(AtlasError::Number { line, field, text: text.to_owned(), least, most }),
    };
    Ok(Region {
        name: RegionName { provider: Some(word("provider", provider)?), region: word("region", region)? },
        city: city.trim_matches('"').to_owned(),
        latitude: number("lat", latitude, -90, 90)?,
        longitude: number("lon", longitude, -180, 180)?,
        radius_km: number("radius_km", radius, 0, RADIUS_AT_MOST_KM)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(atlas: &Atlas, text: &str) -> Region {
        atlas.find(&name(text)).unwrap_or_else(|| panic!("{text}")).clone()
    }

    fn millis(duration: Duration) -> f64 {
        duration.as_secs_f64() * 1000.0
    }

    #[test]
    fn the_built_in_table_is_whole() {
        let atlas = Atlas::built_in();
        let of = |provider: &str| {
            atlas.regions().filter(|region| region.name.provider.as_deref() == Some(provider)).count()
        };
        assert_eq!((of("aws"), of("gcp"), of("azure")), (33, 42, 49));
        assert_eq!(BUILT_IN.lines().count(), 1 + 33 + 42 + 49);
        assert_eq!(region(&atlas, "azure/francecentral").city, "Paris FR (ARM lists 46.38/2.37)");
    }

    #[test]
    fn distances_and_what_light_needs_are_the_computed_ones() {
        let atlas = Atlas::built_in();
        for (one, other, km, vacuum, fibre) in [
            ("aws/us-east-1", "aws/us-east-2", 483.6, 2.16, 3.17),
            ("aws/us-east-1", "aws/eu-west-1", 5461.5, 35.37, 51.92),
            ("aws/eu-west-2", "aws/eu-west-3", 343.5, 1.22, 1.80),
            ("aws/eu-central-2", "aws/eu-south-1", 219.2, 0.40, 0.58),
            ("aws/ap-northeast-1", "aws/ap-northeast-3", 403.3, 1.62, 2.38),
            ("aws/us-east-1", "aws/us-west-2", 3502.5, 21.83, 32.05),
        ] {
            let (one, other) = (region(&atlas, one), region(&atlas, other));
            for (one, other) in [(&one, &other), (&other, &one)] {
                assert!(
                    (one.distance_km(other) - km).abs() < 0.06,
                    "{} {}",
                    one.city,
                    one.distance_km(other)
                );
                assert!((millis(one.least_rtt(other)) - vacuum).abs() < 0.006, "{}", one.city);
                assert!((millis(one.least_rtt_in_fibre(other)) - fibre).abs() < 0.006, "{}", one.city);
            }
        }
    }

    #[test]
    fn what_is_typical_holds_the_medians_that_were_measured() {
        let atlas = Atlas::built_in();
        for (one, other, measured) in [
            ("aws/eu-central-2", "aws/eu-south-1", 7.1),
            ("aws/eu-central-1", "aws/eu-central-2", 9.3),
            ("aws/ap-northeast-1", "aws/ap-northeast-3", 9.7),
            ("aws/eu-west-2", "aws/eu-west-3", 11.0),
            ("aws/us-east-1", "aws/us-east-2", 14.7),
            ("aws/eu-west-1", "aws/eu-west-2", 13.4),
            ("azure/eastus", "azure/eastus2", 10.0),
            ("gcp/asia-southeast1", "aws/ap-southeast-1", 2.2),
            ("gcp/europe-west2", "aws/eu-west-2", 4.3),
        ] {
            let typical = region(&atlas, one).typical_rtt(&region(&atlas, other));
            let (low, high) = (millis(typical.low), millis(typical.high));
            // The Azure pair is just outside of nine in ten.
            assert!(low * 0.9 <= measured && measured <= high * 1.1, "{one} {other}: {low} {high}");
            assert!(typical.low <= typical.usual && typical.usual <= typical.high);
        }
    }

    #[test]
    fn no_region_is_apart_from_itself_and_none_is_farther_than_half_around_the_earth() {
        let atlas = Atlas::built_in();
        for one in atlas.regions() {
            assert!(one.same_metro(one) && one.least_rtt(one).is_zero());
            for other in atlas.regions() {
                let distance = one.distance_km(other);
                assert!(distance.is_finite() && distance <= std::f64::consts::PI * EARTH_KM);
                assert!(one.least_rtt(other) <= one.least_rtt_in_fibre(other));
                assert!(one.least_rtt_in_fibre(other) <= one.typical_rtt(other).low, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_name_without_a_provider_is_found_when_there_is_only_one() {
        let mut atlas = Atlas::built_in();
        assert_eq!(atlas.find(&name("us-east-1")).unwrap().name, name("aws/us-east-1"));
        assert_eq!(atlas.find(&name("AWS/US-East-1")).unwrap().name, name("aws/us-east-1"));
        assert!(atlas.find(&name("gcp/us-east-1")).is_none());
        assert!(atlas.same(&name("us-east-1"), &name("aws/us-east-1")));
        assert!(!atlas.same(&name("us-east-1"), &name("us-east-2")));
        // What the table does not know can still be told apart, or not.
        assert!(atlas.same(&name("cellar"), &name("onprem/cellar")));
        assert!(!atlas.same(&name("other/cellar"), &name("onprem/cellar")));
        atlas.extend("onprem,us-east-1,Cellar,1,1,1").unwrap();
        assert!(atlas.find(&name("us-east-1")).is_none(), "two have one of that name");
    }

    #[test]
    fn users_add_and_correct_regions() {
        let mut atlas = Atlas::built_in();
        let before = atlas.regions().count();
        atlas
            .extend(
                "\u{feff}provider,region,city,lat,lon,radius_km\r\n# ours\r\n\r\nonprem, Cellar ,\"Bonn, DE\",50.7,7.1,5\r\naws,us-east-1,Elsewhere,1,2,3\r\n",
            )
            .unwrap();
        assert_eq!(atlas.regions().count(), before + 1);
        assert_eq!(region(&atlas, "onprem/cellar").city, "Bonn, DE");
        assert_eq!(region(&atlas, "aws/us-east-1").city, "Elsewhere");
    }

    #[test]
    fn a_bad_table_names_line_and_value_and_changes_nothing() {
        for (csv, message) in [
            ("a,b", "line 1: 'a,b' is not provider,region,city,lat,lon,radius_km"),
            ("a,b,c,1,2", "line 1: 'a,b,c,1,2' is not provider,region,city,lat,lon,radius_km"),
            ("\n\na,b,c,91,2,3", "line 3: lat '91' is not a number between -90 and 90"),
            ("a,b,c,1,east,3", "line 1: lon 'east' is not a number between -180 and 180"),
            ("a,b,c,1,NaN,3", "line 1: lon 'NaN' is not a number between -180 and 180"),
            ("a,b,c,1,2,-3", "line 1: radius_km '-3' is not a number between 0 and 1000"),
            ("a,b,c,1,2,inf", "line 1: radius_km 'inf' is not a number between 0 and 1000"),
            (",b,c,1,2,3", "line 1: provider '' must consist of letters, digits, '-', '_' and '.'"),
            ("a,b b,c,1,2,3", "line 1: region 'b b' must consist of letters, digits, '-', '_' and '.'"),
            ("a,b,c,1,2,3\nA,B,c,1,2,3", "line 2: a/b stands in line 1 already"),
        ] {
            let mut atlas = Atlas::default();
            let error = atlas.extend(&format!("x,ok,y,0,0,0\n{csv}")).unwrap_err().to_string();
            let moved = |text: &str| text.replace("line 3", "line 4").replace("line 2", "line 3");
            let expected = moved(message).replace("line 1", "line 2");
            assert_eq!(error, expected);
            assert_eq!(atlas, Atlas::default());
        }
    }
}
