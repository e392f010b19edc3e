//! Reads the file that the master module's parameter `master_config` names.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::authentication::{self, Authentication};
use super::error::ConfigError;
use super::overlay::{self, Definition, Draft, parse_net};
use super::reader::{Field, Invalid, Object, Parsed, Reported, Strictness, read};
use super::{
    AgentAddresses, AuthenticateHttp, MasterConfig, Network, NetworkTexts, ZkConfig,
    agent_admission, dns_domain, duration, path, zk,
};
use crate::host_api::desired::Mac;
use crate::util::special_purpose;

const KEYS: &[&str] = &[
    "zk",
    "replicated_log_dir",
    "network",
    "replicated_log_timeout",
    "authenticate_http",
    "agent_addresses",
    "agent_lease",
    "agent_confirmation",
    "dns_domain",
    authentication::KEYS[0],
    authentication::KEYS[1],
];
const ZK_KEYS: &[&str] = &["url", "quorum", "session_timeout"];
const NETWORK_KEYS: &[&str] = &[
    "vtep_subnet",
    "vtep_mac_oui",
    "overlays",
    "vtep_subnet6",
    "vtep_mtu",
];

/// Default of `replicated_log_timeout`.
const REPLICATED_LOG_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Shortest prefix of the VTEPs' IPv4 range. The MAC address of a VTEP ends in the low three
/// bytes of its IPv4 address, so two VTEPs of a larger range could get the same.
const MIN_VTEP_PREFIX: u8 = 8;

/// Smallest MTU of a device with IPv6, in bytes (RFC 8200).
const MIN_IPV6_MTU: u32 = 1280;

/// Reads and checks `text`, the contents of `file`.
///
/// # Errors
/// All mistakes in the file.
pub fn parse(file: &str, text: &str) -> Result<Parsed<MasterConfig>, ConfigError> {
    read(file, text, KEYS, Strictness::Lenient, |top| {
        let network = network(top);
        let zk = zookeeper(top);
        let replicated_log_dir = log_dir(top);
        let replicated_log_timeout =
            top.parsed("replicated_log_timeout", duration::REMEDY, duration::parse);
        let authenticate_http = AuthenticateHttp::read(top);
        let authentication = Authentication::read_for_master(top);
        let agent_addresses = AgentAddresses::read(top);
        let agent_lease = agent_admission::lease(top);
        let dns_domain = dns_domain::read(top);
        Ok(MasterConfig {
            network: network?,
            zk: zk?,
            replicated_log_dir: replicated_log_dir?,
            replicated_log_timeout: replicated_log_timeout?.unwrap_or(REPLICATED_LOG_TIMEOUT),
            authenticate_http: authenticate_http?,
            authentication: authentication?,
            agent_addresses: agent_addresses?,
            agent_lease: agent_lease?,
            dns_domain: dns_domain?,
        })
    })
}

fn log_dir(top: &Object<'_>) -> Field<PathBuf> {
    let dir = path(top, "replicated_log_dir")?;
    if dir.is_none() {
        top.warn(
            "replicated_log_dir",
            "missing; the allocations are kept in memory only and lost at a restart",
        );
    }
    Ok(dir)
}

fn zookeeper(top: &Object<'_>) -> Field<ZkConfig> {
    let Some(object) = top.object("zk", ZK_KEYS)? else {
        return Ok(None);
    };
    let quorum = object.number("quorum", 1..=u32::MAX);
    let session_timeout = object.number("session_timeout", 1..=86_400);
    let url = zookeeper_url(&object);
    if (url, quorum) == (Ok(None), Ok(None)) {
        return session_timeout.map(|_| None);
    }
    let quorum_remedy = "give the majority of the number of masters (2 of 3), \
                         or remove zk and set MESOS_ZK and MESOS_QUORUM in Mesos's environment";
    let url = url.and_then(|url| url.ok_or_else(|| object.missing("url", zk::REMEDY)));
    let quorum =
        quorum.and_then(|quorum| quorum.ok_or_else(|| object.missing("quorum", quorum_remedy)));
    Ok(Some(ZkConfig {
        url: url?.to_owned(),
        quorum: quorum?,
        session_timeout: session_timeout?.map_or(zk::SESSION_TIMEOUT, |seconds| {
            Duration::from_secs(seconds.into())
        }),
    }))
}

fn zookeeper_url<'a>(object: &Object<'a>) -> Field<&'a str> {
    const KEY: &str = "url";
    let Some(url) = object.string(KEY)? else {
        return Ok(None);
    };
    zk::check(url).map(|()| Some(url.trim())).map_err(|what| {
        let shown = format!("\"{}\"", zk::redacted(url));
        object.wrong_value(KEY, &shown, &what, zk::REMEDY)
    })
}

fn network(top: &Object<'_>) -> Result<Network, Reported> {
    let object = top
        .object("network", NETWORK_KEYS)?
        .ok_or_else(|| top.missing("network", "give the networks of the cluster"))?;
    let vtep_subnet = vtep_subnet(&object);
    let vtep_subnet6 = vtep_subnet6(&object);
    let vtep_mac_oui = vtep_mac_oui(&object);
    let vtep_mtu = vtep_mtu(&object, vtep_subnet6);
    let objects = object.objects("overlays", overlay::KEYS);
    let overlays: Vec<Draft> = objects.iter().map(Definition::read).collect();
    check_names(&objects, &overlays);
    check_overlaps(places(
        &object,
        vtep_subnet,
        vtep_subnet6,
        &objects,
        &overlays,
    ));
    if vtep_subnet6 == Ok(None) {
        warn_of_local_ipv6(&objects, &overlays);
    }
    let overlays: Result<Vec<_>, _> = overlays.into_iter().map(Draft::complete).collect();
    Ok(Network {
        vtep_subnet: vtep_subnet?,
        vtep_subnet6: vtep_subnet6?,
        vtep_mac_oui: vtep_mac_oui?,
        vtep_mtu: vtep_mtu?,
        texts: NetworkTexts {
            vtep_subnet: text(&object, "vtep_subnet")?.unwrap_or_default(),
            vtep_subnet6: text(&object, "vtep_subnet6")?,
            vtep_mac_oui: text(&object, "vtep_mac_oui")?.unwrap_or_default(),
        },
        overlays: overlays?,
    })
}

fn text(object: &Object<'_>, key: &'static str) -> Field<String> {
    Ok(object.string(key)?.map(str::to_owned))
}

fn warn_of_local_ipv6(objects: &[Object<'_>], overlays: &[Draft]) {
    for (object, overlay) in objects.iter().zip(overlays) {
        if matches!(overlay.values.v6, Ok(Some(_))) {
            object.warn(
                "subnet6",
                "works within a host only: network.vtep_subnet6 is missing",
            );
        }
    }
}

fn vtep_subnet(network: &Object<'_>) -> Result<Ipv4Net, Reported> {
    const KEY: &str = "vtep_subnet";
    let example = "such as \"44.128.0.0/20\"";
    let Some(text) = network.string(KEY)? else {
        let remedy = format!("give the IPv4 range of the VTEPs, {example}");
        return Err(network.missing(KEY, &remedy));
    };
    let check_mac_bits = |net: Ipv4Net| {
        if net.prefix_len() >= MIN_VTEP_PREFIX {
            return Ok(net);
        }
        Err(Invalid {
            what: "is so large that the MAC addresses of the VTEPs would not be unique".to_owned(),
            remedy: format!("give a prefix length of at least {MIN_VTEP_PREFIX}"),
        })
    };
    parse_net(text, example)
        .and_then(check_mac_bits)
        .and_then(check_size)
        .map_err(|Invalid { what, remedy }| network.wrong(KEY, &what, &remedy))
        .and_then(|net: Ipv4Net| check_vtep_use(network, KEY, net.into()).map(|()| net))
}

fn vtep_subnet6(network: &Object<'_>) -> Field<Ipv6Net> {
    const KEY: &str = "vtep_subnet6";
    let Some(text) = network.string(KEY)? else {
        return Ok(None);
    };
    parse_net::<Ipv6Net>(text, "such as \"fd01:a::/64\"")
        .and_then(check_size)
        .map_err(|Invalid { what, remedy }| network.wrong(KEY, &what, &remedy))
        .and_then(|net: Ipv6Net| check_vtep_use(network, KEY, net.into()).map(|()| Some(net)))
}

/// Checks that hosts can have addresses of a VTEP range. Agents refuse it otherwise.
fn check_vtep_use(network: &Object<'_>, key: &'static str, net: IpNet) -> Result<(), Reported> {
    let Some(special) = special_purpose::of_network(net) else {
        return Ok(());
    };
    let what = format!("overlaps {special}, so agents refuse it");
    network.useless(key, &what, "give a range that hosts can have")
}

/// Checks that a VTEP range has more than its first and its last address, which are not used.
fn check_size<N: Copy + Into<IpNet>>(range: N) -> Result<N, Invalid> {
    let net: IpNet = range.into();
    let longest = net.max_prefix_len() - 2;
    if net.prefix_len() <= longest {
        return Ok(range);
    }
    Err(Invalid {
        what: "has no address besides its first and last, which are not used".to_owned(),
        remedy: format!("give a prefix length of at most {longest}"),
    })
}

fn vtep_mtu(network: &Object<'_>, vtep_subnet6: Field<Ipv6Net>) -> Field<u32> {
    const KEY: &str = "vtep_mtu";
    let mtu = super::mtu(network, KEY)?;
    if matches!(vtep_subnet6, Ok(Some(_))) && mtu.is_some_and(|mtu| mtu < MIN_IPV6_MTU) {
        let remedy = format!("give at least {MIN_IPV6_MTU}, or remove vtep_subnet6");
        return Err(network.wrong(KEY, "is too small for IPv6", &remedy));
    }
    Ok(mtu)
}

fn vtep_mac_oui(network: &Object<'_>) -> Result<[u8; 3], Reported> {
    let remedy =
        "write the three bytes of the OUI and three zero bytes, such as \"70:B3:D5:00:00:00\"";
    let oui = network.parsed("vtep_mac_oui", remedy, |text| {
        let Mac([a, b, c, rest @ ..]) = text
            .parse()
            .map_err(|_| "is not a MAC address".to_owned())?;
        if rest != [0; 3] {
            return Err(
                "does not end in three zero bytes, which the addresses of the VTEPs fill"
                    .to_owned(),
            );
        }
        if a & 1 != 0 {
            return Err("is a group address (the lowest bit of its first byte is set)".to_owned());
        }
        Ok([a, b, c])
    })?;
    oui.ok_or_else(|| network.missing("vtep_mac_oui", remedy))
}

/// Reports every overlay whose name an earlier one has.
fn check_names(objects: &[Object<'_>], overlays: &[Draft]) {
    for (index, (object, overlay)) in objects.iter().zip(overlays).enumerate() {
        let Ok(name) = &overlay.values.name else {
            continue;
        };
        let is_same = |earlier: &Draft| earlier.values.name.as_ref() == Ok(name);
        if let Some(first) = overlays[..index].iter().position(is_same) {
            let what = format!("is the name of {} already", objects[first].path());
            object.wrong("name", &what, "give every overlay a name of its own");
        }
    }
}

/// A range of the file and its key.
struct Place<'a> {
    object: &'a Object<'a>,
    key: &'static str,
    net: IpNet,
}

impl<'a> Place<'a> {
    fn new(object: &'a Object<'a>, key: &'static str, net: impl Into<IpNet>) -> Place<'a> {
        let net = net.into();
        Place { object, key, net }
    }
}

/// Returns the ranges without mistakes, in the order of the file.
fn places<'a>(
    network: &'a Object<'a>,
    vtep_subnet: Result<Ipv4Net, Reported>,
    vtep_subnet6: Field<Ipv6Net>,
    objects: &'a [Object<'a>],
    overlays: &[Draft],
) -> Vec<Place<'a>> {
    let v4 = vtep_subnet.map(|net| Place::new(network, "vtep_subnet", net));
    let v6 = vtep_subnet6.ok().flatten();
    let mut places: Vec<_> = v4.into_iter().collect();
    places.extend(v6.map(|net| Place::new(network, "vtep_subnet6", net)));
    for (object, overlay) in objects.iter().zip(overlays) {
        let values = &overlay.values;
        for (key, range) in [("subnet", values.v4), ("subnet6", values.v6)] {
            let range = range.ok().flatten();
            places.extend(range.map(|range| Place::new(object, key, range.net)));
        }
    }
    places
}

/// Reports every range that overlaps a larger one, or an earlier one of the same size.
fn check_overlaps(mut places: Vec<Place<'_>>) {
    // Two networks are disjoint or one contains the other. Sorted by the first address, the
    // outer one first, those in an outer network follow it. The sort is stable.
    places.sort_by_key(|place| (place.net.network(), place.net.prefix_len()));
    let mut places = places.into_iter();
    let Some(mut outer) = places.next() else {
        return;
    };
    for place in places {
        if outer.net.contains(&place.net) {
            let path = outer.object.path_of(outer.key);
            let what = format!("overlaps {path}, {}", outer.net);
            let remedy = "give ranges that share no address";
            place.object.wrong(place.key, &what, remedy);
        } else {
            outer = place;
        }
    }
}

#[cfg(test)]
mod tests;
