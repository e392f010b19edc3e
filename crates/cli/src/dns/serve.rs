//! The server: options, start and end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use ipnet::IpNet;
use nix::sys::signal::{SigSet, Signal};
use overlay_dns::server::access::Ranges;
use overlay_dns::server::authority::Authority;
use overlay_dns::server::{Config, RATE_LIMIT, Server, StartError, UDP_SIZE};
use overlay_dns::zone::Zones;

use super::follow::{self, Follower};
use crate::output::Failure;

/// Port of name servers.
const PORT: u16 = 53;

/// Options of the server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct Options {
    /// Address to answer on, over UDP and TCP, with an optional port (53): 10.0.0.1,
    /// 10.0.0.1:5353, [fd00::1]:53. Several of them with commas, or this option several times.
    /// Without it: all addresses of the host.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "MESOS_OVERLAY_DNS_LISTEN",
        value_delimiter = ','
    )]
    #[arg(value_parser = parse_listen, verbatim_doc_comment)]
    listen: Vec<SocketAddr>,
    /// Range of addresses that may ask. Several of them with commas, or this option several times.
    /// It replaces the default: private addresses, those of links, of this host, and 100.64.0.0/10.
    #[arg(
        long,
        value_name = "RANGE",
        env = "MESOS_OVERLAY_DNS_ALLOW",
        value_delimiter = ','
    )]
    #[arg(value_parser = parse_range, verbatim_doc_comment)]
    allow: Vec<IpNet>,
    /// Threads that answer on each address.
    #[arg(
        long,
        value_name = "NUMBER",
        env = "MESOS_OVERLAY_DNS_THREADS",
        default_value_t = 1
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Largest UDP message, in bytes.
    #[arg(long, value_name = "BYTES", env = "MESOS_OVERLAY_DNS_UDP_SIZE", default_value_t = UDP_SIZE)]
    #[arg(value_parser = clap::value_parser!(u16).range(512..=4096))]
    udp_size: u16,
    /// Answers a second to one address over UDP; above it, some questions are sent to TCP, and the
    /// others are not answered. 0: no limit. This host and clients with cookies have none.
    #[arg(long, value_name = "NUMBER", env = "MESOS_OVERLAY_DNS_RATE_LIMIT")]
    #[arg(default_value_t = RATE_LIMIT, verbatim_doc_comment)]
    rate_limit: u32,
}

impl Options {
    /// Returns the settings of the server.
    fn config(&self) -> Config {
        let everywhere = [
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT),
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT),
        ];
        let allowed = match self.allow.is_empty() {
            true => Ranges::default_allowed(),
            false => self.allow.iter().copied().collect(),
        };
        Config {
            listen: match self.listen.is_empty() {
                true => everywhere.to_vec(),
                false => self.listen.clone(),
            },
            threads: usize::from(self.threads),
            allowed,
            udp_size: self.udp_size,
            rate_limit: self.rate_limit,
            ..Config::default()
        }
    }
}

/// Runs the server until a signal ends it.
pub fn run(options: &Options, follow: follow::Settings) -> ExitCode {
    // All threads inherit the mask, so that the signals wait for the main thread.
    let ends: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    if let Err(error) = ends.thread_block() {
        eprintln!("error: cannot block signals: {error}");
        return ExitCode::FAILURE;
    }
    match serve(options, follow, &ends) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.0);
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options, follow: follow::Settings, ends: &SigSet) -> Result<(), Failure> {
    let authority = Arc::new(Authority::new(Zones::default()));
    let server = Server::start(&options.config(), Arc::clone(&authority));
    let server = server.map_err(|error| Failure(explain(&error)))?;
    let follower = Follower::start(follow, authority)?;
    for address in server.addresses() {
        log::info!("answering on {address}");
    }
    let signal = ends.wait();
    log::info!("ending: {}", signal.map_or("no signal", Signal::as_str));
    drop(server);
    drop(follower);
    Ok(())
}

/// Returns an error with the way out.
fn explain(error: &StartError) -> String {
    let StartError::Listen {
        address,
        error: kernel,
    } = error
    else {
        return error.to_string();
    };
    let remedy = match kernel.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "another program answers there (`ss -lnup sport = {}` names it); give addresses of \
             this host that are free with --listen",
            address.port()
        ),
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE".to_owned()
        }
        std::io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => return error.to_string(),
    };
    format!("{error}: {remedy}")
}

/// Reads an address with an optional port.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    parse_address(text, PORT)
}

/// Reads an address with an optional port.
fn parse_address(text: &str, port: u16) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = text
        .parse()
        .or_else(|_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)));
    address.map_err(|_| {
        format!("{text} is no address such as 10.0.0.1, 10.0.0.1:{port} or [fd00::1]:{port}")
    })
}

/// Reads a range, or one address.
fn parse_range(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text} is no range such as 10.0.0.0/8 or fd00::/8"))
}
