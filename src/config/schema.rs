//! The JSON Schema of the configuration, drawn from the shapes in `file` and from the reference:
//! `tidegate schema` prints it, and `structure` walks along it.

use super::file::File;
use super::reference;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use toml::de::{DeTable, DeValue};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    complete(&mut schema, Some(&DeValue::Table(reference::table().clone())));
    schema
});

/// The JSON Schema of a configuration file.
#[must_use]
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Makes a shape's schema one of a file: TOML has no null, `x-required` says which keys have to be
/// written, and what the reference gives is the default of the others.
fn complete(schema: &mut Value, reference: Option<&DeValue<'_>>) {
    let Some(schema) = schema.as_object_mut() else { return };
    remove_null(schema);
    if let Some(items) = schema.get_mut("items") {
        complete(items, reference.and_then(first));
    }
    if let Some(values) = schema.get_mut("additionalProperties") {
        complete(values, None);
    }
    if let Some(branches) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        for branch in branches {
            complete(branch, None);
        }
    }
    let mut required = Vec::new();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (key, property) in properties.iter_mut() {
            let given = reference.and_then(DeValue::as_table).and_then(|table| value_of(table, key));
            complete(property, given);
            let Some(property) = property.as_object_mut() else { continue };
            if property.remove("x-required").is_some() {
                required.push(json!(key));
            } else if let Some(default) = given.and_then(json_of) {
                property.insert("default".to_owned(), default);
            }
        }
        schema.insert("required".to_owned(), Value::Array(required));
    }
}

fn remove_null(schema: &mut Map<String, Value>) {
    let is_null = |value: &Value| value == "null" || value.is_null() || *value == json!({"type": "null"});
    for list in ["type", "enum", "anyOf"] {
        if let Some(Value::Array(values)) = schema.get_mut(list) {
            values.retain(|value| !is_null(value));
        }
    }
    if let Some(Value::Array(types)) = schema.get("type")
        && let [only] = types.as_slice()
    {
        schema.insert("type".to_owned(), only.clone());
    }
    if let Some(Value::Array(branches)) = schema.get("anyOf")
        && let [Value::Object(only)] = branches.as_slice()
    {
        let only = only.clone();
        schema.remove("anyOf");
        for (keyword, value) in only {
            schema.entry(keyword).or_insert(value);
        }
    }
}

/// The value of a key.
pub(super) fn value_of<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<&'a DeValue<'i>> {
    table.get(key).map(toml::Spanned::get_ref)
}

/// The element of an array that stands for all of them.
pub(super) fn first<'a, 'i>(array: &'a DeValue<'i>) -> Option<&'a DeValue<'i>> {
    array.as_array()?.iter().next().map(toml::Spanned::get_ref)
}

/// A value as a default is shown; tables have none, their keys do.
fn json_of(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(json!(text)),
        DeValue::Integer(number) => number.as_str().parse::<i64>().ok().map(Value::from),
        DeValue::Boolean(boolean) => Some(json!(boolean)),
        DeValue::Array(values) => values.iter().map(|value| json_of(value.get_ref())).collect(),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_tells_defaults_required_keys_and_choices() {
        let schema = document();
        let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        let source = "/properties/source/items";
        assert_eq!(*at(&format!("{source}/required")), json!(["name", "urls"]));
        assert_eq!(*at(&format!("{source}/properties/timeout/default")), json!("15s"));
        assert_eq!(*at(&format!("{source}/additionalProperties")), json!(false));
        let failure = at("/properties/destination/items/properties/on_failure");
        assert_eq!(failure["enum"], json!(["park-key", "block", "skip"]));
        assert_eq!(failure["default"], json!("park-key"));
        assert!(failure["description"].is_string());
        assert_eq!(*at("/properties/server/properties/threads/type"), json!("integer"));
        assert!(!schema.to_string().contains("x-required"));
        assert!(!schema.to_string().contains("null"));
    }
}
