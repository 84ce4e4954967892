//! What happens in the demo, step by step: each is done, and then the agents are asked until they have found it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use probes::stopwatch::Stopwatch;
use serde::Serialize;

use super::layout::{DATABASE, FAR, LEAVES, SLOW, SLOWER_BY, others, paths_at_home};
use super::picture::Picture;
use super::{DemoError, Stage, Word};

/// A step that nobody has found after so long is not found: many times what it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// See [`Settling`].
const WELL_ENOUGH: Duration = Duration::from_secs(15);
const NEAR_ENOUGH: Duration = Duration::from_secs(45);
/// So long things stay as they are when they have been found, for whoever looks at the page.
const LINGER: Duration = Duration::from_secs(2);
/// How long a pass of a story is followed by nothing.
const REST: Duration = Duration::from_secs(20);

/// Which story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Story {
    /// Nothing happens: three zones of one region, and a replica that stands in another one.
    Calm,
    /// A path gets slow and recovers.
    SlowLink,
    /// A replica is killed and comes back.
    ReplicaLeaves,
    /// One after the other.
    All,
}

/// How long it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Once.
    OnePass,
    /// Again and again until so much time has passed.
    For(Duration),
    /// Again and again until somebody stops it.
    UntilStopped,
}

/// One thing that happened, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Of which story.
    pub story: Story,
    /// Which step.
    pub step: &'static str,
    /// What was done.
    pub what: String,
    /// Where to look.
    pub look: String,
    /// When it was done, since the demo began.
    pub at_us: u64,
    /// What the agents found; `None` where that did not come.
    pub found: Option<String>,
    /// After how long.
    pub after_us: Option<u64>,
}

/// What is known so far, for the report.
#[derive(Debug, Default)]
pub struct Told {
    /// The last pass of each step.
    pub steps: Vec<Step>,
    /// How the agents saw everything last.
    pub picture: Picture,
    /// How often the story was told to its end.
    pub passes: u32,
}

/// Somebody who tells the story, and remembers it for the report.
pub struct Teller<'a> {
    /// Where lines go.
    pub tell: &'a mut (dyn FnMut(Word<'_>) + Send),
    /// What is known so far.
    pub told: &'a Mutex<Told>,
    /// Since the demo began.
    pub clock: Stopwatch,
}

/// What happens, before anybody has found it.
struct Scene {
    story: Story,
    step: &'static str,
    what: String,
    look: String,
}

impl Story {
    fn parts(self) -> &'static [Self] {
        match self {
            Self::Calm => &[Self::Calm],
            Self::SlowLink => &[Self::Calm, Self::SlowLink],
            Self::ReplicaLeaves => &[Self::Calm, Self::ReplicaLeaves],
            Self::All => &[Self::Calm, Self::SlowLink, Self::ReplicaLeaves],
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::SlowLink => "slow-link",
            Self::ReplicaLeaves => "replica-leaves",
            Self::All => "all",
        }
    }
}

/// Tells a story for so long.
pub(super) async fn tell(
    story: Story,
    length: Length,
    stage: &mut Stage,
    teller: &mut Teller<'_>,
) -> Result<(), DemoError> {
    loop {
        for part in story.parts() {
            match part {
                Story::Calm => calm(stage, teller).await?,
                Story::SlowLink => slow_link(stage, teller).await?,
                Story::ReplicaLeaves => replica_leaves(stage, teller).await?,
                Story::All => {}
            }
        }
        teller.told.lock().unwrap_or_else(PoisonError::into_inner).passes += 1;
        if length == Length::OnePass {
            return Ok(());
        }
        let rest = match length {
            Length::UntilStopped => "it begins again in 20 s, and Ctrl-C ends the demo with its report",
            Length::OnePass | Length::For(_) => "it begins again in 20 s",
        };
        teller.line(&format!("the story is at its end: {rest}"));
        teller.watch(stage, REST).await?;
    }
}

async fn calm(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), DemoError> {
    let home = paths_at_home(stage.has_database());
    let scene = Scene {
        story: Story::Calm,
        step: "within-budget",
        what: "three zones of eu-central-1 measure each other".to_owned(),
        look: "a1, b1, c1".to_owned(),
    };
    let mut settling = Settling::default();
    teller
        .step(stage, scene, |picture, after| {
            let how = settling.settled(&home, picture, after)?;
            Some(format!("all {} paths within the region are {how}", home.len()))
        })
        .await?;
    let scene = Scene {
        story: Story::Calm,
        step: "wrong-region",
        what: format!("{FAR} stands in us-east-1"),
        look: "its row, its column, findings".to_owned(),
    };
    teller
        .step(stage, scene, |picture, _| {
            let wrong = |agent| picture.findings(agent).any(is_about_far);
            let over = others(FAR).filter(|other| picture.state(FAR, other.name) == "breach").count();
            let is_told = wrong(SLOW[0]) && over == others(FAR).count();
            is_told.then(|| format!("coderd_cross_region, and breach on each of its {over} paths"))
        })
        .await
}

fn is_about_far(finding: &serde_json::Value) -> bool {
    finding["code"] == "coderd_cross_region" && finding["subjects"] == serde_json::json!([FAR])
}

async fn slow_link(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), DemoError> {
    let [one, other] = SLOW;
    let both = [(one, other), (other, one)];
    let home = paths_at_home(stage.has_database());
    let look = "that row and column";
    let scene = |step, what| Scene { story: Story::SlowLink, step, what, look: look.to_owned() };
    let more = SLOWER_BY.as_millis();
    let slows = scene("slows", format!("{one} – {other} is {more} ms slower"));
    stage.slow(SLOW, SLOWER_BY);
    let mut at_risk = None;
    teller
        .step(stage, slows, |picture, after| {
            let is_any = |state| both.iter().any(|(source, target)| picture.state(source, target) == state);
            if at_risk.is_none() && is_any("at_risk") {
                at_risk = Some(after);
            }
            // A busy machine may have had its breaches before, of jitter.
            let is_far = |source, target| {
                let reason = picture.reason(source, target).unwrap_or_default();
                picture.state(source, target) == "breach" && reason.starts_with("placement")
            };
            if !both.iter().all(|(source, target)| is_far(source, target)) {
                return None;
            }
            let risk =
                at_risk.map(|after| format!("at_risk after {}, then ", seconds(after))).unwrap_or_default();
            let reason = picture.reason(one, other).unwrap_or_default();
            let elsewhere: Vec<_> = home
                .iter()
                .filter(|path| !both.contains(path) && picture.state(path.0, path.1) == "breach")
                .map(|(source, target)| format!("{source} → {target}"))
                .collect();
            let elsewhere = match &*elsewhere {
                [] => "on no other path of the region".to_owned(),
                some => format!("and, as this machine is busy, on {}", some.join(", ")),
            };
            Some(format!("{risk}breach both ways ({reason}), {elsewhere}"))
        })
        .await?;
    stage.slow(SLOW, Duration::ZERO);
    let recovers = scene("recovers", format!("{one} – {other} is as fast as before"));
    let mut settling = Settling::default();
    teller
        .step(stage, recovers, |picture, after| {
            let how = settling.settled(&both, picture, after)?;
            Some(format!("the slow round trips are a small enough share, so it is {how}"))
        })
        .await
}

async fn replica_leaves(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), DemoError> {
    let scene = |step, what| Scene {
        story: Story::ReplicaLeaves,
        step,
        what,
        look: "its column, then its row".to_owned(),
    };
    let leaves = scene("leaves", format!("{LEAVES} is killed, without a goodbye"));
    stage.kill(LEAVES).await;
    teller
        .step(stage, leaves, |picture, _| {
            let is_gone = |source| ["unreachable", "stale"].contains(&picture.state(source, LEAVES));
            let all: Vec<_> = others(LEAVES).map(|place| place.name).collect();
            let at = |state: &str| {
                let there: Vec<_> = all.iter().filter(|name| picture.state(name, LEAVES) == state).collect();
                let names: Vec<_> = there.into_iter().copied().collect();
                (!names.is_empty()).then(|| format!("{state} at {}", names.join(", ")))
            };
            let told: Vec<_> = ["unreachable", "stale"].into_iter().filter_map(at).collect();
            all.iter().all(|source| is_gone(source)).then(|| told.join("; "))
        })
        .await?;
    let returns = scene("returns", format!("{LEAVES} comes back"));
    stage.bring_back(LEAVES).await?;
    let mut answers = None;
    let mut settling = Settling::default();
    let mut its_paths = paths_at_home(stage.has_database());
    its_paths.retain(|(source, target)| *source == LEAVES || *target == LEAVES);
    teller
        .step(stage, returns, |picture, after| {
            let is_heard = |source| !["unreachable", "stale", ""].contains(&picture.state(source, LEAVES));
            if answers.is_none() && others(LEAVES).all(|place| is_heard(place.name)) {
                answers = Some(after);
            }
            let how = settling.settled(&its_paths, picture, after)?;
            let first = answers.map(|after| format!("it answers everybody after {}, ", seconds(after)));
            Some(format!("{}and within the region it is {how}", first.unwrap_or_default()))
        })
        .await
}

/// Waits for paths that are well. A machine with much else to do has stalls of its own, for which the agents call a path
/// `at_risk`, or worse where many come together: after a while it is enough that half of the round trips show how short
/// the path is, and what the agents call it is told as well.
#[derive(Default)]
struct Settling {
    within_since: Option<Duration>,
    near_since: Option<Duration>,
}

impl Settling {
    fn settled(&mut self, paths: &[(&str, &str)], picture: &Picture, after: Duration) -> Option<String> {
        let all = |is_so: &dyn Fn(&str, &str) -> bool| paths.iter().all(|(from, to)| is_so(from, to));
        if all(&|from, to| picture.state(from, to) == "ok") {
            return Some("ok".to_owned());
        }
        let lasts = |since: &mut Option<Duration>, is_so: bool, enough: Duration| {
            *since = is_so.then(|| since.unwrap_or(after));
            since.is_some_and(|since| after.saturating_sub(since) >= enough)
        };
        let within = all(&|from, to| ["ok", "at_risk"].contains(&picture.state(from, to)));
        let near = all(&|from, to| picture.is_near(from, to));
        let within = lasts(&mut self.within_since, within, WELL_ENOUGH);
        let near = lasts(&mut self.near_since, near, NEAR_ENOUGH);
        let others = paths.iter().filter(|(from, to)| picture.state(from, to) != "ok");
        let others: Vec<_> =
            others.map(|(from, to)| format!("{from} → {to} {}", picture.state(from, to))).collect();
        let others = others.join(", ");
        (within || near)
            .then(|| format!("within the budget most of the time (this machine is busy: {others})"))
    }
}

impl Teller<'_> {
    /// Tells a line.
    pub fn line(&mut self, text: &str) {
        (self.tell)(Word::Line(&format!("{:>7}  {text}", seconds(self.clock.elapsed()))));
    }

    /// Waits until the agents have found what has just been done, and tells that.
    async fn step(
        &mut self,
        stage: &mut Stage,
        scene: Scene,
        mut is_found: impl FnMut(&Picture, Duration) -> Option<String>,
    ) -> Result<(), DemoError> {
        let watch = Stopwatch::start();
        let Scene { story, step, what, look } = scene;
        let at_us = micros(self.clock.elapsed());
        let intro = format!("{}: {what}; see {look}", story.as_str());
        (self.tell)(Word::Meanwhile(&intro));
        let found = loop {
            let picture = stage.look().await?;
            let after = watch.elapsed();
            let found = is_found(&picture, after);
            self.remember(|told| told.picture = picture);
            match found {
                Some(found) => break Some((found, after)),
                None if after >= PATIENCE => break None,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let end = match &found {
            Some((found, after)) => format!("found after {}: {found}", seconds(*after)),
            None => format!("not found within {}", seconds(PATIENCE)),
        };
        let after_us = found.as_ref().map(|(_, after)| micros(*after));
        let found = found.map(|(found, _)| found);
        self.remember(|told| {
            told.steps.retain(|before| (before.story, before.step) != (story, step));
            told.steps.push(Step { story, step, what, look, at_us, found, after_us });
        });
        self.line(&format!("{intro}; {end}"));
        self.watch(stage, LINGER).await
    }

    /// Goes on looking for so long.
    async fn watch(&mut self, stage: &mut Stage, length: Duration) -> Result<(), DemoError> {
        let watch = Stopwatch::start();
        while watch.elapsed() < length {
            tokio::time::sleep(LOOK_EVERY * 3).await;
            let picture = stage.look().await?;
            self.remember(|told| told.picture = picture);
        }
        Ok(())
    }

    fn remember(&self, news: impl FnOnce(&mut Told)) {
        news(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// With one digit: what is found is looked for five times a second.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Whether anybody here measures the database.
pub(super) fn is_database(target: &str) -> bool {
    target == DATABASE.name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ok_is_settled_at_once_and_what_is_nearly_so_after_a_while() {
        let mut settling = Settling::default();
        let paths = [("coderd-a1", "coderd-b1"), ("coderd-b1", "coderd-a1")];
        let mut after = |state: &'static str, seconds| {
            let picture = Picture::of(&[("coderd-a1", "coderd-b1", "ok"), ("coderd-b1", "coderd-a1", state)]);
            settling.settled(&paths, &picture, Duration::from_secs(seconds))
        };
        assert_eq!(after("ok", 0).as_deref(), Some("ok"));
        assert_eq!([1, 15].map(|seconds| after("at_risk", seconds)), [None, None]);
        assert_eq!(after("breach", 15), None);
        assert_eq!(after("at_risk", 16), None, "it begins anew");
        assert!(
            after("at_risk", 31).unwrap().ends_with("(this machine is busy: coderd-b1 → coderd-a1 at_risk)")
        );
        assert_eq!([32, 45].map(|seconds| after("unknown", seconds)), [None, None]);
        assert!(after("breach", 46).is_some(), "it has been near for 45 s, whatever it is called");
        assert_eq!([47, 500].map(|seconds| after("unreachable", seconds)), [None, None]);
    }

    #[test]
    fn every_story_begins_with_calm_and_all_of_them_is_each_of_them() {
        for story in [Story::Calm, Story::SlowLink, Story::ReplicaLeaves] {
            assert_eq!(story.parts().first(), Some(&Story::Calm));
            assert_eq!(story.parts().last(), Some(&story));
            assert!(Story::All.parts().contains(&story));
        }
    }
}
