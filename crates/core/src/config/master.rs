//! Reads the file behind the master module's parameter `master_config`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::reader::{ConfigError, Object, Parsed, read};
use super::{
    AgentAddresses, AuthenticateHttp, MAX_OVERLAY_NAME, MasterConfig, Network, OverlayConfig,
    Range, ZkConfig, duration, path, zk,
};
use crate::host_api::desired::Mac;
use crate::proto;

const KEYS: &[&str] = &[
    "zk",
    "replicated_log_dir",
    "network",
    "replicated_log_timeout",
    "authenticate_http",
    "agent_addresses",
    "agent_lease",
];
const ZK_KEYS: &[&str] = &["url", "quorum", "session_timeout"];
const NETWORK_KEYS: &[&str] = &[
    "vtep_subnet",
    "vtep_mac_oui",
    "overlays",
    "vtep_subnet6",
    "vtep_mtu",
];
const OVERLAY_KEYS: &[&str] = &["name", "subnet", "prefix", "subnet6", "prefix6", "enabled"];

/// How long reading the log may take unless configured.
const REPLICATED_LOG_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Names that Docker gives to networks of its own.
const RESERVED_NAMES: [&str; 4] = ["host", "bridge", "default", "none"];

/// A VTEP's MAC ends in the low three bytes of its IPv4 address: in a longer range
/// than this two VTEPs could get the same.
const MIN_VTEP_PREFIX: u8 = 8;

/// IPv6 is off on a device with a smaller MTU (RFC 8200).
const MIN_IPV6_MTU: u32 = 1280;

/// Reads and checks `text`, the contents of `file`.
pub fn parse(file: &str, text: &str) -> Result<Parsed<MasterConfig>, ConfigError> {
    read(file, text, KEYS, |top| {
        Ok(MasterConfig {
            network: network(top)?,
            zk: zookeeper(top)?,
            replicated_log_dir: log_dir(top)?,
            replicated_log_timeout: top
                .parsed("replicated_log_timeout", duration::REMEDY, duration::parse)?
                .unwrap_or(REPLICATED_LOG_TIMEOUT),
            authenticate_http: AuthenticateHttp::read(top)?,
            agent_addresses: AgentAddresses::read(top)?,
            agent_lease: super::agent_admission::lease(top)?,
        })
    })
}

fn log_dir(top: &Object<'_>) -> Result<Option<PathBuf>, ConfigError> {
    let dir = path(top, "replicated_log_dir")?;
    if dir.is_none() {
        top.warn(
            "replicated_log_dir",
            "missing; what agents get is kept in memory only and lost at a restart",
        );
    }
    Ok(dir)
}

fn zookeeper(top: &Object<'_>) -> Result<Option<ZkConfig>, ConfigError> {
    let Some(object) = top.object("zk", ZK_KEYS)? else {
        return Ok(None);
    };
    let quorum = object.number("quorum", 1..=u32::MAX)?;
    let session_timeout = object.number("session_timeout", 1..=86_400)?;
    let Some(url) = object.string("url")? else {
        if quorum.is_none() {
            return Ok(None);
        }
        return Err(object.missing("url", zk::REMEDY));
    };
    zk::check(url).map_err(|what| {
        object.wrong_value(
            "url",
            &format!("\"{}\"", zk::redacted(url)),
            &what,
            zk::REMEDY,
        )
    })?;
    let remedy = "give the majority of the number of masters (2 of 3), \
                  or remove zk and set MESOS_ZK and MESOS_QUORUM in Mesos's environment";
    Ok(Some(ZkConfig {
        url: url.trim().to_owned(),
        quorum: quorum.ok_or_else(|| object.missing("quorum", remedy))?,
        session_timeout: session_timeout.map_or(zk::SESSION_TIMEOUT, |seconds| {
            Duration::from_secs(seconds.into())
        }),
    }))
}

fn network(top: &Object<'_>) -> Result<Network, ConfigError> {
    let object = top
        .object("network", NETWORK_KEYS)?
        .ok_or_else(|| top.missing("network", "give the networks of the cluster"))?;
    let vtep_subnet = vtep_subnet(&object)?;
    let vtep_subnet6 = vtep_subnet6(&object)?;
    let vtep_mtu = object.number("vtep_mtu", super::MTU)?;
    if vtep_subnet6.is_some() && vtep_mtu.is_some_and(|mtu| mtu < MIN_IPV6_MTU) {
        let remedy = format!("give at least {MIN_IPV6_MTU}, or remove vtep_subnet6");
        return Err(object.wrong("vtep_mtu", "is too small for IPv6", &remedy));
    }
    let objects = object.objects("overlays", OVERLAY_KEYS)?;
    let overlays = objects.iter().map(overlay).collect::<Result<Vec<_>, _>>()?;
    check_names(&objects, &overlays)?;
    check_overlaps(&object, vtep_subnet, vtep_subnet6, &objects, &overlays)?;
    if vtep_subnet6.is_none() {
        for (object, _) in objects
            .iter()
            .zip(&overlays)
            .filter(|(_, overlay)| overlay.v6.is_some())
        {
            object.warn(
                "subnet6",
                "works within a host only: network.vtep_subnet6 is missing",
            );
        }
    }
    Ok(Network {
        vtep_subnet,
        vtep_subnet6,
        vtep_mac_oui: vtep_mac_oui(&object)?,
        vtep_mtu,
        wire: wire_network(&object, vtep_mtu, &objects)?,
        overlays,
    })
}

/// An overlay as an operator defines it while the cluster runs, checked by itself:
/// whether it goes with the others is for the master to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// What it means.
    pub config: OverlayConfig,
    /// What the operator wrote.
    pub info: proto::OverlayInfo,
}

/// Reads a definition: an object as in `network.overlays`, called `name` unless that
/// is `None`; then it has to say its name itself. `what` stands for the file in an
/// error.
///
/// # Errors
/// What is wrong; unknown keys and keys given twice are, too.
pub fn parse_definition(what: &str, text: &str, name: Option<&str>) -> Result<Definition, String> {
    let parsed = read(what, text, OVERLAY_KEYS, |object| definition(object, name));
    let Parsed { config, warnings } = parsed.map_err(|error| error.to_string())?;
    // In a file these are warnings, and what is to be done is done.
    let warning = warnings.into_iter().next();
    warning.map_or(Ok(config), |text| {
        Err(text
            .replace(", ignored;", ";")
            .replace("; the last one counts", ""))
    })
}

fn definition(object: &Object<'_>, called: Option<&str>) -> Result<Definition, ConfigError> {
    let info = wire_overlay(object)?;
    let (v4, v6) = ranges(object)?;
    let name = match called {
        Some(called) if !object.has("name") => called.to_owned(),
        Some(called) if info.name != called => {
            let remedy = format!("an overlay keeps its name: write \"{called}\" or nothing");
            return Err(object.wrong("name", "is not the name in the path", &remedy));
        }
        _ => name(object)?,
    };
    let config = OverlayConfig {
        name: name.clone(),
        v4,
        v6,
        enabled: info.enabled(),
    };
    Ok(Definition {
        config,
        info: proto::OverlayInfo { name, ..info },
    })
}

/// Reads what the log has of an overlay, which was a [`Definition`] once.
///
/// # Errors
/// It is none, or not any more; why.
pub fn read_definition(info: &proto::OverlayInfo) -> Result<Definition, String> {
    let json = serde_json::json!({
        "name": info.name, "subnet": info.subnet, "prefix": info.prefix,
        "subnet6": info.subnet6, "prefix6": info.prefix6, "enabled": info.enabled,
    });
    let definition = parse_definition("replicated log", &json.to_string(), None)?;
    Ok(Definition {
        info: info.clone(),
        ..definition
    })
}

/// What the operator wrote, as endpoints show it and the log keeps it.
fn wire_network(
    object: &Object<'_>,
    vtep_mtu: Option<u32>,
    overlays: &[Object<'_>],
) -> Result<proto::NetworkConfig, ConfigError> {
    Ok(proto::NetworkConfig {
        vtep_subnet: text(object, "vtep_subnet")?.unwrap_or_default(),
        vtep_mac_oui: text(object, "vtep_mac_oui")?.unwrap_or_default(),
        overlays: overlays
            .iter()
            .map(wire_overlay)
            .collect::<Result<_, _>>()?,
        vtep_subnet6: text(object, "vtep_subnet6")?,
        vtep_mtu,
    })
}

fn wire_overlay(object: &Object<'_>) -> Result<proto::OverlayInfo, ConfigError> {
    Ok(proto::OverlayInfo {
        name: text(object, "name")?.unwrap_or_default(),
        subnet: text(object, "subnet")?,
        prefix: object.number("prefix", 0..=u32::MAX)?,
        subnet6: text(object, "subnet6")?,
        prefix6: object.number("prefix6", 0..=u32::MAX)?,
        enabled: object.boolean("enabled")?,
    })
}

fn text(object: &Object<'_>, key: &'static str) -> Result<Option<String>, ConfigError> {
    Ok(object.string(key)?.map(str::to_owned))
}

fn vtep_subnet(network: &Object<'_>) -> Result<Ipv4Net, ConfigError> {
    let example = "such as \"44.128.0.0/20\"";
    let net: Ipv4Net = range(network, "vtep_subnet", example)?.ok_or_else(|| {
        network.missing(
            "vtep_subnet",
            &format!("give the IPv4 range of the VTEPs, {example}"),
        )
    })?;
    if net.prefix_len() < MIN_VTEP_PREFIX {
        let what = "is so large that the MACs of the VTEPs would not be unique";
        let remedy = format!("give a prefix length of at least {MIN_VTEP_PREFIX}");
        return Err(network.wrong("vtep_subnet", what, &remedy));
    }
    check_room(network, "vtep_subnet", net.into())?;
    Ok(net)
}

fn vtep_subnet6(network: &Object<'_>) -> Result<Option<Ipv6Net>, ConfigError> {
    let Some(net) = range::<Ipv6Net>(network, "vtep_subnet6", "such as \"fd01:a::/64\"")? else {
        return Ok(None);
    };
    check_room(network, "vtep_subnet6", net.into())?;
    Ok(Some(net))
}

/// The first and the last address of a VTEP range are never used.
fn check_room(network: &Object<'_>, key: &'static str, net: IpNet) -> Result<(), ConfigError> {
    let longest = net.max_prefix_len() - 2;
    if net.prefix_len() <= longest {
        return Ok(());
    }
    let what = "has no address besides its first and last, which are not used";
    Err(network.wrong(
        key,
        what,
        &format!("give a prefix length of at most {longest}"),
    ))
}

fn vtep_mac_oui(network: &Object<'_>) -> Result<[u8; 3], ConfigError> {
    let remedy =
        "write the three bytes of the OUI and three zero bytes, such as \"70:B3:D5:00:00:00\"";
    let oui = network.parsed("vtep_mac_oui", remedy, |text| {
        let Mac([a, b, c, rest @ ..]) = text
            .parse()
            .map_err(|_| "is not a MAC address".to_owned())?;
        if rest != [0; 3] {
            return Err(
                "does not end in three zero bytes, which the VTEPs' addresses fill".to_owned(),
            );
        }
        if a & 1 != 0 {
            return Err("is a group address (the lowest bit of its first byte is set)".to_owned());
        }
        Ok([a, b, c])
    })?;
    oui.ok_or_else(|| network.missing("vtep_mac_oui", remedy))
}

fn overlay(object: &Object<'_>) -> Result<OverlayConfig, ConfigError> {
    let (v4, v6) = ranges(object)?;
    let name = name(object)?;
    Ok(OverlayConfig {
        name,
        v4,
        v6,
        enabled: object.boolean("enabled")?.unwrap_or(true),
    })
}

/// The ranges of an overlay: at least one.
fn ranges(object: &Object<'_>) -> Result<(Option<Range>, Option<Range>), ConfigError> {
    let v4 = overlay_range::<Ipv4Net>(object, "subnet", "prefix", "such as \"9.0.0.0/8\"")?;
    let v6 = overlay_range::<Ipv6Net>(object, "subnet6", "prefix6", "such as \"fd01:b::/64\"")?;
    if v4.is_none() && v6.is_none() {
        let remedy = "give subnet and prefix for IPv4, subnet6 and prefix6 for IPv6, or all four";
        return Err(object.missing("subnet", remedy));
    }
    Ok((v4, v6))
}

/// The name becomes part of the names of network devices, of a file, and of a
/// Docker network.
fn name(object: &Object<'_>) -> Result<String, ConfigError> {
    let remedy = format!(
        "give a name of 1 to {MAX_OVERLAY_NAME} letters, digits and _ . - that begins with a letter or digit"
    );
    let name = object.parsed("name", &remedy, |name| {
        if RESERVED_NAMES.contains(&name) {
            return Err("is a name that Docker keeps for itself".to_owned());
        }
        if name.chars().count() > MAX_OVERLAY_NAME {
            return Err(format!("has more than {MAX_OVERLAY_NAME} characters"));
        }
        if !is_overlay_name(name) {
            return Err("is not fit to be the name of network devices and files".to_owned());
        }
        Ok(name.to_owned())
    })?;
    name.ok_or_else(|| object.missing("name", &remedy))
}

/// Whether an overlay may be called so.
pub fn is_overlay_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    name.len() <= MAX_OVERLAY_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(fits)
        && !RESERVED_NAMES.contains(&name)
}

/// A network without bits behind its prefix.
fn range<N>(object: &Object<'_>, key: &'static str, example: &str) -> Result<Option<N>, ConfigError>
where
    N: Copy + Into<IpNet> + std::str::FromStr,
{
    let remedy = format!("write a network address and its prefix length, {example}");
    let net: Option<N> = object.parsed(key, &remedy, |text| {
        text.parse().map_err(|_| match text.parse::<IpNet>() {
            Ok(IpNet::V4(_)) => "is an IPv4 network, not an IPv6 one".to_owned(),
            Ok(IpNet::V6(_)) => "is an IPv6 network, not an IPv4 one".to_owned(),
            Err(_) => "is not a network".to_owned(),
        })
    })?;
    match net.map(Into::into) {
        Some(whole) if whole.addr() != whole.network() => {
            let what = "has bits set behind its prefix";
            Err(object.wrong(
                key,
                what,
                &format!("write \"{}\" if that is meant", whole.trunc()),
            ))
        }
        _ => Ok(net),
    }
}

/// A range and the prefix length of the subnets it is cut into.
fn overlay_range<N>(
    object: &Object<'_>,
    subnet: &'static str,
    prefix: &'static str,
    example: &str,
) -> Result<Option<Range>, ConfigError>
where
    N: Copy + Into<IpNet> + std::str::FromStr,
{
    let Some(net) = range::<N>(object, subnet, example)?.map(Into::into) else {
        if object.has(prefix) {
            let remedy =
                format!("give the range that is cut into subnets, {example}, or remove {prefix}");
            return Err(object.missing(subnet, &remedy));
        }
        return Ok(None);
    };
    // A subnet is split between two bridges.
    let longest = net.max_prefix_len() - 1;
    if net.prefix_len() > longest {
        let remedy = format!("give a prefix length of at most {longest}");
        return Err(object.wrong(subnet, "cannot be split between two bridges", &remedy));
    }
    let shortest = u32::from(net.prefix_len());
    let remedy =
        format!("give the prefix length of each agent's subnet, from {shortest} to {longest}");
    let Some(length) = object.number(prefix, 0..=u32::MAX)? else {
        return Err(object.missing(prefix, &remedy));
    };
    if length < shortest {
        return Err(object.wrong(prefix, &format!("is shorter than that of {net}"), &remedy));
    }
    match u8::try_from(length) {
        Ok(prefix) if prefix <= longest => Ok(Some(Range { net, prefix })),
        _ => Err(object.wrong(prefix, "leaves no two halves for the bridges", &remedy)),
    }
}

fn check_names(objects: &[Object<'_>], overlays: &[OverlayConfig]) -> Result<(), ConfigError> {
    for (index, (object, overlay)) in objects.iter().zip(overlays).enumerate() {
        if let Some(first) = overlays[..index]
            .iter()
            .position(|earlier| earlier.name == overlay.name)
        {
            let what = format!("is the name of network.overlays[{first}] already");
            return Err(object.wrong("name", &what, "give every overlay a name of its own"));
        }
    }
    Ok(())
}

/// One range of the file, and where it stands.
struct Place<'a> {
    object: &'a Object<'a>,
    key: &'static str,
    net: IpNet,
}

/// No two ranges may share an address. Sorted by their first address, ranges that
/// do so follow each other.
fn check_overlaps(
    network: &Object<'_>,
    vtep_subnet: Ipv4Net,
    vtep_subnet6: Option<Ipv6Net>,
    objects: &[Object<'_>],
    overlays: &[OverlayConfig],
) -> Result<(), ConfigError> {
    let mut places = vec![Place {
        object: network,
        key: "vtep_subnet",
        net: vtep_subnet.into(),
    }];
    places.extend(vtep_subnet6.map(|net| Place {
        object: network,
        key: "vtep_subnet6",
        net: net.into(),
    }));
    for (object, overlay) in objects.iter().zip(overlays) {
        places.extend(overlay.v4.map(|range| Place {
            object,
            key: "subnet",
            net: range.net,
        }));
        places.extend(overlay.v6.map(|range| Place {
            object,
            key: "subnet6",
            net: range.net,
        }));
    }
    // A stable sort keeps the file's order where two ranges are the same.
    places.sort_by_key(|place| (first(place.net), place.net.prefix_len()));
    for pair in places.windows(2) {
        let [outer, inner] = pair else { continue };
        if outer.net.contains(&inner.net) {
            let other = outer.object.path_of(outer.key);
            let what = format!("overlaps {other}, {}", outer.net);
            return Err(inner
                .object
                .wrong(inner.key, &what, "give ranges that share no address"));
        }
    }
    Ok(())
}

fn first(net: IpNet) -> IpAddr {
    net.network()
}

#[cfg(test)]
mod tests;
