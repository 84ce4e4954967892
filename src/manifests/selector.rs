//! Selectors of labels, as workloads, policies and budgets write them, and requirements on nodes.

use std::collections::BTreeMap;

use super::field::Field;

/// Labels of a pod or a namespace.
pub(super) type Labels = BTreeMap<String, String>;

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirement {
    pub(super) key: String,
    pub(super) operator: Operator,
    pub(super) values: Vec<String>,
}

/// How a label is held against values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    Absent,
    /// Of nodes only: `Gt` and `Lt`.
    Compare,
}

/// What must hold of all labels. Without a requirement everything is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) requirements: Vec<Requirement>,
}

impl Selector {
    /// Reads `matchLabels` and `matchExpressions`.
    pub(super) fn read(field: &Field<'_>) -> Self {
        let equal = |(key, value)| Requirement { key, operator: Operator::In, values: vec![value] };
        let mut requirements: Vec<_> = field.labels("matchLabels").into_iter().map(equal).collect();
        requirements.extend(requirements_in(field, "matchExpressions"));
        Self { requirements }
    }

    /// Whether these labels are selected.
    pub(super) fn selects(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }

    /// Those requirements that these labels do not meet, as people write them.
    pub(super) fn unmet(&self, labels: &Labels) -> String {
        let unmet = self.requirements.iter().filter(|requirement| !requirement.holds(labels));
        unmet.map(Requirement::in_words).collect::<Vec<_>>().join(", ")
    }
}

impl Requirement {
    pub(super) fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::Compare => false,
        }
    }

    fn in_words(&self) -> String {
        match self.operator {
            Operator::In if self.values.len() == 1 => format!("{}={}", self.key, self.values[0]),
            Operator::In => format!("{} in [{}]", self.key, self.values.join(", ")),
            Operator::NotIn => format!("{} not in [{}]", self.key, self.values.join(", ")),
            Operator::Exists => format!("{} exists", self.key),
            Operator::Absent => format!("{} does not exist", self.key),
            Operator::Compare => format!("{} compared with {}", self.key, self.values.join(", ")),
        }
    }
}

/// The requirements in a list of expressions.
pub(super) fn requirements_in(field: &Field<'_>, key: &str) -> Vec<Requirement> {
    let read = |expression: &Field<'_>| {
        let operator = expression.get("operator")?;
        let operator = match operator.as_text()? {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::Absent,
            "Gt" | "Lt" => Operator::Compare,
            _ => return operator.expected("In, NotIn, Exists or DoesNotExist"),
        };
        let key = expression.text("key")?.to_owned();
        Some(Requirement { key, operator, values: expression.texts("values") })
    };
    field.list(key).iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifests::field::Faults;

    #[test]
    fn all_requirements_must_hold_and_none_selects_everything() {
        let labels = Labels::from([("app".into(), "coder".into()), ("tier".into(), "1".into())]);
        let selects = |value: serde_json::Value| {
            let faults = Faults::default();
            let selector = Selector::read(&Field::root(&value, &faults));
            assert_eq!(faults.into_found(), []);
            selector.selects(&labels)
        };
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        assert!(selects(json!({})));
        assert!(selects(json!({"matchLabels": {"app": "coder"}})));
        assert!(!selects(json!({"matchLabels": {"app": "coder", "tier": "2"}})));
        assert!(selects(expression("app", "In", &["x", "coder"])));
        assert!(!selects(expression("none", "In", &["coder"])));
        assert!(selects(expression("none", "NotIn", &["coder"])), "who has no such label is not in");
        assert!(!selects(expression("app", "NotIn", &["coder"])));
        assert!(selects(expression("app", "Exists", &[])));
        assert!(!selects(expression("none", "Exists", &[])));
        assert!(selects(expression("none", "DoesNotExist", &[])));
    }

    #[test]
    fn an_operator_that_there_is_not_is_a_fault() {
        let value = json!({"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]});
        let faults = Faults::default();
        Selector::read(&Field::root(&value, &faults));
        assert_eq!(faults.into_found()[0].0, "matchExpressions[0].operator");
    }
}
