//! Thread that looks for the masters and the ranges of the overlays.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use ipnet::IpNet;

use super::{Message, Status};
use crate::answers::{MasterState, OverlayInfo, Overlays};
use crate::connection::{AskError, ConnectionOptions, Http, candidates};
use crate::resolve;
use crate::this_host::ThisHost;

/// Interval at which the masters are looked for.
const INTERVAL: Duration = Duration::from_secs(5);
/// Number of intervals after which the overlays are asked for again.
const OVERLAYS: u32 = 6;

/// Looks for the masters until the program ends.
pub fn run(
    connection: &ConnectionOptions,
    http: &Http,
    status: &Status,
    table: &SyncSender<Message>,
    wake: &Receiver<()>,
) {
    let mut rounds = 0;
    loop {
        let leader = status.shown().leader;
        let found = candidates::find(connection, &ThisHost::look());
        let masters = found.map(|place| place.masters).unwrap_or_default();
        let ips: Vec<IpAddr> = masters.iter().filter_map(|master| ip_of(master)).collect();
        // While ZooKeeper does not answer, the masters are those that were known.
        if !ips.is_empty() && table.send(Message::Masters(ips)).is_err() {
            return;
        }
        if let Some(leader) = leader {
            if let Some(ip) = ip_of(&leader)
                && table.send(Message::Leader(ip)).is_err()
            {
                return;
            }
            if rounds % OVERLAYS == 0
                && let Ok(ranges) = overlays(http, &leader)
                && table.send(Message::Overlays(ranges)).is_err()
            {
                return;
            }
            rounds += 1;
        }
        match wake.recv_timeout(INTERVAL) {
            // Another master leads.
            Ok(()) => rounds = 0,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Returns the address of `host:port`.
fn ip_of(address: &str) -> Option<IpAddr> {
    let (host, _) = address.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    if let Ok(ip) = host.parse() {
        return Some(ip);
    }
    let found = resolve::addresses(host).ok()?;
    let ip = found.iter().find(|ip| ip.is_ipv4()).or(found.first());
    ip.copied()
}

/// Returns the ranges of all overlays. A Mesos without the overlay module has none.
///
/// # Errors
/// The master does not answer.
fn overlays(http: &Http, leader: &str) -> Result<Vec<IpNet>, AskError> {
    let infos: Vec<OverlayInfo> = match http.json::<Overlays>(leader, "/overlay-master/overlays") {
        Ok(answer) => answer
            .overlays
            .into_iter()
            .filter_map(|overlay| overlay.info)
            .collect(),
        // Modules of earlier releases.
        Err(AskError::Refused(404, _)) => {
            match http.json::<MasterState>(leader, "/overlay-master/state") {
                Ok(state) => state.network.overlays,
                Err(AskError::Refused(404, _)) => Vec::new(),
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    let ranges = infos
        .into_iter()
        .flat_map(|info| [info.subnet, info.subnet6]);
    let mut ranges: Vec<IpNet> = ranges.flatten().collect();
    ranges.sort();
    ranges.dedup();
    Ok(ranges)
}
