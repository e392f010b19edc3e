//! Content of a CNI configuration. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Bridge, Cni, Desired, Overlay};
use overlay_core::host_api::usage::Containerizer;
use overlay_core::util::family::Family;
use overlay_core::util::line::one_line;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// Plugin that Mesos calls. It comes with Mesos, maps the container's ports and has the
/// `delegate` do everything else.
const PLUGIN: &str = "mesos-cni-port-mapper";

/// Longest text of somebody else's file that is shown, in characters.
const MAX_SHOWN: usize = 100;

/// Content of the file. Names and order of the fields are those of the files that existing
/// clusters have.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    name: &'a str,
    r#type: &'a str,
    exclude_devices: [&'a str; 1],
    chain: String,
    delegate: Delegate<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delegate<'a> {
    r#type: &'a str,
    bridge: &'a str,
    is_gateway: bool,
    ip_masq: bool,
    hairpin_mode: bool,
    mtu: u32,
    ipam: Ipam<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ipam<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<&'a Path>,
    subnet: String,
    /// Range sets besides `subnet`, which is the first: the one of the other family.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<[Range; 1]>,
    routes: Vec<Destination<'a>>,
}

/// Range of a range set. A container gets one address from each range set.
#[derive(Serialize)]
struct Range {
    subnet: String,
}

#[derive(Serialize)]
struct Destination<'a> {
    dst: &'a str,
}

/// Returns the content of an overlay's file; `None`: the overlay has no bridge with a prefix
/// for Mesos's containers, and so no file. `max_mtu` is the largest MTU that fits into the
/// underlay.
///
/// The file has no `cniVersion`, so that version 0.1.0 applies: Mesos 1.11 reads no addresses of
/// results newer than 0.2.0. The old result has room for one address of each family, which
/// the plugins take from two range sets as with newer versions.
pub(crate) fn content(
    name: &str,
    overlay: &Overlay,
    cni: &Cni,
    max_mtu: Option<u32>,
) -> Option<Vec<u8>> {
    let bridge = overlay.mesos_bridge.as_ref()?;
    let config = Config {
        name,
        r#type: PLUGIN,
        exclude_devices: [&bridge.name],
        // Name of an iptables chain, in upper case as is usual there.
        chain: bridge.name.to_uppercase(),
        delegate: Delegate {
            r#type: "bridge",
            bridge: &bridge.name,
            is_gateway: true,
            ip_masq: false,
            hairpin_mode: true,
            mtu: overlay.mtu.min(max_mtu.unwrap_or(u32::MAX)),
            ipam: ipam(bridge, cni)?,
        },
    };
    // Only a path that is not UTF-8 could fail, and no JSON configuration contains one.
    let mut text = serde_json::to_vec(&config).ok()?;
    text.push(b'\n');
    Some(text)
}

/// Returns the configuration of the addresses; `None`: the bridge has no prefix.
fn ipam<'a>(bridge: &Bridge, cni: &'a Cni) -> Option<Ipam<'a>> {
    // IPv4 comes first: a file with IPv4 only is the one that clusters always had.
    let subnets: Vec<IpNet> = Family::BOTH
        .into_iter()
        .filter_map(|family| family.find(&bridge.subnets))
        .collect();
    let routes = subnets.iter().map(|subnet| Destination {
        dst: Family::from(*subnet).pick("0.0.0.0/0", "::/0"),
    });
    let (first, others) = subnets.split_first()?;
    let range = |subnet: &IpNet| Range {
        subnet: subnet.to_string(),
    };
    Some(Ipam {
        r#type: "host-local",
        data_dir: cni.data_dir.as_deref(),
        subnet: first.to_string(),
        ranges: others.iter().map(|subnet| [range(subnet)]).collect(),
        routes: routes.collect(),
    })
}

/// Returns the files of all overlays, by overlay. `max_mtu` is the largest MTU that fits into
/// the underlay, if it is known.
pub(crate) fn wanted(desired: &Desired, max_mtu: Option<u32>) -> BTreeMap<&str, Vec<u8>> {
    let overlays = desired.overlays.iter();
    let max_mtu = max_mtu.filter(|_| desired.fit_mtu);
    overlays
        .filter_map(|(name, overlay)| {
            let content = content(name, overlay, &desired.cni, max_mtu)?;
            Some((name.as_str(), content))
        })
        .collect()
}

/// Returns whether this module or its predecessor wrote a file: it has our plugin, and our
/// name of the bridge under the overlay's name. (The bridge of an operator's own
/// configuration with the same plugin has another name.)
pub(super) fn is_ours(overlay: &str, content: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Found {
        name: String,
        r#type: String,
        delegate: FoundDelegate,
    }
    #[derive(Deserialize)]
    struct FoundDelegate {
        bridge: String,
    }
    serde_json::from_slice::<Found>(content).is_ok_and(|found| {
        found.r#type == PLUGIN
            && found.name == overlay
            && found.delegate.bridge == Containerizer::Mesos.bridge_name(overlay)
    })
}

/// Network that a CNI configuration defines, as far as it is recognised.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct DefinedNetwork {
    /// Name, by which containers choose it.
    pub(crate) name: String,
    /// Plugin; `None`: a list of plugins.
    pub(crate) r#type: Option<String>,
    plugins: Option<Vec<IgnoredAny>>,
}

/// Returns the network that a file defines; `None`: Mesos would skip the file as well.
pub(crate) fn defined_network(content: &[u8]) -> Option<DefinedNetwork> {
    let network: DefinedNetwork = serde_json::from_slice(content).ok()?;
    let is_complete = network.r#type.is_some() || network.plugins.is_some();
    is_complete.then_some(network)
}

impl std::fmt::Display for DefinedNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = one_line(&self.name, MAX_SHOWN);
        write!(f, "network \"{name}\"")?;
        match &self.r#type {
            Some(plugin) => write!(f, " of type \"{}\"", one_line(plugin, MAX_SHOWN)),
            None => f.write_str(" with a list of plugins"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;

    fn overlay_with(subnets: &[&str]) -> Overlay {
        let subnets = subnets
            .iter()
            .map(|subnet| subnet.parse().unwrap())
            .collect();
        let mesos_bridge = Some(Bridge {
            name: "m-dcos".into(),
            subnets,
        });
        Overlay {
            mesos_bridge,
            mtu: 1420,
            ..Overlay::default()
        }
    }

    pub(crate) fn overlay() -> Overlay {
        overlay_with(&["9.0.0.0/25"])
    }

    pub(crate) fn cni(data_dir: Option<&str>) -> Cni {
        Cni {
            dir: "/cni".into(),
            data_dir: data_dir.map(PathBuf::from),
            file_prefix: String::new(),
        }
    }

    #[test]
    fn the_file_is_the_one_existing_clusters_have() {
        let text = content(
            "dcos",
            &overlay(),
            &cni(Some("/var/run/dcos/cni/networks")),
            None,
        )
        .unwrap();
        let expected = concat!(
            r#"{"name":"dcos","type":"mesos-cni-port-mapper","excludeDevices":["m-dcos"],"chain":"M-DCOS","#,
            r#""delegate":{"type":"bridge","bridge":"m-dcos","isGateway":true,"ipMasq":false,"#,
            r#""hairpinMode":true,"mtu":1420,"ipam":{"type":"host-local","#,
            r#""dataDir":"/var/run/dcos/cni/networks","subnet":"9.0.0.0/25","#,
            r#""routes":[{"dst":"0.0.0.0/0"}]}}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn there_is_a_data_dir_only_when_configured() {
        let text =
            String::from_utf8(content("dcos", &overlay(), &cni(None), None).unwrap()).unwrap();
        assert!(
            text.contains(r#""ipam":{"type":"host-local","subnet":"#),
            "{text}"
        );
    }

    #[test]
    fn both_families_are_two_range_sets_and_ipv4_comes_first() {
        let both = overlay_with(&["fd01:b::/81", "9.0.0.0/25"]);
        let text = String::from_utf8(content("dcos", &both, &cni(None), None).unwrap()).unwrap();
        let ipam = concat!(
            r#""ipam":{"type":"host-local","subnet":"9.0.0.0/25","ranges":[[{"subnet":"fd01:b::/81"}]],"#,
            r#""routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}}"#,
            "\n"
        );
        assert!(text.ends_with(ipam), "{text}");
        assert!(
            !text.contains("cniVersion"),
            "Mesos 1.11 reads no addresses of newer results: {text}"
        );
    }

    #[test]
    fn an_overlay_with_ipv6_only_has_a_file_too() {
        let text = content("dcos", &overlay_with(&["fd01:b::/81"]), &cni(None), None).unwrap();
        let text = String::from_utf8(text).unwrap();
        let ipam = concat!(
            r#""ipam":{"type":"host-local","subnet":"fd01:b::/81","routes":[{"dst":"::/0"}]}}}"#,
            "\n"
        );
        assert!(text.ends_with(ipam), "{text}");
    }

    #[test]
    fn there_is_a_file_only_with_a_mesos_bridge_that_has_a_prefix() {
        assert_eq!(content("dcos", &overlay_with(&[]), &cni(None), None), None);
        assert_eq!(content("dcos", &Overlay::default(), &cni(None), None), None);
    }

    #[test]
    fn only_files_with_our_plugin_and_names_are_ours() {
        let text = content("dcos", &overlay(), &cni(None), None).unwrap();
        assert!(is_ours("dcos", &text));
        assert!(!is_ours("copy-of-dcos", &text), "a copy under another name");
        for foreign in [
            r#"{"name":"dcos","type":"bridge","bridge":"m-dcos"}"#,
            r#"{"name":"dcos","type":"mesos-cni-port-mapper","delegate":{"type":"bridge","bridge":"cni0"}}"#,
            r#"{"name":"dcos","type":"mesos-cni-port-mapper"}"#,
            "",
            "not JSON",
        ] {
            assert!(!is_ours("dcos", foreign.as_bytes()), "{foreign}");
        }
    }

    #[test]
    fn a_file_with_one_foreign_value_is_somebody_elses() {
        let text =
            String::from_utf8(content("dcos", &overlay(), &cni(None), None).unwrap()).unwrap();
        assert!(is_ours("dcos", text.as_bytes()));
        for (ours, theirs) in [
            (r#""name":"dcos""#, r#""name":"other""#),
            (r#""type":"mesos-cni-port-mapper""#, r#""type":"portmap""#),
            (r#""bridge":"m-dcos""#, r#""bridge":"m-lan""#),
            (r#""bridge":"m-dcos""#, r#""bridge":"d-dcos""#),
        ] {
            let changed = text.replace(ours, theirs);
            assert_ne!(changed, text);
            assert!(!is_ours("dcos", changed.as_bytes()), "{theirs}");
        }
    }

    #[test]
    fn an_mtu_that_is_not_configured_is_lowered_to_fit() {
        let desired = |fit_mtu| {
            let overlays = [
                ("dcos".to_owned(), overlay()),
                ("bare".to_owned(), Overlay::default()),
            ]
            .into();
            Desired {
                cni: cni(None),
                overlays,
                fit_mtu,
                ..Desired::default()
            }
        };
        let mtu = |fit_mtu, fits| {
            let desired = desired(fit_mtu);
            let wanted = wanted(&desired, fits);
            assert_eq!(wanted.keys().copied().collect::<Vec<_>>(), ["dcos"]);
            let value: serde_json::Value = serde_json::from_slice(&wanted["dcos"]).unwrap();
            value["delegate"]["mtu"].as_u64().unwrap()
        };
        for (fit_mtu, fits, expected) in [
            (true, Some(1419), 1419),
            (true, Some(1420), 1420),
            (true, Some(1421), 1420),
            (true, None, 1420),
            (false, Some(1350), 1420),
        ] {
            assert_eq!(mtu(fit_mtu, fits), expected, "{fit_mtu} {fits:?}");
        }
    }
}
