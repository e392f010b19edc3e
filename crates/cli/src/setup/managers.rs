//! Files that keep network managers away from the overlays' devices.

use std::collections::BTreeSet;
use std::path::Path;

use ipnet::IpNet;
use overlay_core::host_api::desired::ContainerTable;
use overlay_core::host_api::names::{DOCKER_BRIDGE_PREFIX, MESOS_BRIDGE_PREFIX, parse_bridge_name};
use overlay_host::survey::{self, NetworkDevice};

use super::PlaceOptions;
use super::answers::Answers;
use super::content::Plan;
use super::files::{Kind, Place, State};
use crate::finding::Finding;
use crate::finding::kinds::host;
use crate::output::Failure;

/// File for systemd-networkd, without its comments.
const NETWORKD: &str = include_str!("../../../../packaging/network/10-mesos-overlay.network");
/// File for NetworkManager.
const NETWORK_MANAGER: &str = include_str!("../../../../packaging/network/10-mesos-overlay.conf");

/// Bridges of this host that have names like those of overlays.
#[derive(Debug, Default)]
struct Bridges {
    /// Bridges of overlays.
    own: Vec<String>,
    /// Bridges of others.
    foreign: Vec<String>,
}

impl Bridges {
    /// Tells the bridges of overlays, whose addresses are in the ranges, from those of others.
    fn of(devices: &[NetworkDevice], ranges: &BTreeSet<IpNet>) -> Bridges {
        let in_range = |net: &IpNet| ranges.iter().any(|range| range.contains(&net.addr()));
        let mut bridges = Bridges::default();
        for device in devices {
            if device.kind != "bridge" || parse_bridge_name(&device.name).is_none() {
                continue;
            }
            match device.addresses.iter().any(in_range) {
                true => bridges.own.push(device.name.clone()),
                false => bridges.foreign.push(device.name.clone()),
            }
        }
        bridges
    }
}

/// Returns the files, where packages have not put them.
///
/// # Errors
/// The bridges of this host, or a file, cannot be read.
pub fn plan(answers: &Answers, options: &PlaceOptions) -> Result<Plan, Failure> {
    let bridges = match options.root == Path::new("/") {
        true => {
            let ranges = survey::ranges(ContainerTable::default()).unwrap_or_default();
            Bridges::of(&survey::devices()?, &ranges)
        }
        false => Bridges::default(),
    };
    plan_with(answers, options, &bridges)
}

fn plan_with(
    answers: &Answers,
    options: &PlaceOptions,
    bridges: &Bridges,
) -> Result<Plan, Failure> {
    let names = names(answers, bridges);
    let foreign = bridges.foreign.iter().filter(|name| !names.contains(name));
    let foreign: Vec<&String> = foreign.collect();
    if !foreign.is_empty() && answers.overlays.is_empty() {
        return Ok(Plan {
            places: Vec::new(),
            findings: foreign.into_iter().map(|name| finding(name)).collect(),
        });
    }
    let is_by_name = !foreign.is_empty();
    let mut plan = Plan::default();
    for (packaged, own, text) in [
        (
            "usr/lib/systemd/network/10-mesos-overlay.network",
            "/etc/systemd/network/10-mesos-overlay.network",
            networkd(&names, is_by_name),
        ),
        (
            "usr/lib/NetworkManager/conf.d/10-mesos-overlay.conf",
            "/etc/NetworkManager/conf.d/10-mesos-overlay.conf",
            network_manager(&names, is_by_name),
        ),
    ] {
        let place = Place {
            path: own.into(),
            kind: Kind::Text(text),
            mode: 0o644,
            remedy: "compare both: the names of the overlays' devices must be in it".to_owned(),
        };
        let is_packaged = options.root.join(packaged).exists();
        if !(is_packaged && !is_by_name && place.state(&options.root)? == State::Missing) {
            plan.places.push(place);
        }
    }
    Ok(plan)
}

fn networkd(names: &[String], is_by_name: bool) -> String {
    match is_by_name {
        true => NETWORKD.replace("vtep* m-* d-*", &names.join(" ")),
        false => NETWORKD.to_owned(),
    }
}

fn network_manager(names: &[String], is_by_name: bool) -> String {
    let all = "interface-name:vtep*;interface-name:m-*;interface-name:d-*";
    let names = names.iter().map(|name| format!("interface-name:{name}"));
    match is_by_name {
        true => NETWORK_MANAGER.replace(all, &names.collect::<Vec<_>>().join(";")),
        false => NETWORK_MANAGER.to_owned(),
    }
}

/// Returns the names of the overlays' devices, as far as they are known.
fn names(answers: &Answers, bridges: &Bridges) -> Vec<String> {
    let mut names = vec!["vtep1024".to_owned()];
    for overlay in &answers.overlays {
        let prefixes = [MESOS_BRIDGE_PREFIX, DOCKER_BRIDGE_PREFIX];
        names.extend(prefixes.map(|prefix| format!("{prefix}{}", overlay.name)));
    }
    for name in &bridges.own {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Returns the finding about a bridge that would lose its manager.
fn finding(bridge: &str) -> Finding {
    let message = "this bridge is not an overlay's, but has a name like one: it would be left unmanaged, so no files for network managers were made";
    let remedy = "give every network of the cluster with --overlay, so that the files name the overlays' devices one by one";
    host::FOREIGN_BRIDGE.finding(message, remedy).about(bridge)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Options;
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn bridge(name: &str, net: &str) -> NetworkDevice {
        NetworkDevice {
            index: 1,
            name: name.to_owned(),
            kind: "bridge".to_owned(),
            vxlan: None,
            mtu: 1500,
            is_up: true,
            is_loopback: false,
            addresses: [net.parse().unwrap()].into(),
        }
    }

    /// Returns the plan for an agent in an empty image.
    fn plan_of(arguments: &str, bridges: &Bridges) -> Plan {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().display().to_string();
        let line =
            format!("setup --role agent --yes --master 10.0.0.1:5050 --root {root} {arguments}");
        let options = Line::parse_from(line.split_whitespace()).options;
        let answers = Answers::find(&options).unwrap();
        plan_with(&answers, &options.places, bridges).unwrap()
    }

    #[test]
    fn bridges_of_others_stay_managed() {
        let ranges = ["9.0.0.0/8".parse().unwrap()].into();
        let devices = [
            bridge("m-dcos", "9.0.1.1/25"),
            bridge("d-lan", "192.168.1.1/24"),
            bridge("br0", "192.168.2.1/24"),
        ];
        let bridges = Bridges::of(&devices, &ranges);
        assert_eq!(bridges.own, ["m-dcos"]);
        assert_eq!(bridges.foreign, ["d-lan"]);
        let unknown = plan_of("", &bridges);
        assert!(unknown.places.is_empty(), "{:?}", unknown.places);
        assert_eq!(unknown.findings.len(), 1);
        assert_eq!(unknown.findings[0].code, "foreign-bridge");
        assert_eq!(unknown.findings[0].subject.as_deref(), Some("d-lan"));
        let named = plan_of("--overlay web=10.64.0.0/16/24", &bridges);
        assert!(named.findings.is_empty());
        let text = named.places[0].content().unwrap();
        assert!(
            text.contains("Name=vtep1024 m-web d-web m-dcos\n"),
            "{text}"
        );
        let text = named.places[1].content().unwrap();
        assert!(!text.contains('*'), "{text}");
        let usual = plan_of("", &Bridges::default());
        assert!(usual.places[0].content().unwrap().contains("m-* d-*"));
    }
}
