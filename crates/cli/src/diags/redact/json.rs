//! Places of secrets in JSON.

use serde_json::{Map, Value};

use super::MARK;
use super::patterns::{is_harmless, is_secret};

/// Parameters of modules that are no secrets: names of files.
const KNOWN_PARAMETERS: [&str; 2] = ["master_config", "agent_config"];

/// Removes secrets from a document. Returns the number of places.
pub fn remove(value: &mut Value) -> usize {
    match value {
        Value::Object(map) => from_map(map),
        Value::Array(values) => values.iter_mut().map(remove).sum(),
        Value::String(text) => from_string(text),
        _ => 0,
    }
}

fn from_map(map: &mut Map<String, Value>) -> usize {
    let mut count = 0;
    let is_named_secret = ["key", "name", "Key", "Name"]
        .iter()
        .any(|key| map.get(*key).and_then(Value::as_str).is_some_and(is_secret));
    for (key, value) in map.iter_mut() {
        let is_parameters = key == "parameters" && value.is_array();
        let is_value = is_named_secret && key.eq_ignore_ascii_case("value");
        if is_parameters {
            let parameters = value.as_array_mut().into_iter().flatten();
            count += parameters.map(from_parameter).sum::<usize>();
        }
        count += match is_value || is_secret(key) {
            true => hide(key, value),
            false => remove(value),
        };
    }
    count
}

/// Removes the value of a module's parameter.
fn from_parameter(parameter: &mut Value) -> usize {
    let key = parameter["key"].as_str().unwrap_or_default();
    if KNOWN_PARAMETERS.contains(&key) {
        return 0;
    }
    parameter
        .get_mut("value")
        .map_or(0, |value| hide("", value))
}

/// Replaces a value, unless it is no secret.
fn hide(key: &str, value: &mut Value) -> usize {
    let is_plain = match value {
        Value::String(text) => is_harmless(key, text),
        Value::Null | Value::Bool(_) => true,
        _ => false,
    };
    if is_plain {
        return 0;
    }
    *value = MARK.into();
    1
}

/// Removes secrets from a string that is JSON in itself. A string that begins like JSON and cannot
/// be parsed is removed, since its keys are not known. What a text has is removed afterwards, from
/// the whole document.
fn from_string(text: &mut String) -> usize {
    let inner = text.trim_start();
    if !inner.starts_with(['{', '[']) {
        return 0;
    }
    let Ok(mut value) = serde_json::from_str::<Value>(inner) else {
        // Lists of ports, and addresses of IPv6 with a port, have brackets, too.
        if inner.starts_with('[') && !inner.contains(['"', '\'', '{']) {
            return 0;
        }
        MARK.clone_into(text);
        return 1;
    };
    let count = remove(&mut value);
    *text = value.to_string();
    count
}
