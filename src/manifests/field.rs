//! A value with its way through the resource. What is of a wrong type is told once and then treated as absent.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// A field that is not what Kubernetes takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Kind and name, like `Deployment coder/coder`.
    pub resource: String,
    /// The way to the field, like `spec.replicas`.
    pub field: String,
    /// What it must be and what it is.
    pub text: String,
}

/// What is at or below these is never shown: settings and passwords stand there.
const MAY_HOLD_SECRETS: [&str; 7] = ["env", "envFrom", "args", "command", "data", "stringData", "binaryData"];

/// The faults of one resource.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<(String, String)>>);

impl Faults {
    pub(super) fn into_found(self) -> Vec<(String, String)> {
        self.0.into_inner()
    }
}

/// A number or a text, as ports and shares are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NumberOrText {
    Number(i64),
    Text(String),
}

/// One value.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    value: &'a Value,
    path: String,
    faults: &'a Faults,
}

impl<'a> Field<'a> {
    pub(super) fn root(value: &'a Value, faults: &'a Faults) -> Self {
        Self { value, path: String::new(), faults }
    }

    /// Below this one; `None` where it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let Value::Object(map) = self.value else {
            return self.expected("a mapping");
        };
        let value = map.get(key).filter(|value| !value.is_null())?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Some(Self { value, path, faults: self.faults })
    }

    /// Several steps down.
    pub(super) fn at(&self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self.clone(), |field, key| field.get(key))
    }

    /// The values of a list below this one.
    pub(super) fn list(&self, key: &str) -> Vec<Self> {
        let Some(field) = self.get(key) else { return Vec::new() };
        let Value::Array(values) = field.value else {
            return field.expected("a list").unwrap_or_default();
        };
        let path = &field.path;
        let one = |(index, value)| Self { value, path: format!("{path}[{index}]"), faults: self.faults };
        values.iter().enumerate().map(one).collect()
    }

    /// A text below this one.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_text()
    }

    /// Texts in a list below this one.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.list(key).iter().filter_map(Self::as_text).map(str::to_owned).collect()
    }

    /// A mapping of texts below this one.
    pub(super) fn labels(&self, key: &str) -> BTreeMap<String, String> {
        let Some(field) = self.get(key) else { return BTreeMap::new() };
        let Value::Object(map) = field.value else {
            return field.expected("a mapping").unwrap_or_default();
        };
        let texts = map.keys().filter_map(|key| Some((key.clone(), field.text(key)?.to_owned())));
        texts.collect()
    }

    /// A count below this one.
    pub(super) fn count(&self, key: &str) -> Option<u32> {
        let field = self.get(key)?;
        let number = whole(field.value).and_then(|number| u32::try_from(number).ok());
        number.or_else(|| field.expected("a whole number, 0 or more"))
    }

    /// A truth below this one.
    pub(super) fn truth(&self, key: &str) -> Option<bool> {
        let field = self.get(key)?;
        field.value.as_bool().or_else(|| field.expected("true or false"))
    }

    /// A number or a text below this one.
    pub(super) fn number_or_text(&self, key: &str) -> Option<NumberOrText> {
        let field = self.get(key)?;
        match field.value {
            Value::String(text) => Some(NumberOrText::Text(text.clone())),
            value => match whole(value) {
                Some(number) => Some(NumberOrText::Number(number)),
                None => field.expected("a number or a text"),
            },
        }
    }

    pub(super) fn as_text(&self) -> Option<&'a str> {
        self.value.as_str().or_else(|| self.expected("a text"))
    }

    /// Nothing, as this is not what it must be.
    pub(super) fn expected<T>(&self, what: &str) -> Option<T> {
        // Values of settings may be secrets, so only their type is told.
        let is_secret = self.path.split(['.', '[']).any(|step| MAY_HOLD_SECRETS.contains(&step));
        let is = match self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(truth) => format!("the truth value {truth}"),
            Value::Number(number) if !is_secret => format!("the number {number}"),
            Value::Number(_) => "a number".to_owned(),
            Value::String(text) if !is_secret => {
                format!("the text '{}'", text.chars().take(40).collect::<String>())
            }
            Value::String(_) => "a text".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
        };
        let quote = if what == "a text" && !matches!(self.value, Value::Array(_) | Value::Object(_)) {
            "; put it in quotes"
        } else {
            ""
        };
        self.tell(format!("must be {what}, not {is}{quote}"));
        None
    }

    /// Below this one; that it is absent is told.
    pub(super) fn needed(&self, key: &str) -> Option<Self> {
        let found = self.get(key);
        if found.is_none() && self.value.is_object() {
            let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
            Self { value: self.value, path, faults: self.faults }.tell("is missing".to_owned());
        }
        found
    }

    /// Tells what is wrong with this field.
    pub(super) fn tell(&self, text: String) {
        let fault = (self.path.clone(), text);
        let mut found = self.faults.0.borrow_mut();
        if !found.contains(&fault) {
            found.push(fault);
        }
    }
}

/// A whole number, also one that is written as `3.0`.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e9)?;
        format!("{number:.0}").parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_type_is_told_with_its_way_and_the_rest_is_read() {
        let value = json!({"spec": {"replicas": "three", "list": [{"port": 8080}, {"port": 1.5}, {"port": 3.0}], "labels": {"a": "b", "c": 1},
            "env": [{"value": 4711}]}});
        let faults = Faults::default();
        let spec = Field::root(&value, &faults).get("spec").unwrap();
        assert_eq!(spec.count("replicas"), None);
        assert_eq!(spec.list("list")[0].number_or_text("port"), Some(NumberOrText::Number(8080)));
        assert_eq!(spec.list("list")[1].number_or_text("port"), None);
        assert_eq!(spec.list("list")[2].number_or_text("port"), Some(NumberOrText::Number(3)));
        assert_eq!(spec.labels("labels"), BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(spec.list("env")[0].text("value"), None);
        assert!(spec.get("nothing").is_none());
        assert!(spec.needed("template").is_none());
        let told: Vec<_> =
            faults.into_found().into_iter().map(|(path, text)| format!("{path} {text}")).collect();
        assert_eq!(
            told,
            [
                "spec.replicas must be a whole number, 0 or more, not the text 'three'",
                "spec.list[1].port must be a number or a text, not the number 1.5",
                "spec.labels.c must be a text, not the number 1; put it in quotes",
                "spec.env[0].value must be a text, not a number; put it in quotes",
                "spec.template is missing",
            ]
        );
    }

    #[test]
    fn what_may_hold_a_secret_is_told_without_its_value() {
        let secret = "postgres://coder:hunter2@db";
        let keys = ["env", "envFrom", "args", "command", "data", "stringData", "binaryData"];
        for key in keys {
            let value = json!({"containers": [{key: secret}], key: {"a": 4711}});
            let faults = Faults::default();
            let root = Field::root(&value, &faults);
            assert!(root.list("containers")[0].list(key).is_empty());
            assert!(root.list("containers")[0].labels(key).is_empty());
            assert!(root.labels(key).is_empty());
            let told = faults.into_found();
            assert_eq!(told.len(), 3, "{told:?}");
            let shows = |text: &str| text.contains("hunter2") || text.contains("4711");
            assert!(told.iter().all(|(_, text)| !shows(text)), "{told:?}");
        }
    }
}
