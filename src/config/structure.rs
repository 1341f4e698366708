//! One walk over a parsed file along its schema. After it, strings are expanded, every key is known
//! and of its type, and what was left out is filled in from the reference.
//!
//! A value that does not fit is refused and replaced by an empty one of the right type, so that the
//! walk and the checks after it find every other fault too.

use super::environment::{ExpandError, expand};
use super::exposure;
use super::fault::Report;
use super::schema::{first, value_of};
use super::suggestion::closest;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

/// The walk.
pub(super) struct Walk<'a, 't> {
    pub(super) report: &'a mut Report<'t>,
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Walk<'_, '_> {
    /// Walks a table. `key` is its dotted key, empty for the file itself.
    pub(super) fn table<'i>(
        &mut self,
        table: &mut Spanned<DeTable<'i>>,
        key: &str,
        schema: &Value,
        reference: Option<&DeValue<'i>>,
    ) {
        let span = table.span();
        let table = table.get_mut();
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            let schema = schema.get("additionalProperties").unwrap_or(&Value::Null);
            for (name, value) in table.iter_mut() {
                self.value(value, &join(key, name.get_ref()), schema, None);
            }
            return;
        };
        let is_unknown = |name: &&Spanned<Cow<'i, str>>| !properties.contains_key(name.get_ref().as_ref());
        let unknown: Vec<_> = table.keys().filter(is_unknown).cloned().collect();
        for name in unknown {
            self.unknown_key(&name, key, properties);
            table.remove(name.get_ref().as_ref());
        }
        let reference = reference.and_then(DeValue::as_table);
        for (name, property) in properties {
            let key = join(key, name);
            let given = reference.and_then(|reference| value_of(reference, name));
            if !table.contains_key(name.as_str())
                && let Some(value) = self.left_out(&span, &key, is_required(schema, name), property, given)
            {
                table.insert(Spanned::new(value.span(), Cow::Owned(name.clone())), value);
            }
            if let Some(value) = table.get_mut(name.as_str()) {
                self.value(value, &key, property, given);
            }
        }
    }

    fn value<'i>(
        &mut self,
        value: &mut Spanned<DeValue<'i>>,
        key: &str,
        schema: &Value,
        reference: Option<&DeValue<'i>>,
    ) {
        let span = value.span();
        self.report.note(&span, key);
        let schema = branch(schema, value.get_ref());
        match (value.get_mut(), type_of(schema)) {
            (DeValue::String(text), "string") => {
                let is_secret = match schema.get("x-secret").and_then(Value::as_str) {
                    Some("password") => exposure::is_written_password(text),
                    Some(_) => exposure::is_written_secret(key, text),
                    None => false,
                };
                if is_secret {
                    self.report.holds_secret();
                }
                self.text(text, &span, schema);
            }
            (DeValue::Boolean(_), "boolean") => {}
            (DeValue::Integer(number), "integer") => self.integer(number, &span),
            (DeValue::Array(values), "array") => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                for (index, value) in values.iter_mut().enumerate() {
                    self.value(value, &format!("{key}[{index}]"), items, reference.and_then(first));
                }
            }
            (DeValue::Table(table), "object") => {
                let mut inner = Spanned::new(span, std::mem::take(table));
                self.table(&mut inner, key, schema, reference);
                *table = inner.into_inner();
            }
            (given, expected) => {
                let (message, remedy) = wrong_type(schema, expected, key);
                self.report.refuse(&span, message, remedy);
                *given = empty(schema);
                if let DeValue::Table(_) = given {
                    // The keys of the table that should stand here are filled in.
                    self.value(value, key, schema, reference);
                }
            }
        }
    }

    /// What stands for a key that is not in the file: nothing, what the reference gives, or, where
    /// it has to be written, a fault and an empty value.
    fn left_out<'i>(
        &mut self,
        table: &Range<usize>,
        key: &str,
        required: Required,
        schema: &Value,
        reference: Option<&DeValue<'i>>,
    ) -> Option<Spanned<DeValue<'i>>> {
        if required == Required::Yes {
            let span = self.report.absent(table, key);
            let name = key.rsplit('.').next().unwrap_or(key);
            if self.report.is_refused(table) {
                self.report.silence(&span);
            } else {
                self.report.refuse(&span, "missing", format!("add {name} = {}", example(schema)));
            }
            return Some(Spanned::new(span, empty(schema)));
        }
        let reference = reference?;
        let is_section =
            is_section(schema) || schema.get("items").is_some_and(|items| type_of(items) == "object");
        if is_section {
            return None;
        }
        let span = self.report.absent(table, key);
        let value = match reference {
            DeValue::Table(_) => DeValue::Table(DeTable::new()),
            other => placed(other, &span),
        };
        Some(Spanned::new(span, value))
    }

    fn text(&mut self, text: &mut Cow<'_, str>, span: &Range<usize>, schema: &Value) {
        let (message, remedy) = match expand(text, self.environment) {
            Ok(expanded) => {
                *text = Cow::Owned(expanded);
                return self.choice(text, span, schema);
            }
            Err(ExpandError::Missing(name)) => (
                format!("the environment variable {name} is not set"),
                format!("set it, or give a default: ${{{name}:-default}}"),
            ),
            Err(ExpandError::Malformed) => (
                "${ is not followed by a name and }".to_owned(),
                "write ${NAME} or ${NAME:-default}".to_owned(),
            ),
        };
        self.report.refuse(span, message, remedy);
        *text = Cow::Owned(choices(schema).next().unwrap_or_default().to_owned());
    }

    /// One of a few words, where the schema lists them.
    fn choice(&mut self, text: &mut Cow<'_, str>, span: &Range<usize>, schema: &Value) {
        let Some(first) = choices(schema).next() else { return };
        if choices(schema).any(|choice| choice == text.as_ref()) {
            return;
        }
        let listed = choices(schema).collect::<Vec<_>>().join(", ");
        let remedy = closest(text, choices(schema))
            .map_or_else(|| "write one of them".to_owned(), |choice| format!("did you mean {choice:?}?"));
        self.report.refuse(span, format!("must be one of {listed}"), remedy);
        *text = Cow::Owned(first.to_owned());
    }

    fn integer(&mut self, number: &mut DeInteger<'_>, span: &Range<usize>) {
        if i64::from_str_radix(number.as_str(), number.radix()).is_err() {
            self.report.refuse(span, "is too large", "write a smaller number");
            *number = DeInteger::default();
        }
    }

    fn unknown_key(&mut self, name: &Spanned<Cow<'_, str>>, table: &str, known: &Map<String, Value>) {
        let listed = || known.keys().map(String::as_str);
        let remedy = closest(name.get_ref(), listed()).map_or_else(
            || format!("remove it; known here: {}", listed().collect::<Vec<_>>().join(", ")),
            |key| format!("did you mean {key}?"),
        );
        self.report.fault_at(name.span().start, join(table, name.get_ref()), "unknown key", remedy);
    }
}

/// Whether a key has to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Required {
    Yes,
    No,
}

fn is_required(schema: &Value, name: &str) -> Required {
    let list = schema.get("required").and_then(Value::as_array);
    if list.is_some_and(|list| list.iter().any(|key| key == name)) { Required::Yes } else { Required::No }
}

/// Whether a table is there only where it is written.
fn is_section(schema: &Value) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

fn join(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}

fn type_of(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The branch of a schema that fits a value's type; the first where none does.
fn branch<'s>(schema: &'s Value, value: &DeValue<'_>) -> &'s Value {
    let Some(branches) = schema.get("anyOf").and_then(Value::as_array) else { return schema };
    let given = match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Boolean(_) => "boolean",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
        DeValue::Float(_) | DeValue::Datetime(_) => "",
    };
    branches.iter().find(|branch| type_of(branch) == given).or(branches.first()).unwrap_or(schema)
}

fn choices(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn empty<'i>(schema: &Value) -> DeValue<'i> {
    let schema = schema.pointer("/anyOf/0").unwrap_or(schema);
    match type_of(schema) {
        "integer" => DeValue::Integer(DeInteger::default()),
        "boolean" => DeValue::Boolean(false),
        "array" => DeValue::Array(DeArray::new()),
        "object" => DeValue::Table(DeTable::new()),
        _ => DeValue::String(Cow::Owned(choices(schema).next().unwrap_or_default().to_owned())),
    }
}

/// A value of the reference whose place is `span`.
fn placed<'i>(value: &DeValue<'i>, span: &Range<usize>) -> DeValue<'i> {
    match value {
        DeValue::Array(values) => DeValue::Array(
            values.iter().map(|value| Spanned::new(span.clone(), placed(value.get_ref(), span))).collect(),
        ),
        other => other.clone(),
    }
}

fn wrong_type(schema: &Value, expected: &str, key: &str) -> (&'static str, String) {
    let is_list_of_tables = schema.get("items").is_some_and(|items| type_of(items) == "object");
    let message = match expected {
        "integer" => "must be a whole number",
        "boolean" => "must be true or false",
        "array" if is_list_of_tables => {
            let header: String = key.split('[').map(|part| part.rsplit(']').next().unwrap_or(part)).collect();
            return ("must be a list of tables", format!("write [[{header}]]"));
        }
        "array" => "must be a list",
        "object" => return ("must be a table", "write { key = value }, or a [table]".to_owned()),
        _ => "must be a text in quotes",
    };
    (message, format!("write one such as {}", example(schema)))
}

/// How a value looks: the default where there is one.
fn example(schema: &Value) -> String {
    match (schema.get("default"), type_of(schema)) {
        (Some(default), _) => default.to_string(),
        (None, "array") => "[\"..\"]".to_owned(),
        (None, "integer") => "1".to_owned(),
        (None, "boolean") => "true".to_owned(),
        (None, _) => "\"..\"".to_owned(),
    }
}
