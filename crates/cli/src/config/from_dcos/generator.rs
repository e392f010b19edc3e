//! What DC/OS's generator makes of `config.yaml`: keys, defaults and checks of `gen/calc.py`.

use serde_json::{Value, json};

use super::python;
use crate::config::yaml::{Data, Document, Mistake, Node};

/// Key of the networks.
pub const NETWORK: &str = "dcos_overlay_network";
/// Longest name of an overlay, in characters.
const MAX_NAME: usize = 13;

/// Reason why DC/OS's generator refuses a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Path of the value, such as `dcos_overlay_network.overlays[0].subnet`.
    pub field: String,
    /// What is wrong, continues a sentence that begins with the path.
    pub what: String,
}

/// Settings of the overlays.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The modules are loaded.
    pub is_enabled: bool,
    /// `network` of master.json.
    pub network: Value,
    /// `network_config.overlay_mtu` of agent.json.
    pub overlay_mtu: Value,
    /// `network_config.enable_ipv6` of agent.json.
    pub enable_ipv6: Value,
    /// `max_configuration_attempts` of agent.json.
    pub attempts: Value,
    /// `cni_data_dir` of agent.json.
    pub cni_data_dir: String,
    /// Ranges that DC/OS uses for something else: key and range.
    pub other_ranges: Vec<(String, String)>,
    /// All reasons to refuse the configuration.
    pub refusals: Vec<Refusal>,
    /// Values that were completed: path, before, after.
    pub expanded: Vec<(String, String, String)>,
    /// Key that the text of `dcos_overlay_network` has twice.
    pub repeated: Option<String>,
}

/// Reads the settings.
///
/// # Errors
/// A value has no meaning in JSON.
pub fn read(document: &Document) -> Result<Settings, Mistake> {
    let mut reader = Reader {
        root: &document.root,
        refusals: Vec::new(),
    };
    reader.check_values();
    let is_enabled = reader.choice("dcos_overlay_enable", "true");
    let ipv6 = reader.choice("enable_ipv6", "true");
    reader.check_ipv6_of_services(&ipv6);
    let overlay_mtu = reader.number("dcos_overlay_mtu", "1420", 552, None);
    let attempts = reader.number("dcos_overlay_config_attempts", "4", 0, Some(10));
    let (mut network, repeated) = reader.network()?;
    reader.check_network(&network);
    reader.check_default_name(&network);
    let other_ranges = reader.other_ranges(&network, &is_enabled);
    let expanded = expand_short_ranges(&mut network);
    if ipv6 == "false" {
        disable_without_ipv4(&mut network);
    }
    let cni_data_dir = reader.text("dcos_cni_data_dir", "/var/run/dcos/cni/networks");
    let _ = reader.choice("mesos_cni_root_dir_persist", "false");
    Ok(Settings {
        // Something else is a mistake, which is found then.
        is_enabled: is_enabled != "false",
        network,
        overlay_mtu,
        enable_ipv6: boolean(ipv6),
        attempts,
        cni_data_dir,
        other_ranges,
        refusals: reader.refusals,
        expanded,
        repeated,
    })
}

fn boolean(text: String) -> Value {
    match text.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => Value::String(text),
    }
}

/// Reader of the keys, which notes what the generator refuses.
struct Reader<'a> {
    root: &'a Node,
    refusals: Vec<Refusal>,
}

impl Reader<'_> {
    fn refuse(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.refusals.push(Refusal {
            field: field.into(),
            what: what.into(),
        });
    }

    /// Checks that all keys and values of the file have types that the generator takes.
    fn check_values(&mut self) {
        let Data::Map(entries) = &self.root.data else {
            return;
        };
        for (name, entry) in entries {
            if !matches!(entry.key.data, Data::Text(_)) {
                self.refuse(name, format!("is {}, not a name", entry.key.kind()));
            }
            let is_fine = matches!(
                entry.value.data,
                Data::Bool(_) | Data::Integer(_) | Data::Text(_) | Data::List(_) | Data::Map(_)
            );
            if !is_fine {
                let what = match &entry.value.data {
                    Data::Float(_) => "is a number with a fraction, which no key takes",
                    Data::Date => "is a date, which no key takes",
                    _ => "has no value",
                };
                self.refuse(name, what);
            }
        }
    }

    /// Returns the value of a key as the generator's text.
    fn text(&self, key: &str, default: &str) -> String {
        let Some(node) = self.root.get(key) else {
            return default.to_owned();
        };
        match &node.data {
            Data::Text(text) => text.clone(),
            Data::Bool(value) => value.to_string(),
            Data::Integer(value) => value.to_string(),
            Data::Null => default.to_owned(),
            Data::List(_) | Data::Map(_) => {
                node.json().map_or(String::new(), |json| json.to_string())
            }
            _ => node.plain.clone().unwrap_or_default(),
        }
    }

    /// Returns the text of a key that is `true` or `false`.
    fn choice(&mut self, key: &str, default: &str) -> String {
        let text = self.text(key, default);
        if !matches!(text.as_str(), "true" | "false") {
            self.refuse(key, format!("is neither true nor false: {text:?}"));
        }
        text
    }

    /// Returns the number of a key; its text if it is none.
    fn number(&mut self, key: &str, default: &str, least: i128, most: Option<i128>) -> Value {
        let text = self.text(key, default);
        let Some(number) = python::int(&text) else {
            self.refuse(key, format!("is not a whole number: {text:?}"));
            return Value::String(text);
        };
        match most {
            _ if number < least => self.refuse(key, format!("is less than {least}")),
            Some(most) if number > most => self.refuse(key, format!("is more than {most}")),
            _ => {}
        }
        // The modules refuse what has more bits.
        u64::try_from(number).map_or_else(|_| json!(number as f64), Value::from)
    }

    fn check_ipv6_of_services(&mut self, enable_ipv6: &str) {
        const KEY: &str = "dcos_l4lb_enable_ipv6";
        let services = self.choice(KEY, "true");
        if enable_ipv6 == "false" && services != "false" {
            self.refuse(KEY, "must be false, too, if enable_ipv6 is false");
        }
    }

    /// Returns the networks, and the key that their text has twice.
    fn network(&mut self) -> Result<(Value, Option<String>), Mistake> {
        let node = self.root.get(NETWORK).cloned();
        match node.as_ref().map(|node| &node.data) {
            None | Some(Data::Null) => Ok((default_network(), None)),
            Some(Data::Text(text)) => match serde_json::from_str(text) {
                Ok(network) => {
                    let repeated = overlay_core::config::repeated_key(text);
                    Ok((network, repeated))
                }
                Err(error) => {
                    self.refuse(NETWORK, format!("is a text that is not JSON: {error}"));
                    Ok((Value::String(text.clone()), None))
                }
            },
            Some(_) => {
                let json = node.map(|node| node.json()).transpose()?;
                Ok((json.unwrap_or_default(), None))
            }
        }
    }

    fn check_network(&mut self, network: &Value) {
        let path = |key: &str| format!("{NETWORK}.{key}");
        let Value::Object(map) = network else {
            return self.refuse(NETWORK, "is not a mapping");
        };
        match map.get("overlays") {
            None => self.refuse(path("overlays"), "is missing"),
            Some(Value::Array(overlays)) if !overlays.is_empty() => {
                for (index, overlay) in overlays.iter().enumerate() {
                    self.check_overlay(&path(&format!("overlays[{index}]")), overlay);
                }
            }
            Some(_) => self.refuse(path("overlays"), "has no overlay"),
        }
        if !map.contains_key("vtep_mac_oui") {
            self.refuse(path("vtep_mac_oui"), "is missing");
        }
        self.check_range(&path("vtep_subnet"), map.get("vtep_subnet"), true);
        self.check_range(&path("vtep_subnet6"), map.get("vtep_subnet6"), false);
        if let Some(mtu) = map.get("vtep_mtu") {
            match python::int_of(mtu) {
                None => self.refuse(path("vtep_mtu"), "is not a whole number"),
                Some(mtu) if mtu < 552 => self.refuse(path("vtep_mtu"), "is less than 552"),
                Some(_) => {}
            }
        }
    }

    fn check_overlay(&mut self, path: &str, overlay: &Value) {
        let Value::Object(map) = overlay else {
            return self.refuse(path, "is not a mapping");
        };
        let name = format!("{path}.name");
        let length = match map.get("name") {
            None => return self.refuse(name, "is missing"),
            // The generator asks for a length, which lists and mappings have, too.
            Some(Value::String(text)) => Some(text.chars().count()),
            Some(Value::Array(list)) => Some(list.len()),
            Some(Value::Object(map)) => Some(map.len()),
            Some(_) => None,
        };
        match length {
            None => self.refuse(name, "is not a text"),
            Some(length) if length > MAX_NAME => {
                self.refuse(name, format!("has more than {MAX_NAME} characters"));
            }
            Some(_) => {}
        }
        let (v4, v6) = (map.get("subnet"), map.get("subnet6"));
        if v4.is_none() && v6.is_none() {
            self.refuse(format!("{path}.subnet"), "is missing, and so is subnet6");
        }
        if v4.is_some() {
            self.check_range(&format!("{path}.subnet"), v4, true);
        }
        if v6.is_some() {
            self.check_range(&format!("{path}.subnet6"), v6, false);
        }
        let is_boolean = |value: &Value| {
            value.is_boolean()
                || value
                    .as_f64()
                    .is_some_and(|value| value == 0.0 || value == 1.0)
        };
        if map
            .get("enabled")
            .is_some_and(|enabled| !is_boolean(enabled))
        {
            self.refuse(format!("{path}.enabled"), "is neither true nor false");
        }
    }

    fn check_range(&mut self, path: &str, value: Option<&Value>, is_v4: bool) {
        let Some(value) = value else {
            return self.refuse(path, "is missing");
        };
        let net = python::ip_network(value);
        if net.is_none_or(|net| net.addr().is_ipv4() != is_v4) {
            let family = if is_v4 { "IPv4" } else { "IPv6" };
            self.refuse(path, format!("is not an {family} network: {value}"));
        }
    }

    fn check_default_name(&mut self, network: &Value) {
        const KEY: &str = "dcos_overlay_network_default_name";
        let name = self.text(KEY, "dcos");
        let overlays = network["overlays"].as_array();
        let is_there = overlays.is_some_and(|overlays| {
            let mut names = overlays.iter().map(|overlay| &overlay["name"]);
            names.any(|other| *other == name)
        });
        if !is_there {
            self.refuse(KEY, format!("names no overlay: {name:?}"));
        }
    }

    /// Returns the ranges that DC/OS uses itself, and checks them.
    fn other_ranges(&mut self, network: &Value, is_enabled: &str) -> Vec<(String, String)> {
        const UCR: &str = "dcos_ucr_default_bridge_subnet";
        const CALICO: &str = "calico_network_cidr";
        let calico = self.choice("calico_enabled", "true");
        let mut ranges = Vec::new();
        for (key, default) in [(UCR, "172.31.254.0/24"), (CALICO, "172.29.0.0/16")] {
            let text = self.text(key, default);
            self.check_range(key, Some(&json!(text)), true);
            if key == UCR || calico == "true" {
                ranges.push((key.to_owned(), text));
            }
        }
        let _ = self.number("calico_vxlan_port", "64000", 1025, Some(65535));
        let _ = self.number("calico_vxlan_vni", "4096", 1, Some(16_777_215));
        let calico_net = python::ip_network(&json!(self.text(CALICO, "172.29.0.0/16")));
        let overlays = network["overlays"].as_array().into_iter().flatten();
        for (index, overlay) in overlays.enumerate() {
            let net = python::ip_network(&overlay["subnet"]);
            if let (Some(net), Some(calico_net)) = (net, calico_net)
                && (calico == "true" && is_enabled == "true")
                && (net.contains(&calico_net) || calico_net.contains(&net))
            {
                let path = format!("{NETWORK}.overlays[{index}].subnet");
                self.refuse(path, format!("overlaps {CALICO}, {calico_net}"));
            }
        }
        ranges
    }
}

/// Returns the networks of a `config.yaml` without any.
fn default_network() -> Value {
    json!({
        "vtep_subnet": "44.128.0.0/20",
        "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [
            {"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24},
            {"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80},
        ],
    })
}

/// Turns overlays off that have no IPv4, as the generator does without IPv6.
fn disable_without_ipv4(network: &mut Value) {
    let overlays = network.get_mut("overlays").and_then(Value::as_array_mut);
    for overlay in overlays.into_iter().flatten() {
        if let Value::Object(map) = overlay
            && !map.contains_key("subnet")
        {
            map.insert("enabled".to_owned(), Value::Bool(false));
        }
    }
}

/// Completes IPv4 ranges such as `172.16/12`, which DC/OS 1.8 took. Returns path, before and after
/// of each.
fn expand_short_ranges(network: &mut Value) -> Vec<(String, String, String)> {
    let mut expanded = Vec::new();
    let mut expand = |path: String, value: Option<&mut Value>| {
        if let Some(value) = value
            && let Some(full) = value.as_str().and_then(full_range)
        {
            let short = value.as_str().unwrap_or_default().to_owned();
            *value = Value::String(full.clone());
            expanded.push((path, short, full));
        }
    };
    expand(
        format!("{NETWORK}.vtep_subnet"),
        network.get_mut("vtep_subnet"),
    );
    let overlays = network.get_mut("overlays").and_then(Value::as_array_mut);
    for (index, overlay) in overlays.into_iter().flatten().enumerate() {
        let path = format!("{NETWORK}.overlays[{index}].subnet");
        expand(path, overlay.get_mut("subnet"));
    }
    expanded
}

/// Returns the full form of a range with one to three parts before its prefix length.
fn full_range(short: &str) -> Option<String> {
    let (address, prefix) = short.split_once('/')?;
    let parts: Vec<&str> = address.split('.').collect();
    let is_part = |part: &&str| {
        part.parse::<u8>()
            .is_ok_and(|number| number.to_string() == **part)
    };
    if parts.len() >= 4 || !parts.iter().all(is_part) || prefix.parse::<u8>().is_err() {
        return None;
    }
    Some(format!(
        "{address}{}/{prefix}",
        ".0".repeat(4 - parts.len())
    ))
}
