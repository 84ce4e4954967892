//! What changes or keeps the number of pods: autoscalers and disruption budgets.

use super::field::{Field, NumberOrText};
use super::selector::Selector;
use super::workload::{Resource, Workload};

/// A HorizontalPodAutoscaler, or a ScaledObject of KEDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Autoscaler {
    pub(super) resource: Resource,
    target_kind: String,
    target_name: String,
    pub(super) least: u32,
    /// `None` is whatever the operator's default is.
    pub(super) most: Option<u32>,
}

impl Autoscaler {
    pub(super) fn read(resource: Resource, root: &Field<'_>) -> Option<Self> {
        let is_keda = resource.kind == "ScaledObject";
        let spec = root.needed("spec")?;
        let target = spec.needed("scaleTargetRef")?;
        let (least, most) =
            if is_keda { ("minReplicaCount", "maxReplicaCount") } else { ("minReplicas", "maxReplicas") };
        Some(Self {
            resource,
            target_kind: target.text("kind").unwrap_or("Deployment").to_owned(),
            target_name: target.text("name")?.to_owned(),
            least: spec.count(least).unwrap_or(u32::from(!is_keda)),
            most: spec.count(most),
        })
    }

    /// Whether it scales this workload, as opposed to holding it at one number.
    pub(super) fn scales(&self, workload: &Workload) -> bool {
        let other = &workload.resource;
        self.acts_on(workload) && self.most != Some(self.least) && self.resource.is_beside(other)
    }

    /// Whether it says how many there are of this workload now. Kubernetes' own leaves what is scaled to zero at that until
    /// somebody scales it up, however many it asks for; KEDA's wakes it.
    pub(super) fn acts_on(&self, workload: &Workload) -> bool {
        let is_asleep = self.resource.kind != "ScaledObject" && workload.replicas == Some(0);
        self.targets(workload) && !is_asleep
    }

    /// Whether it is about this workload.
    fn targets(&self, workload: &Workload) -> bool {
        let other = &workload.resource;
        self.target_kind == other.kind && self.target_name == other.name && self.resource.is_beside(other)
    }
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DisruptionBudget {
    pub(super) resource: Resource,
    selector: Option<Selector>,
    least: Option<NumberOrText>,
    most: Option<NumberOrText>,
}

impl DisruptionBudget {
    pub(super) fn read(resource: Resource, root: &Field<'_>) -> Option<Self> {
        let spec = root.needed("spec")?;
        Some(Self {
            resource,
            selector: spec.get("selector").map(|selector| Selector::read(&selector)),
            least: spec.number_or_text("minAvailable"),
            most: spec.number_or_text("maxUnavailable"),
        })
    }

    /// Whether it selects these pods.
    pub(super) fn selects(&self, workload: &Workload) -> bool {
        let selects = self.selector.as_ref().is_some_and(|selector| selector.selects(&workload.pod.labels));
        selects && self.resource.is_beside(&workload.resource)
    }

    /// Whether it keeps any of so many pods running.
    pub(super) fn keeps_some(&self, replicas: u32) -> bool {
        let share = |text: &str| text.trim_end_matches('%').trim().parse::<u64>().unwrap_or(0);
        match (&self.least, &self.most) {
            (Some(NumberOrText::Number(least)), _) => *least > 0,
            (Some(NumberOrText::Text(least)), _) => share(least) > 0,
            (None, Some(NumberOrText::Number(most))) => *most < i64::from(replicas),
            // Kubernetes rounds up how many may be missing.
            (None, Some(NumberOrText::Text(most))) => {
                (share(most) * u64::from(replicas)).div_ceil(100) < u64::from(replicas)
            }
            // Without either, Kubernetes lets none go.
            (None, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(least: Option<NumberOrText>, most: Option<NumberOrText>) -> DisruptionBudget {
        let resource = Resource {
            kind: "PodDisruptionBudget".into(),
            namespace: None,
            name: "coder".into(),
            file: "f".into(),
        };
        DisruptionBudget { resource, selector: None, least, most }
    }

    #[test]
    fn a_budget_that_lets_all_pods_go_keeps_none() {
        let number = |number| Some(NumberOrText::Number(number));
        let text = |text: &str| Some(NumberOrText::Text(text.to_owned()));
        for (least, most, keeps) in [
            (number(2), None, true),
            (number(0), None, false),
            (text("50%"), None, true),
            (text("0%"), None, false),
            (None, number(1), true),
            (None, number(3), false),
            (None, text("100%"), false),
            (None, text("67%"), false),
            (None, text("66%"), true),
            (None, None, true),
        ] {
            assert_eq!(budget(least.clone(), most.clone()).keeps_some(3), keeps, "{least:?} {most:?}");
        }
    }
}
