//! The JSON Schema of an inventory, generated from the types: for editors, and for `load`'s structural check.
//!
//! Three things differ from what the derive makes: `null` is nowhere allowed (an empty value is a slip, and would be
//! ignored silently), the keys of our own maps must be names, and 32-bit numbers have their upper end.

use serde_json::{Map, Value, json};

use crate::inventory::sections::Inventory;

/// Maps whose keys are names: definition (empty for the root), property, and the format of the keys.
const NAMED: [(&str, &str, &str); 7] = [
    ("", "servers", "seawall-name"),
    ("", "buckets", "seawall-name"),
    ("", "identities", "seawall-name"),
    ("", "alarms", "seawall-name"),
    ("Server", "jobs", "seawall-name"),
    ("Postgres", "roles", "seawall-sql-name"),
    ("Dumps", "tables", "seawall-sql-name"),
];

/// The schema (draft 2020-12). Formats named `seawall-…` are scalars of this program; other readers may ignore them.
pub fn schema() -> Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Inventory>()
        .to_value();
    tidy(&mut schema);
    schema["title"] = "Seawall inventory".into();
    for (definition, property, format) in NAMED {
        let pointer = if definition.is_empty() {
            format!("/properties/{property}")
        } else {
            format!("/$defs/{definition}/properties/{property}")
        };
        let map = schema.pointer_mut(&pointer).expect("the table names maps that exist");
        map["propertyNames"] = json!({ "format": format });
    }
    schema
}

/// Takes `null` out of types, alternatives and defaults, and bounds numbers.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            flatten_option(fields);
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            match fields.get_mut("default") {
                Some(Value::Null) => {
                    fields.remove("default");
                }
                Some(Value::Object(defaults)) => defaults.retain(|_, value| !value.is_null()),
                _ => {}
            }
            if fields.get("format").is_some_and(|format| format == "uint32") {
                fields.entry("maximum").or_insert(u32::MAX.into());
            }
            fields.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// `anyOf: [X, null]` becomes X.
fn flatten_option(fields: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = fields.get_mut("anyOf") else {
        return;
    };
    alternatives.retain(|alternative| alternative["type"] != "null");
    if let [Value::Object(only)] = alternatives.as_slice() {
        let only = only.clone();
        fields.remove("anyOf");
        for (key, value) in only {
            fields.entry(key).or_insert(value);
        }
    }
}
