//! Options of the server's socket side: addresses, access, transfers, upstream resolvers, limits.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use overlay_dns::server::access::Ranges;
use overlay_dns::server::engine::Keys;
use overlay_dns::server::forward::ForwardZone;
use overlay_dns::server::tcp::{Limits, TRANSFER_TIME};
use overlay_dns::server::{Config, RATE_LIMIT, UDP_SIZE, is_own, keys, resolv_conf};
use overlay_dns::zone::{DomainName, parse_name};

/// Port of name servers.
const PORT: u16 = 53;

/// Address of metrics and health where nothing is configured.
pub const HTTP: &str = "127.0.0.1:8053";

/// Word for the resolvers of this host.
const RESOLV_CONF: &str = "resolv.conf";

/// File with the resolvers of this host.
const RESOLV_CONF_FILE: &str = "/etc/resolv.conf";

/// Options of the server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerOptions {
    /// Address to answer on, over UDP and TCP, with an optional port (53): 10.0.0.1,
    /// 10.0.0.1:5353, [fd00::1]:53. Several of them with commas, or this option several times.
    /// Without it: all addresses of the host.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "MESOS_OVERLAY_DNS_LISTEN",
        value_delimiter = ','
    )]
    #[arg(value_parser = parse_server)]
    listen: Vec<SocketAddr>,
    /// Range of addresses that may ask, in addition to those of the reverse zones. Several of them
    /// with commas, or this option several times. It replaces the default: private addresses, those
    /// of links, of this host, and 100.64.0.0/10.
    #[arg(
        long,
        value_name = "RANGE",
        env = "MESOS_OVERLAY_DNS_ALLOW",
        value_delimiter = ','
    )]
    #[arg(value_parser = parse_range)]
    allow: Vec<IpNet>,
    /// Answers a second to one address over UDP; above it, some questions are sent to TCP, and the
    /// others are not answered. 0: no limit. This host, and clients with a cookie of this server,
    /// have none.
    #[arg(long, value_name = "NUMBER", env = "MESOS_OVERLAY_DNS_RATE_LIMIT")]
    #[arg(default_value_t = RATE_LIMIT)]
    rate_limit: u32,
    /// Threads that answer on each address over UDP.
    #[arg(
        long,
        value_name = "NUMBER",
        env = "MESOS_OVERLAY_DNS_THREADS",
        default_value_t = 1
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Largest UDP message, in bytes.
    #[arg(long, value_name = "BYTES", env = "MESOS_OVERLAY_DNS_UDP_SIZE")]
    #[arg(default_value_t = UDP_SIZE, value_parser = clap::value_parser!(u16).range(512..=4096))]
    udp_size: u16,
    /// TCP connections at once; one address has at most a tenth of them.
    #[arg(long, value_name = "NUMBER", env = "MESOS_OVERLAY_DNS_TCP_CONNECTIONS")]
    #[arg(default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    tcp_connections: u32,
    /// Time that a TCP connection without questions stays open, in seconds.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "MESOS_OVERLAY_DNS_TCP_IDLE",
        default_value_t = 10
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    tcp_idle: u64,
    /// Address of metrics and health, over HTTP, or "off".
    #[arg(long, value_name = "ADDRESS", env = "MESOS_OVERLAY_DNS_HTTP", default_value = HTTP)]
    #[arg(value_parser = parse_http)]
    http: HttpAddress,
}

/// Options for secondaries.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Secondaries")]
pub struct SecondaryOptions {
    /// Range of addresses that may have whole zones (AXFR, IXFR). Several of them with commas, or
    /// this option several times. Without it, and without --transfer-keys: nobody.
    #[arg(
        long,
        value_name = "RANGE",
        env = "MESOS_OVERLAY_DNS_TRANSFER",
        value_delimiter = ','
    )]
    #[arg(value_parser = parse_range)]
    transfer: Vec<IpNet>,
    /// File with keys (TSIG) with which one may have whole zones from any address. A line is
    /// ALGORITHM:NAME:SECRET, as in dig's option -y.
    #[arg(long, value_name = "FILE", env = "MESOS_OVERLAY_DNS_TRANSFER_KEYS")]
    transfer_keys: Option<PathBuf>,
    /// Secondary that is told of every change (NOTIFY), with an optional port (53). Several of them
    /// with commas, or this option several times.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "MESOS_OVERLAY_DNS_NOTIFY",
        value_delimiter = ','
    )]
    #[arg(value_parser = parse_server)]
    notify: Vec<SocketAddr>,
}

/// Options for upstream resolvers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Other names")]
pub struct UpstreamOptions {
    /// Resolver that is asked for names which are in no zone, with an optional port (53), or
    /// "resolv.conf" for those of /etc/resolv.conf. Several of them with commas, or this option
    /// several times. Without it, questions for other names are refused.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "MESOS_OVERLAY_DNS_UPSTREAM",
        value_delimiter = ','
    )]
    #[arg(value_parser = parse_upstream)]
    upstream: Vec<Upstream>,
    /// Resolver for the names of one other zone, such as mesos=10.0.0.1:8053. Several of them with
    /// commas, or this option several times.
    #[arg(long, value_name = "ZONE=ADDRESS", env = "MESOS_OVERLAY_DNS_FORWARD")]
    #[arg(value_delimiter = ',', value_parser = parse_forward)]
    forward: Vec<ForwardZone>,
}

/// Address of metrics and health.
#[derive(Clone, Copy, Debug)]
struct HttpAddress(Option<SocketAddr>);

/// An upstream resolver.
#[derive(Clone, Copy, Debug)]
enum Upstream {
    /// Address.
    Resolver(SocketAddr),
    /// Servers of this host.
    OfHost,
}

/// Returns the settings of the server.
///
/// # Errors
/// A file cannot be read; the sentence names it.
pub fn config(
    server: &ServerOptions,
    secondaries: &SecondaryOptions,
    upstream: &UpstreamOptions,
) -> Result<Config, String> {
    let listen = match server.listen.is_empty() {
        true => everywhere(),
        false => server.listen.clone(),
    };
    let allowed = match server.allow.is_empty() {
        true => Ranges::default_allowed(),
        false => server.allow.iter().copied().collect(),
    };
    let connections = server.tcp_connections as usize;
    Ok(Config {
        forward: forward(upstream, &listen)?,
        listen,
        threads: usize::from(server.threads),
        allowed,
        transfer: secondaries.transfer.iter().copied().collect(),
        keys: read_keys(secondaries.transfer_keys.as_deref())?,
        udp_size: server.udp_size,
        rate_limit: server.rate_limit,
        tcp: Limits {
            connections,
            per_client: connections / 10,
            idle: Duration::from_secs(server.tcp_idle),
            transfer: TRANSFER_TIME,
        },
        notify: secondaries.notify.clone(),
        http: server.http.0,
        ..Config::default()
    })
}

/// Returns the addresses that stand for all of this host, which can be without IPv6.
fn everywhere() -> Vec<SocketAddr> {
    let mut addresses = vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT)];
    if Path::new("/proc/net/if_inet6").exists() {
        addresses.push(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT));
    }
    addresses
}

fn read_keys(path: Option<&Path>) -> Result<Keys, String> {
    let Some(path) = path else {
        return Ok(Keys::default());
    };
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read the keys {}: {error}", path.display()))?;
    keys::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns the upstream resolvers. Of those of the host, this server itself is left out.
fn forward(options: &UpstreamOptions, listen: &[SocketAddr]) -> Result<Vec<ForwardZone>, String> {
    let mut resolvers = Vec::new();
    for upstream in &options.upstream {
        match upstream {
            Upstream::Resolver(address) => resolvers.push(*address),
            Upstream::OfHost => {
                let text = fs::read_to_string(RESOLV_CONF_FILE)
                    .map_err(|error| format!("cannot read {RESOLV_CONF_FILE}: {error}"))?;
                let others = others(&text, listen);
                if others.is_empty() {
                    return Err(format!(
                        "{RESOLV_CONF_FILE} names no resolver but this server; give addresses \
                         with --upstream"
                    ));
                }
                resolvers.extend(others);
            }
        }
    }
    let mut zones = options.forward.clone();
    if !resolvers.is_empty() {
        zones.push(ForwardZone {
            zone: root()?,
            resolvers,
        });
    }
    Ok(zones)
}

/// Returns the resolvers in a text in the form of `resolv.conf` that are not a server which listens on
/// these addresses.
fn others(text: &str, listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut found = resolv_conf::parse(text);
    found.retain(|resolver| !is_own(listen, *resolver));
    found
}

fn root() -> Result<DomainName, String> {
    parse_name(".").map_err(|error| error.to_string())
}

/// Reads an address with an optional port.
fn parse_server(text: &str) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = text
        .parse()
        .or_else(|_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)));
    address
        .map_err(|_| format!("{text} is no address such as 10.0.0.1, 10.0.0.1:53 or [fd00::1]:53"))
}

/// Reads a range, or one address.
fn parse_range(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text} is no range such as 10.0.0.0/8 or fd00::/8"))
}

fn parse_http(text: &str) -> Result<HttpAddress, String> {
    if text == "off" {
        return Ok(HttpAddress(None));
    }
    let address = text.parse().map_err(|_| {
        format!("{text} is neither an address with a port, such as {HTTP}, nor \"off\"")
    })?;
    Ok(HttpAddress(Some(address)))
}

fn parse_upstream(text: &str) -> Result<Upstream, String> {
    match text {
        RESOLV_CONF => Ok(Upstream::OfHost),
        _ => parse_server(text).map(Upstream::Resolver),
    }
}

fn parse_forward(text: &str) -> Result<ForwardZone, String> {
    let (zone, resolver) = text
        .split_once('=')
        .ok_or_else(|| format!("{text} is not in the form ZONE=ADDRESS"))?;
    Ok(ForwardZone {
        zone: parse_name(zone).map_err(|error| format!("{zone} is no name: {error}"))?,
        resolvers: vec![parse_server(resolver)?],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_port_of_name_servers() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:53"),
            ("10.0.0.1:5353", "10.0.0.1:5353"),
            ("fd00::1", "[fd00::1]:53"),
            ("[fd00::1]", "[fd00::1]:53"),
            ("[fd00::1]:5353", "[fd00::1]:5353"),
        ] {
            assert_eq!(parse_server(text).unwrap().to_string(), expected);
        }
        for text in ["", "host", "10.0.0.1:", "10.0.0.1:99999", "10.0.0"] {
            assert!(parse_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn resolvers_of_the_host_are_others_than_this_server() {
        let text = "nameserver 127.0.0.7\nnameserver 203.0.113.1\nnameserver 203.0.113.2\n";
        for (listen, expected) in [
            // The loopback is this host's, and 203.0.113.0/24 is nobody's.
            ("0.0.0.0:53", vec!["203.0.113.1:53", "203.0.113.2:53"]),
            ("203.0.113.1:53", vec!["127.0.0.7:53", "203.0.113.2:53"]),
            (
                "0.0.0.0:5353",
                vec!["127.0.0.7:53", "203.0.113.1:53", "203.0.113.2:53"],
            ),
        ] {
            let found = others(text, &[listen.parse().unwrap()]);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{listen}");
        }
    }

    #[test]
    fn other_forms_are_refused_with_an_example() {
        assert!(
            parse_range("10.0.0.0/33")
                .unwrap_err()
                .contains("10.0.0.0/8")
        );
        assert!(
            parse_forward("10.0.0.1")
                .unwrap_err()
                .contains("ZONE=ADDRESS")
        );
        assert!(parse_forward("a..b=10.0.0.1").unwrap_err().contains("a..b"));
        assert!(parse_http("127.0.0.1").unwrap_err().contains(HTTP));
        assert!(parse_http("off").unwrap().0.is_none());
    }
}
