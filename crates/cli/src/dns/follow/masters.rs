//! Thread that looks for the masters and the ranges of the overlays.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use ipnet::IpNet;

use super::status::Shown;
use super::{Message, Status};
use crate::answers::{MasterState, OverlayInfo, Overlays};
use crate::connection::{AskError, ConnectionOptions, Http, candidates};
use crate::resolve;
use crate::this_host::ThisHost;

/// Interval at which the masters are looked for.
const INTERVAL: Duration = Duration::from_secs(5);
/// Number of intervals after which the overlays are asked for again.
const OVERLAYS: u32 = 6;
/// Number of intervals for which the overlays stay although the leading master says that it has none.
const WITHOUT: u32 = 120;
/// Headers of a call of the operator API.
const JSON: [(&str, &str); 1] = [("Accept", "application/json")];

/// Looks for the masters until the program ends.
pub fn run(
    connection: &ConnectionOptions,
    http: &Http,
    status: &Status,
    table: &SyncSender<Message>,
    wake: &Receiver<()>,
) {
    let mut asked = Asked::default();
    loop {
        let Shown {
            leader, leader_ip, ..
        } = status.shown();
        let (masters, is_zookeeper) = find(connection);
        if is_zookeeper && let (Some(first), Some(old)) = (masters.first(), &leader) {
            let is_other = is_other(first, old, leader_ip);
            status.change(|shown| {
                if shown.leader.as_ref() == Some(old) {
                    shown.replaced_by = is_other.then(|| first.clone());
                }
            });
        }
        let ips = masters.iter().filter_map(|master| ip_of(master));
        let ips: Vec<IpAddr> = ips.filter(|ip| is_public(*ip, leader_ip)).collect();
        // While ZooKeeper does not answer, the masters are those that were known.
        if !ips.is_empty() && table.send(Message::Masters(ips)).is_err() {
            return;
        }
        if let Some(leader) = leader
            && let Some(ranges) = asked.overlays(http, &leader)
            && table.send(Message::Overlays(ranges)).is_err()
        {
            return;
        }
        match wake.recv_timeout(INTERVAL) {
            // Another master leads.
            Ok(()) => asked.rounds = 0,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Returns the masters that can be found, and true if it is ZooKeeper that names them.
fn find(connection: &ConnectionOptions) -> (Vec<String>, bool) {
    let Ok(place) = candidates::named(connection, &ThisHost::look()) else {
        return (Vec::new(), false);
    };
    let found = place.resolve(connection);
    let masters = found.map(|place| place.masters).unwrap_or_default();
    (masters, place.is_zookeeper())
}

/// Returns true if one master (`host:port`) is another one than the leader that is followed, whose
/// address is known.
fn is_other(master: &str, leader: &str, leader_ip: Option<IpAddr>) -> bool {
    let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
    let ip = ip_of(master);
    let is_known = ip.is_some() && leader_ip.is_some();
    is_known && master != leader && (ip, port(master)) != (leader_ip, port(leader))
}

/// Questions for the overlays.
#[derive(Debug, Default)]
struct Asked {
    /// Rounds to the next one.
    rounds: u32,
    /// Rounds since a leader answered that it has none.
    without: u32,
}

impl Asked {
    /// Returns the ranges of the overlays if it is time to ask, and they are known then.
    fn overlays(&mut self, http: &Http, leader: &str) -> Option<Vec<IpNet>> {
        self.without += u32::from(self.without > 0);
        if self.rounds > 0 {
            self.rounds -= 1;
            return None;
        }
        // After a failure the next round asks again.
        let ranges = overlays(http, leader).ok()?;
        self.rounds = OVERLAYS - 1;
        self.without = match ranges.is_empty() {
            true => self.without.max(1),
            false => 0,
        };
        // One of the masters may have been started without the module by mistake.
        let is_sure = !ranges.is_empty() || self.without > WITHOUT;
        is_sure.then_some(ranges)
    }
}

/// Returns the address of the master that others reach it by: that in `host:port`, or else the one that
/// it tells itself.
pub fn address_of_leader(http: &Http, leader: &str) -> Option<IpAddr> {
    let host = leader.rsplit_once(':').map_or(leader, |(host, _)| host);
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    if literal.is_some_and(|ip| is_public(ip, None)) {
        return literal;
    }
    let told = told_address(http, leader);
    told.or_else(|| ip_of(leader))
        .filter(|ip| is_public(*ip, told))
}

/// Returns the address that a master tells of itself.
fn told_address(http: &Http, master: &str) -> Option<IpAddr> {
    let call = serde_json::json!({ "type": "GET_MASTER" });
    let answer = http
        .send("POST", master, "/api/v1", &JSON, Some(&call))
        .ok()?;
    let told: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let ip = &told["get_master"]["master_info"]["address"]["ip"];
    let ip: IpAddr = ip.as_str()?.parse().ok()?;
    Some(ip).filter(|ip| !ip.is_unspecified())
}

/// Returns true if others may find a master at this address. Those of the loopback are for clusters on
/// one host: the leading master must tell one of its own.
fn is_public(ip: IpAddr, leader: Option<IpAddr>) -> bool {
    let is_alone = leader.is_some_and(|leader| leader.is_loopback());
    !ip.is_unspecified() && (!ip.is_loopback() || is_alone)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_no_address_for_others() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (master, leader, expected) in [
            ("10.0.0.1", None, true),
            ("127.0.0.1", None, false),
            ("127.0.0.1", Some("10.0.0.1"), false),
            ("127.0.0.1", Some("127.0.0.1"), true),
            ("0.0.0.0", Some("127.0.0.1"), false),
            ("::1", Some("fd00::1"), false),
            ("fd00::1", None, true),
        ] {
            assert_eq!(is_public(ip(master), leader.map(ip)), expected, "{master}");
        }
    }

    #[test]
    fn one_master_can_have_two_names() {
        let ip = Some(IpAddr::from([10, 0, 0, 1]));
        for (master, leader, leader_ip, expected) in [
            ("10.0.0.1:5050", "10.0.0.1:5050", ip, false),
            ("10.0.0.1:5050", "master-1:5050", ip, false),
            ("10.0.0.1:5051", "master-1:5050", ip, true),
            ("10.0.0.2:5050", "10.0.0.1:5050", ip, true),
            ("10.0.0.2:5050", "master-1:5050", None, false),
        ] {
            assert_eq!(is_other(master, leader, leader_ip), expected, "{master}");
        }
    }
}
