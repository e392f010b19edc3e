//! Causes of what is wrong with the paths to peers: one cause for each peer, and one finding for each cause.
//! Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use overlay_core::util::family::Family;
use overlay_host::reconcile::observed::Device;

use super::echo::Outcome;
use super::plan::{Column, Target};
use crate::answers::Agent;
use crate::finding::Finding;
use crate::finding::kinds::{cluster, path};
use crate::output::page::count;
use crate::paths::entries::{Fault, peer_fault};
use crate::paths::model::PORT;

#[cfg(test)]
mod tests;

/// Number of peers with the same cause from which on they share a finding.
const MANY: usize = 4;
/// Number of peers that a shared finding names.
const NAMED: usize = 3;

/// Results of one address of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The address.
    pub address: IpAddr,
    /// Source of the packets, if it is not the kernel's choice.
    pub source: Option<IpAddr>,
    /// Result with a small packet: the fastest answer if there is one.
    pub small: Outcome,
    /// Number of small packets.
    pub sent: u32,
    /// Number of answers to them.
    pub answered: u32,
    /// Size and result of a large packet; `None`: none was sent.
    pub large: Option<(u32, Outcome)>,
    /// Result with the tunnel's end as the source; `None`: not tried.
    pub from_vtep: Option<Outcome>,
}

impl Cell {
    /// Returns whether a small packet was answered.
    pub fn answers(&self) -> bool {
        self.small.time().is_some()
    }

    /// Returns whether small packets are answered and large ones are not.
    pub fn is_narrow(&self) -> bool {
        let fails = |(_, outcome): &(u32, Outcome)| outcome.time().is_none();
        self.answers() && self.large.as_ref().is_some_and(fails)
    }
}

/// Results of a peer, by column.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The peer.
    pub peer: &'a Agent,
    /// Results; `None`: the peer has no address in the column.
    pub cells: Vec<Option<Cell>>,
}

/// Facts about this host.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Agent on this host; `None`: there is none.
    pub own: Option<&'a Agent>,
    /// VXLAN device that is right itself; `None`: there is none, so that nothing is said of tunnels.
    pub device: Option<&'a Device>,
    /// Routing table of the containers.
    pub table: u32,
    /// True if the peers are the master's, and not those of the kernel.
    pub has_master: bool,
}

/// Reason why packets to a peer do not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// The master has lost the agent, if known so many seconds ago. Has whether its host answers.
    Lost(bool, Option<u64>),
    /// An entry of this host.
    Entry(Fault),
    /// No answer at all.
    HostSilent,
    /// No answer of the tunnel.
    Tunnel,
    /// No answer of addresses behind the tunnel, named by their devices.
    Gateway(Vec<(String, IpAddr)>),
    /// No answer to these sources.
    Return(Vec<IpAddr>),
    /// Large packets do not pass: where, size, and the MTU that the kernel knows.
    Mtu(Width, u32, Option<u32>),
    /// Some packets are lost: numbers of packets and answers.
    Loss(u32, u32),
    /// A container that was asked for does not answer. Has whether a host says so.
    Container(IpAddr, bool),
}

/// Part of the path that is too narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// Between the hosts.
    Underlay,
    /// In the tunnel; the hosts themselves do not answer.
    Unclear,
    /// In the tunnel, while it passes between the hosts.
    Tunnel,
}

/// Returns the findings about peers, and notes about what only looks wrong.
pub fn examine(
    rows: &[Row<'_>],
    columns: &[Column],
    here: &Here<'_>,
) -> (Vec<Finding>, Vec<String>) {
    let mut groups = BTreeMap::<u8, Vec<(&Agent, Cause)>>::new();
    for row in rows {
        if let Some(cause) = cause(row, columns, here) {
            groups
                .entry(cause.key())
                .or_default()
                .push((row.peer, cause));
        }
    }
    let mut findings = Vec::new();
    for group in groups.values() {
        match group.first() {
            Some((_, cause)) if group.len() >= MANY => {
                let peers: Vec<&Agent> = group.iter().map(|(peer, _)| *peer).collect();
                findings.push(cause.shared_finding(&peers, rows.len(), here));
            }
            _ => {
                let single = group.iter();
                findings.extend(single.map(|(peer, cause)| cause.finding(peer, here)));
            }
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    (findings, notes(rows, columns))
}

/// Returns notes about peers that answer only through the tunnel, or only there to large packets.
fn notes(rows: &[Row<'_>], columns: &[Column]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |is_meant: &dyn Fn(&Parts<'_>) -> bool, text: &str| {
        let meant = rows.iter().filter(|row| is_meant(&Parts::of(row, columns)));
        let names: Vec<&Agent> = meant.map(|row| row.peer).collect();
        if !names.is_empty() {
            let verb = if names.len() == 1 {
                "answers"
            } else {
                "answer"
            };
            notes.push(format!("{} {verb} {text}", list(&names)));
        }
    };
    note(
        &|parts| parts.underlay.is_some_and(|cell| !cell.answers()) && parts.tunnel_answers(),
        "through the tunnel and not directly: ICMP is filtered on the underlay, which is no fault",
    );
    note(
        &|parts| {
            let is_narrow = parts.underlay.is_some_and(Cell::is_narrow);
            is_narrow && parts.has_large() && !parts.tunnel.iter().any(|(_, cell)| cell.is_narrow())
        },
        "to large packets through the tunnel and not directly: packets of the tunnel are fragmented on the way, or large ICMP packets are filtered",
    );
    notes
}

/// Results of a peer by their part of the path.
struct Parts<'a> {
    underlay: Option<&'a Cell>,
    /// VTEP and gateways, with their columns.
    tunnel: Vec<(&'a Column, &'a Cell)>,
    address: Option<&'a Cell>,
}

impl<'a> Parts<'a> {
    fn of(row: &'a Row<'_>, columns: &'a [Column]) -> Parts<'a> {
        let mut parts = Parts {
            underlay: None,
            tunnel: Vec::new(),
            address: None,
        };
        for (column, cell) in columns.iter().zip(&row.cells) {
            let Some(cell) = cell else { continue };
            match column.target {
                Target::Underlay => parts.underlay = Some(cell),
                Target::Vtep | Target::Overlay(_) => parts.tunnel.push((column, cell)),
                Target::Address => parts.address = Some(cell),
            }
        }
        parts
    }

    fn tunnel_answers(&self) -> bool {
        self.tunnel.iter().any(|(_, cell)| cell.answers())
    }

    fn has_large(&self) -> bool {
        let mut large = self
            .tunnel
            .iter()
            .filter_map(|(_, cell)| cell.large.as_ref());
        large.any(|(_, outcome)| outcome.time().is_some())
    }

    fn all(&self) -> impl Iterator<Item = &'a Cell> {
        let tunnel = self.tunnel.iter().map(|(_, cell)| *cell);
        self.underlay.into_iter().chain(tunnel).chain(self.address)
    }
}

/// Returns what is wrong with the path to a peer.
fn cause(row: &Row<'_>, columns: &[Column], here: &Here<'_>) -> Option<Cause> {
    let parts = Parts::of(row, columns);
    if here.has_master && !row.peer.connected {
        let answers = parts.all().any(Cell::answers);
        return Some(Cause::Lost(answers, row.peer.since_seconds));
    }
    let fault = here
        .device
        .filter(|_| here.has_master && here.own.is_some())
        .and_then(|device| peer_fault(device, here.table, row.peer));
    if let Some(fault) = fault {
        return Some(Cause::Entry(fault));
    }
    let underlay_answers = parts.underlay.map(Cell::answers);
    if parts.tunnel.is_empty() {
        let is_silent =
            here.device.is_none() && here.own.is_none() && underlay_answers == Some(false);
        return is_silent.then_some(Cause::HostSilent);
    }
    if !parts.tunnel_answers() {
        return Some(match underlay_answers {
            Some(false) => Cause::HostSilent,
            _ => Cause::Tunnel,
        });
    }
    silent_address(&parts, row.peer)
        .or_else(|| too_narrow(&parts))
        .or_else(|| container(&parts))
        .or_else(|| loss(&parts))
}

/// Returns the cause if some addresses behind the tunnel do not answer.
fn silent_address(parts: &Parts<'_>, peer: &Agent) -> Option<Cause> {
    let silent = parts.tunnel.iter().filter(|(_, cell)| !cell.answers());
    let silent: Vec<_> = silent.collect();
    let answers_vtep = |cell: &Cell| cell.from_vtep.as_ref().is_some_and(|o| o.time().is_some());
    let back = silent.iter().filter(|(_, cell)| answers_vtep(cell));
    let back: Vec<IpAddr> = back.filter_map(|(_, cell)| cell.source).collect();
    if !back.is_empty() {
        return Some(Cause::Return(back));
    }
    let named = silent.iter().map(|(column, cell)| {
        let device = match &column.target {
            Target::Overlay(name) => peer
                .gateway(name, column.family)
                .map(|gateway| gateway.bridge.to_owned()),
            _ => peer.vxlan().map(|vxlan| vxlan.vtep_name.clone()),
        };
        (device.unwrap_or_default(), cell.address)
    });
    let named: Vec<(String, IpAddr)> = named.collect();
    (!named.is_empty()).then_some(Cause::Gateway(named))
}

/// Returns the cause if large packets do not pass.
fn too_narrow(parts: &Parts<'_>) -> Option<Cause> {
    let narrow = parts.tunnel.iter().find(|(_, cell)| cell.is_narrow());
    let mtu = |cell: &Cell| match &cell.large {
        Some((_, Outcome::TooLarge(mtu))) => *mtu,
        _ => None,
    };
    let (_, in_tunnel) = narrow?;
    let (width, cell) = match parts.underlay {
        Some(underlay) if underlay.is_narrow() => (Width::Underlay, underlay),
        Some(underlay) if underlay.answers() => (Width::Tunnel, *in_tunnel),
        _ => (Width::Unclear, *in_tunnel),
    };
    let (bytes, _) = cell.large.as_ref()?;
    Some(Cause::Mtu(width, *bytes, mtu(cell)))
}

/// Returns the cause if a container that was asked for does not answer.
fn container(parts: &Parts<'_>) -> Option<Cause> {
    let cell = parts.address.filter(|cell| !cell.answers())?;
    let is_said = matches!(cell.small, Outcome::Unreachable(_));
    Some(Cause::Container(cell.address, is_said))
}

/// Returns the cause if some of several packets are lost.
fn loss(parts: &Parts<'_>) -> Option<Cause> {
    let answering = || parts.all().filter(|cell| cell.answers());
    let sent: u32 = answering().map(|cell| cell.sent).sum();
    let answered: u32 = answering().map(|cell| cell.answered).sum();
    (answered < sent).then_some(Cause::Loss(sent, answered))
}

impl Cause {
    /// Returns a number that causes of the same kind have in common.
    fn key(&self) -> u8 {
        match self {
            Cause::Lost(..) => 0,
            Cause::Entry(fault) if fault.kind == &path::NEIGHBOUR_WRONG => 1,
            Cause::Entry(fault) if fault.kind == &path::FDB_WRONG => 2,
            Cause::Entry(_) => 3,
            Cause::HostSilent => 4,
            Cause::Tunnel => 5,
            Cause::Gateway(_) => 6,
            Cause::Return(_) => 7,
            Cause::Mtu(Width::Underlay, ..) => 8,
            Cause::Mtu(Width::Tunnel, ..) => 9,
            Cause::Mtu(Width::Unclear, ..) => 10,
            Cause::Loss(..) => 11,
            Cause::Container(..) => 12,
        }
    }

    /// Returns the finding about one peer.
    fn finding(&self, peer: &Agent, here: &Here<'_>) -> Finding {
        let reports = match peer.first_error() {
            Some(error) => format!("; its agent reports: {}", shortened(error)),
            None => String::new(),
        };
        let finding = self.kind_finding(&peer.ip.to_string(), &reports, here);
        finding.about(peer.ip)
    }

    /// Returns the finding about several peers.
    fn shared_finding(&self, peers: &[&Agent], probed: usize, here: &Here<'_>) -> Finding {
        let who = match peers.len() == probed {
            true => format!("all {}", count(probed, "probed peer")),
            false => format!("{} of {}", peers.len(), count(probed, "probed peer")),
        };
        let whole = format!("{who} ({})", list(peers));
        // Times differ.
        let cause = match self {
            Cause::Lost(answers, _) => &Cause::Lost(*answers, None),
            cause => cause,
        };
        cause.kind_finding(&whole, "", here)
    }

    /// Returns the finding. `who` names the peers, and `reports` continues the sentence.
    fn kind_finding(&self, who: &str, reports: &str, here: &Here<'_>) -> Finding {
        match self {
            Cause::Lost(..) | Cause::HostSilent | Cause::Loss(..) => self.of_host(who),
            Cause::Entry(fault) => {
                let own = here.own.map_or(Ipv4Addr::UNSPECIFIED, |own| own.ip);
                let sentence = match who.parse::<IpAddr>() {
                    Ok(_) => fault.sentence.clone(),
                    Err(_) => format!("entries for {who} are wrong; for the first of them {}", fault.sentence),
                };
                let fault = Fault {
                    sentence,
                    ..fault.clone()
                };
                let finding = fault.finding(own, who);
                Finding {
                    subject: None,
                    ..finding
                }
            }
            Cause::Tunnel => path::TUNNEL_BLOCKED.finding(
                format!("{who} can be reached, and its tunnel does not answer: UDP port {PORT} is dropped between the hosts, or the VXLAN device there is missing{reports}"),
                format!("Let UDP port {PORT} through in both directions, in every firewall on the way; watch with \"tcpdump -ni any udp port {PORT}\" on both hosts where the packets end"),
            ),
            Cause::Gateway(named) => {
                let device = named.first().map_or("", |(device, _)| device);
                let ips: Vec<String> = named.iter().map(|(_, ip)| ip.to_string()).collect();
                path::GATEWAY_SILENT.finding(
                    format!("the tunnel of {who} answers, and {} of its device {device} does not: the device is missing or down there{reports}", ips.join(" and ")),
                    "See host_errors and the states of the overlays of its agent, and \"mesos-overlay status\" on that host",
                )
            }
            Cause::Return(sources) => {
                let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
                path::RETURN_PATH.finding(
                    format!("{who} answers to this host's tunnel, and not to {}, the gateway of its containers: the route back is missing there, or a filter drops the packets{reports}", sources.join(" and ")),
                    "Run \"mesos-overlay ping\" on that host, which names the entry that is wrong, and see host_errors of its agent",
                )
            }
            Cause::Mtu(width, bytes, mtu) => mtu_finding(*width, *bytes, *mtu, who),
            Cause::Container(ip, is_said) => container_finding(*ip, *is_said),
        }
    }

    fn of_host(&self, who: &str) -> Finding {
        match self {
            Cause::Lost(answers, since) => {
                let since = since.map_or(String::new(), |seconds| format!(" for {seconds} s"));
                let host = match answers {
                    true => "its host answers",
                    false => "its host does not answer",
                };
                cluster::AGENT_LOST.finding(
                    format!("the master has had no connection with the agent of {who}{since}; {host}"),
                    "Start the host and its Mesos agent; if it is gone for good, remove it with \"mesos-overlay agents delete\"",
                )
            }
            Cause::Loss(sent, answered) => path::PACKETS_LOST.finding(
                format!(
                    "{} of {sent} packets to {who} were lost",
                    sent.saturating_sub(*answered)
                ),
                "Repeat with a larger --count, and look for an overloaded host or link",
            ),
            _ => path::HOST_SILENT.finding(
                format!("{who} answers neither directly nor through the tunnel"),
                "Check that the host is up and that the network between the hosts works",
            ),
        }
    }
}

fn mtu_finding(width: Width, bytes: u32, mtu: Option<u32>, who: &str) -> Finding {
    let takes = mtu.map_or(String::new(), |mtu| format!(" (the way takes {mtu})"));
    let (message, remedy) = match width {
        Width::Underlay => (
            format!(
                "packets of {bytes} bytes do not pass directly to {who}{takes}: the MTU of the underlay is too small on the way for the tunnel"
            ),
            "Raise the MTU of the underlay, or set a smaller vtep_mtu in the masters' configuration",
        ),
        Width::Tunnel => (
            format!(
                "packets of {bytes} bytes do not pass through the tunnel to {who}{takes}, although packets with the tunnel's headers pass directly"
            ),
            "Compare the MTUs of the VXLAN devices and of the containers on both hosts; vtep_mtu and overlay_mtu must fit (docs/repair.md#mtu)",
        ),
        Width::Unclear => (
            format!(
                "packets of {bytes} bytes do not pass through the tunnel to {who}{takes}, and small ones do; the host does not answer directly, so that it is not known where they end"
            ),
            "Raise the MTU of the underlay, or set a smaller vtep_mtu in the masters' configuration",
        ),
    };
    path::MTU_TOO_SMALL.finding(message, remedy)
}

fn container_finding(ip: IpAddr, is_said: bool) -> Finding {
    let message = match is_said {
        true => format!("the gateway of {ip} answers, and says that nobody has that address"),
        false => format!(
            "the gateway of {ip} answers, and that address does not: no container has it, it does not answer ICMP, or its host does not forward packets"
        ),
    };
    path::CONTAINER_SILENT.finding(
        message,
        format!("See with \"mesos-overlay whois {ip}\" if a container has it, and with \"mesos-overlay trace\" on its host where packets end"),
    )
}

/// Returns the names of the first peers.
fn list(peers: &[&Agent]) -> String {
    let names: Vec<String> = peers
        .iter()
        .take(NAMED)
        .map(|peer| peer.ip.to_string())
        .collect();
    let more = peers.len().saturating_sub(NAMED);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Returns the beginning of a text of another host, without control characters.
fn shortened(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    clean.trim_end_matches('.').to_owned()
}

/// Returns the family of a column in the words of a heading.
pub fn family_word(family: Family) -> &'static str {
    family.pick("IPv4", "IPv6")
}
