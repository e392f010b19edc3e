//! What the modules say of a configuration of DC/OS, and what else contradicts itself in it.

use ipnet::IpNet;
use overlay_core::config::{AgentConfig, ConfigError, MasterConfig, OVERLAY_MTU, Parsed};
use overlay_core::config::{agent, master};

use super::files::{self, Layout, Role};
use super::generator::{NETWORK, Settings};
use super::{place_of, python};
use crate::config::yaml::{Data, Document};
use crate::finding::{Finding, kinds::configuration};

/// Bytes that VXLAN adds to a packet on an IPv4 network.
const VXLAN: u32 = 50;
/// Smallest MTU of a device with IPv6, in bytes (RFC 8200).
const MIN_IPV6_MTU: u32 = 1280;

/// Result of the checks.
#[derive(Debug, Default)]
pub struct Checked {
    /// Findings, errors first.
    pub findings: Vec<Finding>,
    /// Paths of the values with errors.
    pub mistaken: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
    /// Configuration of the masters, if the module takes it.
    pub master: Option<MasterConfig>,
}

/// Checks settings. `file` is the name of `config.yaml` for findings.
pub fn check(settings: &Settings, document: &Document, file: &str, layout: Layout) -> Checked {
    let mut checks = Checks {
        document,
        file,
        checked: Checked::default(),
    };
    let master = files::master(settings, layout).content.to_string();
    let master = checks.take(master::parse("", &master));
    let agent = files::agent(settings, layout, Role::Agent)
        .content
        .to_string();
    let agent = checks.take(agent::parse("", &agent));
    if let (Some(master), Some(agent)) = (&master, &agent) {
        checks.check_mtus(master, agent);
        checks.check_bridges(master);
    }
    if let Some(master) = &master
        && layout == Layout::Dcos
    {
        checks.check_other_ranges(settings, master);
    }
    checks.repeated(settings);
    let mut checked = checks.checked;
    checked.findings.sort_by_key(|finding| finding.severity);
    checked.master = master;
    checked
}

struct Checks<'a> {
    document: &'a Document,
    file: &'a str,
    checked: Checked,
}

impl Checks<'_> {
    fn add(&mut self, path: &str, finding: Finding) {
        let place = place_of(self.document, path);
        self.checked.findings.push(match place {
            Some(mark) => finding.about(format_args!("{}:{}", self.file, mark.line)),
            None => finding.about(self.file),
        });
    }

    /// Takes what a module says of its file.
    fn take<T>(&mut self, parsed: Result<Parsed<T>, ConfigError>) -> Option<T> {
        match parsed {
            Ok(Parsed { config, warnings }) => {
                for warning in warnings {
                    self.warning(&warning);
                }
                Some(config)
            }
            Err(error) => {
                for mistake in error.mistakes() {
                    let path = key_of(&mistake.field);
                    let (problem, remedy) = match self.unquoted(&path) {
                        Some(problem) => (problem, "write it in quotes".to_owned()),
                        None => (key_of(&mistake.problem), mistake.remedy.clone()),
                    };
                    let message = format!("{path}: {problem}");
                    let kind = &configuration::INVALID;
                    self.add(&path, kind.finding(message, remedy));
                    self.checked.mistaken.push(path);
                }
                None
            }
        }
    }

    /// Takes a warning of a module, `: field: what; remedy`.
    fn warning(&mut self, line: &str) {
        let line = line.strip_prefix(": ").unwrap_or(line);
        let (field, text) = line.split_once(": ").unwrap_or(("", line));
        let path = key_of(field);
        let (what, remedy) = match text.rsplit_once("; ") {
            Some((what, remedy)) => (what, remedy.trim_end_matches('?')),
            None => (text, "correct it, or leave it if it is meant"),
        };
        let message = format!("{path}: {}", key_of(what));
        let kind = &configuration::DOUBTFUL;
        self.add(&path, kind.finding(message, remedy));
    }

    /// Returns what is wrong with a value that is no text, because YAML took it for something else.
    fn unquoted(&self, path: &str) -> Option<String> {
        const TEXTS: [&str; 5] = ["name", "subnet", "subnet6", "vtep_mac_oui", "vtep_subnet"];
        let key = path.rsplit('.').next()?;
        let node = super::node_of(self.document, path)?;
        let plain = node.plain.as_deref().filter(|plain| !plain.is_empty())?;
        let is_text = TEXTS.contains(&key) || key == "vtep_subnet6";
        if !is_text || matches!(node.data, Data::Text(_)) {
            return None;
        }
        let meaning = match (&node.data, node.json()) {
            (Data::Integer(_) | Data::Float(_), Ok(value)) => format!("the number {value}"),
            _ => node.kind().to_owned(),
        };
        Some(format!("{plain} without quotes is {meaning} in YAML 1.1"))
    }

    fn check_mtus(&mut self, master: &MasterConfig, agent: &AgentConfig) {
        const KEY: &str = "dcos_overlay_mtu";
        let mtu = agent.network.overlay_mtu.unwrap_or(OVERLAY_MTU);
        let contradiction = &configuration::MTU_CONTRADICTION;
        match master.network.vtep_mtu {
            Some(vtep) if mtu > vtep => {
                let message = format!(
                    "{KEY}: containers would send {mtu} bytes into a tunnel with an MTU of {vtep} ({NETWORK}.vtep_mtu)"
                );
                let remedy = format!("set {KEY} to at most {vtep}, or raise vtep_mtu");
                self.add(KEY, contradiction.finding(message, remedy));
            }
            vtep => {
                let largest = vtep.unwrap_or(mtu).max(mtu);
                if largest > 1500 - VXLAN {
                    self.checked.notes.push(format!(
                        "An MTU of {largest} in the tunnel needs {} on the networks between the hosts.",
                        largest + VXLAN
                    ));
                }
            }
        }
        let has_ipv6 = agent.network.enable_ipv6
            && (master.network.overlays.iter())
                .any(|overlay| overlay.config().enabled && overlay.config().v6.is_some());
        if has_ipv6 && mtu < MIN_IPV6_MTU {
            let message = format!("{KEY}: {mtu} is too small for IPv6, which overlays have");
            let remedy = format!("set {KEY} to at least {MIN_IPV6_MTU}, or enable_ipv6 to false");
            self.add(
                KEY,
                configuration::OVERLAY_UNUSABLE.finding(message, remedy),
            );
        }
    }

    /// Finds subnets that have no address left when they are divided between two bridges.
    fn check_bridges(&mut self, master: &MasterConfig) {
        for (index, overlay) in master.network.overlays.iter().enumerate() {
            let config = overlay.config();
            for (key, range) in [("prefix", config.v4), ("prefix6", config.v6)] {
                let Some(range) = range.filter(|_| config.enabled) else {
                    continue;
                };
                let longest = overlay_core::config::overlay::longest_useful_prefix(range.net) - 1;
                // Longer ones are found by the module itself.
                if range.prefix == longest + 1 {
                    let path = format!("{NETWORK}.overlays[{index}].{key}");
                    let message = format!(
                        "{path}: {} leaves no address for a container, because two bridges share it",
                        range.prefix
                    );
                    let remedy = format!("give a prefix length of at most {longest}");
                    self.add(&path, configuration::DOUBTFUL.finding(message, remedy));
                }
            }
        }
    }

    /// Finds overlays in ranges that DC/OS uses for something else.
    fn check_other_ranges(&mut self, settings: &Settings, master: &MasterConfig) {
        let mut ranges = master
            .network
            .vtep_ranges()
            .map(|net| ("vtep_subnet".to_owned(), net));
        let mut own: Vec<(String, IpNet)> = ranges.by_ref().collect();
        for (index, overlay) in master.network.overlays.iter().enumerate() {
            let nets = overlay.config().ranges().map(|range| range.net);
            own.extend(nets.map(|net| (format!("overlays[{index}].subnet"), net)));
        }
        for (key, range) in &settings.other_ranges {
            let Some(range) = python::ip_network(&range.as_str().into()) else {
                continue;
            };
            for (path, net) in &own {
                if net.contains(&range) || range.contains(net) {
                    let path = format!("{NETWORK}.{path}");
                    let message = format!("{path}: {net} overlaps {key}, {range}");
                    let remedy = format!("give another range, or set {key} to another one");
                    self.add(&path, configuration::DCOS_RANGE.finding(message, remedy));
                }
            }
        }
    }

    fn repeated(&mut self, settings: &Settings) {
        let kind = &configuration::DOUBTFUL;
        let remedy = "remove the other one";
        for repeated in &self.document.repeated {
            let key = &repeated.key;
            let message = format!("{key} is given twice, and the last one is used");
            let place = format!("{}:{}", self.file, repeated.mark.line);
            let finding = kind.finding(message, remedy).about(place);
            self.checked.findings.push(finding);
        }
        if let Some(path) = &settings.repeated {
            let message = format!("{NETWORK}.{path} is given twice, and the last one is used");
            self.add(NETWORK, kind.finding(message, remedy));
        }
    }
}

/// Returns the key of `config.yaml` for a field of the modules' files, in a path or sentence.
fn key_of(field: &str) -> String {
    let same = [
        ("network_config.overlay_mtu", "dcos_overlay_mtu"),
        ("network_config.enable_ipv6", "enable_ipv6"),
        ("max_configuration_attempts", "dcos_overlay_config_attempts"),
        ("cni_data_dir", "dcos_cni_data_dir"),
    ];
    for (own, key) in same {
        if field == own {
            return key.to_owned();
        }
    }
    match field.strip_prefix("network") {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => format!("{NETWORK}{rest}"),
        // A sentence names other fields.
        _ => field.replace(" network.", &format!(" {NETWORK}.")),
    }
}
