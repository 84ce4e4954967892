//! `probe check --plan`: a deployment judged before there is one, by where its parts would stand. No packet is sent.
//!
//! Physics can prove that two regions never meet the budget, and nothing can prove beforehand that they will. So the
//! answers are: too far for light; so far that hardly a measured pair of regions at that distance keeps the budget; two
//! regions that may keep it, and are two regions all the same, which Coder advises against; one region.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::export::json::SCHEMA_VERSION;
use crate::export::text::Colour;
use crate::mesh::budget::{Budgets, Limit};
use crate::mesh::cause::ms;
use crate::mesh::peer::{Role, RoleError};
use crate::mesh::place::policy::{Policy, Severity};
use crate::mesh::region::{Atlas, Region, Typical, name, written};
use crate::mesh::rules::Code;
use crate::mesh::verdict::Verdict;

/// A region that differs from what was written in more than a third of its letters was not meant.
const ALIKE: usize = 3;

/// What is planned, and what it is held against.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The parts; each pair of a region and a role once.
    pub spots: Vec<Spot>,
    /// The limits by class of link.
    pub budgets: Budgets,
    /// What it means that two ends stand in different regions.
    pub policy: Policy,
}

/// One part: so many servers of one role in one region.
#[derive(Debug, Clone, PartialEq)]
pub struct Spot {
    /// Where.
    pub region: Region,
    /// What.
    pub role: Role,
}

/// A part that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpotError {
    /// Not of that form.
    #[error("'{0}' is not PROVIDER/REGION=ROLE, like aws/us-east-1=coderd")]
    Form(String),
    /// Nothing like it in the table.
    #[error("'{text}' is no region that we know{suggestion}")]
    Region {
        /// What was given.
        text: String,
        /// What may have been meant.
        suggestion: String,
    },
    /// No role.
    #[error("{text}: {cause}")]
    Role {
        /// What was given.
        text: String,
        /// What is wrong.
        cause: RoleError,
    },
}

impl Spot {
    /// Understands `provider/region=role`; the provider may be left out where only one has a region of that name.
    pub fn parse(text: &str, atlas: &Atlas) -> Result<Self, SpotError> {
        let (place, role) = text.rsplit_once('=').ok_or_else(|| SpotError::Form(text.to_owned()))?;
        if place.trim().is_empty() || role.is_empty() {
            return Err(SpotError::Form(text.to_owned()));
        }
        let region = atlas.find(&name(place)).ok_or_else(|| SpotError::Region {
            text: place.to_owned(),
            suggestion: suggestion(place, atlas),
        })?;
        let role = role.parse().map_err(|cause| SpotError::Role { text: text.to_owned(), cause })?;
        Ok(Self { region: region.clone(), role })
    }

    fn in_words(&self) -> String {
        format!("{} [{}]", written(&self.region.name), self.role)
    }
}

fn suggestion(text: &str, atlas: &Atlas) -> String {
    let wanted = name(text);
    let distance = |region: &Region| {
        let alone = strsim::damerau_levenshtein(&wanted.region, &region.name.region);
        let provider = |name: Option<&String>| name.cloned().unwrap_or_default();
        let (ours, theirs) = (provider(wanted.provider.as_ref()), provider(region.name.provider.as_ref()));
        if ours.is_empty() { alone } else { alone + strsim::damerau_levenshtein(&ours, &theirs).min(2) }
    };
    let mut near: Vec<_> = atlas.regions().map(|region| (distance(region), written(&region.name))).collect();
    near.sort();
    let near = near.into_iter().filter(|(distance, _)| distance * ALIKE <= text.len()).take(3);
    match near.map(|(_, name)| name).collect::<Vec<_>>().as_slice() {
        [] => "; it takes regions of aws, gcp and azure as the provider writes them".to_owned(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

/// Why a pair is what it is. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// One region.
    SameRegion,
    /// This class of link has no budget.
    NoBudget,
    /// Two regions in one metropolis.
    SameMetro,
    /// Two regions that may keep the budget.
    CrossRegion,
    /// Of a hundred measured pairs at that distance, 95 are over the budget.
    TypicallyTooFar,
    /// Light needs longer than the budget.
    TooFar,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::SameRegion => "same_region",
            Self::NoBudget => "no_budget",
            Self::SameMetro => "same_metro",
            Self::CrossRegion => "cross_region",
            Self::TypicallyTooFar => "typically_too_far",
            Self::TooFar => "too_far",
        }
    }
}

/// Two parts, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Both.
    pub ends: [Spot; 2],
    /// What it is held against.
    pub limit: Limit,
    /// Fail, pass or info.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What is found; `None` where nothing is wrong.
    pub finding: Option<(Code, Severity)>,
    /// Between the centres of both regions.
    pub distance_km: f64,
    /// No round trip is faster.
    pub least: Duration,
    /// No round trip through fibre of solid glass is faster.
    pub least_in_fibre: Duration,
    /// What measured pairs of regions at that distance take; `None` within one region.
    pub typical: Option<Typical>,
    /// One line for people.
    pub evidence: String,
}

/// A plan, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its parts.
    pub spots: Vec<Spot>,
    /// Each part with each other.
    pub pairs: Vec<Pair>,
    /// The worst of all pairs that have a budget.
    pub verdict: Verdict,
}

impl Plan {
    /// 0 or 1; `warnings_too` is for gates that let no warning pass.
    pub fn exit_code(&self, warnings_too: bool) -> u8 {
        let least = if warnings_too { Severity::Warning } else { Severity::Fail };
        let found = |pair: &Pair| pair.finding.is_some_and(|(_, severity)| severity >= least);
        u8::from(self.verdict == Verdict::Fail || self.pairs.iter().any(found))
    }
}

/// Judges each part with each other.
pub fn judge(settings: &Settings) -> Plan {
    let mut spots: Vec<Spot> = Vec::new();
    for spot in &settings.spots {
        if !spots.contains(spot) {
            spots.push(spot.clone());
        }
    }
    let mut pairs = Vec::new();
    for (index, one) in spots.iter().enumerate() {
        pairs.extend(spots[index + 1..].iter().map(|other| judge_pair(one, other, settings)));
    }
    let fails = pairs.iter().any(|pair| pair.verdict == Verdict::Fail);
    Plan { spots, pairs, verdict: if fails { Verdict::Fail } else { Verdict::Pass } }
}

fn judge_pair(one: &Spot, other: &Spot, settings: &Settings) -> Pair {
    let (here, there) = (&one.region, &other.region);
    let limit = settings.budgets.limit(Some(one.role), Some(other.role));
    let distance_km = here.distance_km(there);
    let (least, least_in_fibre) = (here.least_rtt(there), here.least_rtt_in_fibre(there));
    let typical = (here.name != there.name).then(|| here.typical_rtt(there));
    let near = here.same_metro(there);
    let crossing = settings.policy.crossing(Some(one.role), Some(other.role), near);
    let code = code(one.role, other.role, near);
    let (verdict, reason, severity) = match (typical, limit) {
        (_, None) => (Verdict::Info, Reason::NoBudget, None),
        (None, Some(_)) => (Verdict::Pass, Reason::SameRegion, None),
        (Some(_), Some(limit)) if least >= limit => (Verdict::Fail, Reason::TooFar, Some(Severity::Fail)),
        (Some(typical), Some(limit)) if typical.low >= limit => {
            (Verdict::Fail, Reason::TypicallyTooFar, Some(Severity::Fail))
        }
        (Some(_), Some(_)) => {
            let verdict = if crossing == Some(Severity::Fail) { Verdict::Fail } else { Verdict::Pass };
            (verdict, if near { Reason::SameMetro } else { Reason::CrossRegion }, crossing)
        }
    };
    Pair {
        ends: [one.clone(), other.clone()],
        limit,
        verdict,
        reason,
        finding: severity.map(|severity| (code, severity)),
        distance_km,
        least,
        least_in_fibre,
        typical,
        evidence: evidence(reason, distance_km, least, typical, limit),
    }
}

fn code(one: Role, other: Role, near: bool) -> Code {
    match (one == Role::Coderd, other == Role::Coderd) {
        (true, true) => Code::CoderdCrossRegion,
        (false, false) => Code::DatabaseNodesFar,
        _ if near => Code::DatabaseSameMetro,
        _ => Code::DatabaseCrossRegion,
    }
}

fn evidence(
    reason: Reason,
    distance_km: f64,
    least: Duration,
    typical: Option<Typical>,
    limit: Limit,
) -> String {
    let Some(typical) = typical else {
        return "one region: usually 2 ms or less between its zones".to_owned();
    };
    let usual = format!("usually {} ({} to {})", ms(typical.usual), ms(typical.low), ms(typical.high));
    let km = format!("{distance_km:.0} km apart");
    let over = limit.is_some_and(|limit| typical.usual >= limit);
    let over = if over { ", which is over the budget" } else { "" };
    match reason {
        Reason::TooFar => format!("{km}: light needs at least {} there and back, {usual}", ms(least)),
        Reason::TypicallyTooFar => {
            format!("{km}: {usual}; of twenty pairs of regions that far apart one may keep the budget")
        }
        Reason::SameMetro => format!("one metropolis and still two regions: {usual}{over}"),
        Reason::CrossRegion => format!("{km} and two regions, whatever the round trip: {usual}{over}"),
        Reason::NoBudget | Reason::SameRegion => format!("{km}: {usual}; for information only"),
    }
}

/// For people.
pub fn render_text(plan: &Plan, colour: Colour) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_text(&mut text, plan, colour);
    text
}

fn write_text(out: &mut String, plan: &Plan, colour: Colour) -> fmt::Result {
    let title = "plan (by distance; nothing is measured)";
    writeln!(out, "{}\n{}", paint(colour, "1", title), "-".repeat(title.len()))?;
    if let ([only], []) = (plan.spots.as_slice(), plan.pairs.as_slice()) {
        writeln!(out, "{} {} is in one region", symbol(colour, None, Verdict::Pass), only.in_words())?;
    }
    for pair in &plan.pairs {
        let [one, other] = &pair.ends;
        let severity = pair.finding.map(|(_, severity)| severity);
        let mark = symbol(colour, severity, pair.verdict);
        writeln!(out, "{mark} {} – {}", one.in_words(), other.in_words())?;
        writeln!(out, "    {}: {}", pair.reason.as_str(), pair.evidence)?;
        if let Some((code, _)) = pair.finding {
            writeln!(out, "    hint: {} ({})", code.remedy(), code.anchor())?;
        }
    }
    let count =
        |least| plan.pairs.iter().filter(|pair| pair.finding.is_some_and(|(_, s)| s == least)).count();
    let (fails, warnings) = (count(Severity::Fail), count(Severity::Warning));
    let sentence = match (fails, warnings) {
        (0, 0) => "nothing speaks against it; measure when it runs".to_owned(),
        (0, some) => format!("{some} of {} pairs with a warning", plan.pairs.len()),
        (some, _) => format!("{some} of {} pairs fail", plan.pairs.len()),
    };
    let word = paint(colour, "1", &plan.verdict.as_str().to_uppercase());
    writeln!(out, "\n{} {word} – {sentence}", symbol(colour, None, plan.verdict))
}

fn paint(colour: Colour, code: &str, text: &str) -> String {
    match colour {
        Colour::Never => text.to_owned(),
        Colour::Always => format!("\x1b[{code}m{text}\x1b[0m"),
    }
}

fn symbol(colour: Colour, severity: Option<Severity>, verdict: Verdict) -> String {
    match (severity, verdict) {
        (_, Verdict::Fail) => paint(colour, "31", "×"),
        (Some(Severity::Warning), _) | (_, Verdict::Inconclusive) => paint(colour, "33", "‼"),
        (_, Verdict::Info) => "·".to_owned(),
        (_, Verdict::Pass) => paint(colour, "32", "√"),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    version: &'static str,
    verdict: Verdict,
    plan: Vec<End<'a>>,
    pairs: Vec<PairDocument<'a>>,
}

#[derive(Serialize)]
struct End<'a> {
    region: String,
    city: &'a str,
    role: Role,
}

#[derive(Serialize)]
struct PairDocument<'a> {
    ends: [End<'a>; 2],
    budget_us: Option<f64>,
    verdict: Verdict,
    reason: Reason,
    evidence: &'a str,
    code: Option<Code>,
    severity: Option<Severity>,
    hint: Option<&'static str>,
    anchor: Option<String>,
    distance_km: f64,
    least_us: f64,
    least_in_fibre_us: f64,
    typical_us: Option<TypicalDocument>,
}

#[derive(Serialize)]
struct TypicalDocument {
    p5: f64,
    p50: f64,
    p95: f64,
}

/// One pretty-printed document with a newline at its end.
pub fn render_json(plan: &Plan) -> Result<String, serde_json::Error> {
    let micros = |duration: Duration| (duration.as_secs_f64() * 1e7).round() / 10.0;
    let pairs = plan.pairs.iter().map(|pair| PairDocument {
        ends: [end(&pair.ends[0]), end(&pair.ends[1])],
        budget_us: pair.limit.map(micros),
        verdict: pair.verdict,
        reason: pair.reason,
        evidence: &pair.evidence,
        code: pair.finding.map(|(code, _)| code),
        severity: pair.finding.map(|(_, severity)| severity),
        hint: pair.finding.map(|(code, _)| code.remedy()),
        anchor: pair.finding.map(|(code, _)| code.anchor()),
        distance_km: (pair.distance_km * 10.0).round() / 10.0,
        least_us: micros(pair.least),
        least_in_fibre_us: micros(pair.least_in_fibre),
        typical_us: pair.typical.map(|typical| TypicalDocument {
            p5: micros(typical.low),
            p50: micros(typical.usual),
            p95: micros(typical.high),
        }),
    });
    let document = Document {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        verdict: plan.verdict,
        plan: plan.spots.iter().map(end).collect(),
        pairs: pairs.collect(),
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

fn end(spot: &Spot) -> End<'_> {
    End { region: written(&spot.region.name), city: &spot.region.city, role: spot.role }
}
