//! Holds a document against its schema in the API's description: a small and strict reader of the words of JSON Schema that are used
//! there. A word that it does not know is a failure.

use serde_json::{Map, Value};

/// The description.
pub(crate) struct Schemas(Value);

impl Schemas {
    pub(crate) fn new() -> Self {
        let schemas = Self(serde_json::from_str(include_str!("../../src/web/openapi.json")).unwrap());
        let all = schemas.0["components"]["schemas"].as_object().unwrap();
        all.iter().for_each(|(name, schema)| schemas.is_sound(name, schema));
        schemas
    }

    pub(crate) fn document(&self) -> &Value {
        &self.0
    }

    /// The paths that are described.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.0["paths"].as_object().unwrap().keys().cloned().collect()
    }

    /// Panics where the document is not as described.
    pub(crate) fn check(&self, schema: &str, document: &Value) {
        if let Err(error) = self.holds(self.named(schema), document, schema) {
            panic!("{error}\n{document:#}");
        }
    }

    fn named(&self, name: &str) -> &Value {
        let schema = &self.0["components"]["schemas"][name];
        assert!(schema.is_object(), "there is no schema {name}");
        schema
    }

    /// What a schema says that is an object lists its fields, and every reference leads somewhere.
    fn is_sound(&self, place: &str, schema: &Value) {
        const WORDS: [&str; 17] = [
            "$ref",
            "additionalProperties",
            "const",
            "default",
            "description",
            "enum",
            "format",
            "items",
            "maxItems",
            "maximum",
            "minItems",
            "minimum",
            "oneOf",
            "prefixItems",
            "properties",
            "required",
            "type",
        ];
        let schema = schema.as_object().unwrap_or_else(|| panic!("{place}: {schema}"));
        for (word, value) in schema {
            assert!(WORDS.contains(&word.as_str()), "{place}: {word}");
            let inner = match word.as_str() {
                "items" => vec![value],
                "additionalProperties" if value.is_object() => vec![value],
                "oneOf" | "prefixItems" => value.as_array().unwrap().iter().collect(),
                "properties" => value.as_object().unwrap().values().collect(),
                "$ref" => {
                    self.named(name_of(value));
                    Vec::new()
                }
                _ => Vec::new(),
            };
            inner.into_iter().for_each(|inner| self.is_sound(&format!("{place}.{word}"), inner));
        }
    }

    fn holds(&self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        let schema = schema.as_object().unwrap();
        if let Some(reference) = schema.get("$ref") {
            return self.holds(self.named(name_of(reference)), value, place);
        }
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            let held: Vec<_> = choices.iter().map(|choice| self.holds(choice, value, place)).collect();
            let count = held.iter().filter(|held| held.is_ok()).count();
            return if count == 1 {
                Ok(())
            } else {
                Err(format!("{place}: {count} of the choices hold: {held:?}"))
            };
        }
        self.is_of_type(schema, value, place)?;
        if schema.get("const").is_some_and(|only| only != value) {
            return Err(format!("{place}: {value} is not {}", schema["const"]));
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array)
            && !words.contains(value)
            && !value.is_null()
        {
            return Err(format!("{place}: {value} is not one of {words:?}"));
        }
        if let (Some(least), Some(number)) = (schema.get("minimum").and_then(Value::as_f64), value.as_f64())
            && number < least
        {
            return Err(format!("{place}: {number} is below {least}"));
        }
        if let (Some(most), Some(number)) = (schema.get("maximum").and_then(Value::as_f64), value.as_f64())
            && number > most
        {
            return Err(format!("{place}: {number} is above {most}"));
        }
        if let (Some("date-time"), Some(text)) =
            (schema.get("format").and_then(Value::as_str), value.as_str())
        {
            let is_instant =
                text.len() == 24 && text.ends_with('Z') && humantime::parse_rfc3339(text).is_ok();
            if !is_instant {
                return Err(format!("{place}: '{text}' is no instant in UTC with milliseconds"));
            }
        }
        match value {
            Value::Object(fields) => self.fields(schema, fields, place),
            Value::Array(items) => self.items(schema, items, place),
            _ => Ok(()),
        }
    }

    fn is_of_type(&self, schema: &Map<String, Value>, value: &Value, place: &str) -> Result<(), String> {
        let Some(types) = schema.get("type") else { return Ok(()) };
        let types = match types {
            Value::Array(types) => types.clone(),
            one => vec![one.clone()],
        };
        let is = |word: &str| match word {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{place}: there is no type {other}"),
        };
        let held = types.iter().any(|word| is(word.as_str().unwrap()));
        if held { Ok(()) } else { Err(format!("{place}: {value} is none of {types:?}")) }
    }

    fn fields(
        &self,
        schema: &Map<String, Value>,
        fields: &Map<String, Value>,
        place: &str,
    ) -> Result<(), String> {
        let described = schema.get("properties").and_then(Value::as_object);
        for (name, value) in fields {
            let inside = format!("{place}.{name}");
            match (described.and_then(|described| described.get(name)), schema.get("additionalProperties")) {
                (Some(described), _) => self.holds(described, value, &inside)?,
                (None, Some(Value::Bool(false))) => return Err(format!("{inside} is not described")),
                (None, Some(others)) if others.is_object() => self.holds(others, value, &inside)?,
                (None, _) => {}
            }
        }
        let needed = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        match needed.into_iter().find(|name| !fields.contains_key(name.as_str().unwrap())) {
            Some(name) => Err(format!("{place}: {name} is missing")),
            None => Ok(()),
        }
    }

    fn items(&self, schema: &Map<String, Value>, items: &[Value], place: &str) -> Result<(), String> {
        let bound = |word: &str| schema.get(word).and_then(Value::as_u64);
        let count = items.len() as u64;
        if bound("minItems").is_some_and(|least| count < least)
            || bound("maxItems").is_some_and(|most| count > most)
        {
            return Err(format!("{place} has {count} items"));
        }
        let first = schema.get("prefixItems").and_then(Value::as_array).into_iter().flatten();
        let rest = std::iter::repeat(schema.get("items"));
        for (number, (item, schema)) in items.iter().zip(first.map(Some).chain(rest)).enumerate() {
            if let Some(schema) = schema {
                self.holds(schema, item, &format!("{place}[{number}]"))?;
            }
        }
        Ok(())
    }
}

fn name_of(reference: &Value) -> &str {
    reference.as_str().unwrap().strip_prefix("#/components/schemas/").unwrap()
}

#[test]
fn a_document_that_is_not_as_described_is_told_by_its_place() {
    let schemas = Schemas::new();
    let good = serde_json::json!({ "zone": null, "region": "cellar" });
    schemas.check("Zone", &good);
    for (document, part) in [
        (serde_json::json!({ "zone": null }), "\"region\" is missing"),
        (serde_json::json!({ "zone": 1, "region": null }), "Zone.zone: 1 is none of"),
        (serde_json::json!({ "zone": null, "region": null, "more": 1 }), "Zone.more is not described"),
    ] {
        let error = schemas.holds(schemas.named("Zone"), &document, "Zone").unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let state = |word: &str| schemas.holds(schemas.named("State"), &word.into(), "state");
    assert!(state("ok").is_ok() && state("fine").is_err());
}
