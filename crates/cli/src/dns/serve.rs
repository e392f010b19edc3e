//! The server: start and end.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use nix::sys::signal::{SigSet, Signal};
use overlay_dns::publisher;
use overlay_dns::server::authority::Authority;
use overlay_dns::server::lookup::Facts;
use overlay_dns::server::{Server, StartError};

use super::facts::FollowerFacts;
use super::follow::{self, Follower};
use super::options::{self, SecondaryOptions, ServerOptions, UpstreamOptions};
use super::watchdog;
use crate::output::fail;

/// Exit status of a server that cannot start.
const NOT_STARTED: u8 = 1;

/// Options of the server.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    secondaries: SecondaryOptions,
    #[command(flatten)]
    upstream: UpstreamOptions,
}

/// Runs the server until a signal ends it.
pub fn run(options: &Options, names: follow::Settings) -> ExitCode {
    // All threads inherit the mask, so that the signals wait for the main thread.
    let ends: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    let served = ends
        .thread_block()
        .map_err(|error| format!("cannot block signals: {error}"))
        .and_then(|()| serve(options, names, &ends));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => fail(NOT_STARTED, &sentence),
    }
}

fn serve(options: &Options, mut names: follow::Settings, ends: &SigSet) -> Result<(), String> {
    let mut config = options::config(&options.server, &options.secondaries, &options.upstream)?;
    let facts = Arc::new(FollowerFacts::default());
    config.facts = Some(Arc::clone(&facts) as Arc<dyn Facts>);
    config.broken = watchdog::end;
    if names.zones.addresses.is_empty() {
        names.zones.addresses = addresses_of(&config.listen);
    }
    // Names are known to be own ones before their records are there.
    let unknown = publisher::unknown(&names.zones, SystemTime::now());
    let authority = Arc::new(Authority::new(unknown));
    let server = Server::start(&config, Arc::clone(&authority)).map_err(|error| explain(&error))?;
    let follower = Follower::start(names, authority).map_err(|error| error.0)?;
    facts.set(follower.source());
    for address in server.addresses() {
        log::info!("answering on {address}");
    }
    if let Some(address) = server.http() {
        log::info!("metrics and health at http://{address}");
    }
    let signal = ends.wait();
    log::info!("ending: {}", signal.map_or("no signal", Signal::as_str));
    drop(server);
    // The end of the follower writes the last known names.
    drop(follower);
    Ok(())
}

/// Returns the addresses that other hosts reach this server at, as far as the options name them.
fn addresses_of(listen: &[SocketAddr]) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in listen.iter().map(SocketAddr::ip) {
        let is_reached = !ip.is_unspecified() && !ip.is_loopback();
        if is_reached && !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_has_the_addresses_that_are_reached() {
        let listen: Vec<SocketAddr> = [
            "0.0.0.0:53",
            "[::]:53",
            "127.0.0.1:53",
            "10.0.0.1:53",
            "10.0.0.1:5353",
            "[fd00::1]:53",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let expected: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(addresses_of(&listen), expected);
    }
}
