//! Variables in the environment of a task.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::network::Port;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Longest label that becomes a variable, in bytes.
const LONGEST: usize = 512;
/// Prefix of variables with labels.
const LABEL: &str = "MARATHON_APP_LABEL_";

/// Returns `PORT0`, `PORT_80`, `PORT_HTTP`, `PORT` and `PORTS` of an app.
///
/// The number is that on the host, if there is one, else that in the container. `PORT` and `PORTS`
/// have those of the host only. Marathon chooses at random what is 0 in the container and has none on the
/// host; here such ports have no variables.
pub fn ports(ports: &[Port], assigned: &[Option<u16>]) -> Variables {
    let mut all = Variables::new();
    if assigned.is_empty() {
        return all;
    }
    for (index, (port, assigned)) in ports.iter().zip(assigned).enumerate() {
        // Of `portDefinitions` the requested port is that on the host.
        let requested = port.container.or(port.host).unwrap_or(0);
        let Some(effective) = assigned.or((requested != 0).then_some(requested)) else {
            continue;
        };
        let requested = if requested == 0 { effective } else { requested };
        let number = effective.to_string();
        all.insert(format!("PORT{index}"), number.clone());
        all.insert(format!("PORT_{requested}"), number.clone());
        if let Some(name) = &port.name {
            all.insert(format!("PORT_{}", name.to_uppercase()), number);
        }
    }
    let on_host: Vec<String> = assigned.iter().flatten().map(u16::to_string).collect();
    if let Some(first) = on_host.first() {
        all.insert("PORT".into(), first.clone());
    }
    all.insert("PORTS".into(), on_host.join(","));
    all
}

/// Returns `ENDPOINT_HTTP`, `EP_HOST_HTTP` and `EP_CONTAINER_HTTP` of a pod's endpoints.
pub fn endpoints(ports: &[Port], assigned: &[Option<u16>], on_host: bool) -> Variables {
    let mut all = Variables::new();
    for (port, assigned) in ports.iter().zip(assigned) {
        let name = escaped(&port.name.clone().unwrap_or_default());
        let endpoint = if on_host { *assigned } else { port.container };
        for (prefix, number) in [
            ("ENDPOINT_", endpoint),
            ("EP_HOST_", *assigned),
            ("EP_CONTAINER_", port.container),
        ] {
            if let Some(number) = number {
                all.insert(format!("{prefix}{name}"), number.to_string());
            }
        }
    }
    all
}

/// Returns `MARATHON_APP_LABELS`, with the names of the labels, and a variable for each.
pub fn labels(labels: &Map<String, Value>) -> Variables {
    let mut all = Variables::new();
    let mut names = Vec::new();
    for (key, value) in labels {
        let value = value.as_str().unwrap_or_default();
        if key.len() < LONGEST - LABEL.len() && value.len() < LONGEST {
            let name = escaped(key);
            all.insert(format!("{LABEL}{name}"), value.to_owned());
            names.push(name);
        }
    }
    all.insert("MARATHON_APP_LABELS".into(), names.join(" "));
    all
}

/// Returns the variables of a definition's `env` that are texts.
pub fn given(env: &Value) -> Variables {
    let given = env.as_object().into_iter().flatten();
    let given = given.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    given.collect()
}

/// Returns variables as `Environment`.
pub fn environment(variables: &Variables) -> Value {
    let variables = variables
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }));
    json!({ "variables": variables.collect::<Vec<_>>() })
}

/// Returns a name in capital letters, with `_` for each run of other characters than letters, digits
/// and `_`.
fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    let mut in_run = false;
    for character in name.chars() {
        let kept = character.is_ascii_alphanumeric() || character == '_';
        if kept {
            escaped.push(character.to_ascii_uppercase());
        } else if !in_run {
            escaped.push('_');
        }
        in_run = !kept;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: Option<&str>, container: Option<u16>, host: Option<u16>) -> Port {
        Port {
            name: name.map(str::to_owned),
            container,
            host,
            protocols: vec!["tcp".into()],
            labels: Map::new(),
            networks: Vec::new(),
        }
    }

    fn text(variables: &Variables) -> String {
        let all: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        all.join(" ")
    }

    #[test]
    fn ports_are_numbered_and_named() {
        for (what, port, assigned, expected) in [
            (
                "a mapping with a port on the host",
                port(Some("http"), Some(80), Some(0)),
                Some(31000),
                "PORT=31000 PORT0=31000 PORTS=31000 PORT_80=31000 PORT_HTTP=31000",
            ),
            (
                "a mapping without one",
                port(Some("http"), Some(80), None),
                None,
                "PORT0=80 PORTS= PORT_80=80 PORT_HTTP=80",
            ),
            (
                "the same port in the container",
                port(None, Some(0), Some(0)),
                Some(31000),
                "PORT=31000 PORT0=31000 PORTS=31000 PORT_31000=31000",
            ),
            (
                "a definition on the network of the host",
                port(None, None, Some(0)),
                Some(31000),
                "PORT=31000 PORT0=31000 PORTS=31000 PORT_31000=31000",
            ),
        ] {
            assert_eq!(text(&ports(&[port], &[assigned])), expected, "{what}");
        }
        assert_eq!(text(&ports(&[], &[])), "");
    }

    #[test]
    fn endpoints_have_both_ports() {
        let ports = [port(Some("web-ui"), Some(80), Some(0))];
        assert_eq!(
            text(&endpoints(&ports, &[Some(31000)], false)),
            "ENDPOINT_WEB_UI=80 EP_CONTAINER_WEB_UI=80 EP_HOST_WEB_UI=31000"
        );
    }

    #[test]
    fn labels_are_escaped() {
        let given = json!({ "a.-b": "x", "long": "y".repeat(600) });
        assert_eq!(
            text(&labels(given.as_object().unwrap())),
            "MARATHON_APP_LABELS=A_B MARATHON_APP_LABEL_A_B=x"
        );
    }
}
