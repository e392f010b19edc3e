//! Report of `ping`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use overlay_core::util::family::Family;
use schemars::JsonSchema;
use serde::Serialize;

use super::diagnosis::{Cell, Row};
use super::echo::Outcome;
use super::plan::{Column, Target};
use crate::finding::Finding;
use crate::output::Report;
use crate::output::page::{DIM, ERROR, GOOD, Page, count, styled};

/// Report of `ping`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PingReport {
    /// Address of the master that the peers are from; absent if they are from this host's kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Address of the agent on this host; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub this_agent: Option<Ipv4Addr>,
    /// Number of other agents.
    pub peers: usize,
    /// Probed agents.
    pub probed: Vec<PeerResult>,
    /// Remarks about what could not be seen, or only looks wrong.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub findings: Vec<Finding>,
    #[serde(skip)]
    pub columns: Vec<Column>,
}

/// Probed agent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PeerResult {
    /// Address of the agent.
    pub agent: Ipv4Addr,
    /// True if the master is connected with it.
    pub connected: bool,
    /// Results by address.
    pub paths: Vec<PathResult>,
}

/// Results of one address.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PathResult {
    /// `underlay`, `vtep`, `overlay` or `address`.
    pub path: &'static str,
    /// Overlay, if the address is the gateway of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<String>,
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// The address.
    pub address: IpAddr,
    /// Source of the packets, if it is not the kernel's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Number of small packets.
    pub sent: u32,
    /// Number of answers to them.
    pub answered: u32,
    /// Shortest round trip time of a small packet, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// Problem with small packets: `no answer`, `unreachable`, `too large` or `not sent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'static str>,
    /// Large packet that must not be fragmented; absent if small ones were not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub large: Option<LargeResult>,
}

/// Result of a large packet.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LargeResult {
    /// Size with the IP header, in bytes.
    pub bytes: u32,
    /// True if it was answered.
    pub passes: bool,
    /// MTU of the way, in bytes, if the kernel knows it and the packet is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl PeerResult {
    /// Returns the results of a row.
    pub fn of(row: &Row<'_>, columns: &[Column]) -> PeerResult {
        let cells = columns.iter().zip(&row.cells);
        let paths = cells.filter_map(|(column, cell)| {
            let cell = cell.as_ref()?;
            Some(path_result(column, cell))
        });
        PeerResult {
            agent: row.peer.ip,
            connected: row.peer.connected,
            paths: paths.collect(),
        }
    }
}

fn path_result(column: &Column, cell: &Cell) -> PathResult {
    let (path, overlay) = match &column.target {
        Target::Underlay => ("underlay", None),
        Target::Vtep => ("vtep", None),
        Target::Overlay(name) => ("overlay", Some(name.clone())),
        Target::Address => ("address", None),
    };
    let large = cell.large.as_ref().map(|(bytes, outcome)| LargeResult {
        bytes: *bytes,
        passes: outcome.time().is_some(),
        mtu: match outcome {
            Outcome::TooLarge(mtu) => *mtu,
            _ => None,
        },
    });
    let micros = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    PathResult {
        path,
        overlay,
        family: column.family.name(),
        address: cell.address,
        source: cell.source,
        sent: cell.sent,
        answered: cell.answered,
        round_trip_ms: cell.small.time().map(micros),
        problem: problem(&cell.small),
        large,
    }
}

fn problem(outcome: &Outcome) -> Option<&'static str> {
    Some(match outcome {
        Outcome::Answered(_) => return None,
        Outcome::Silent => "no answer",
        Outcome::TooLarge(_) => "too large",
        Outcome::Unreachable(_) => "unreachable",
        Outcome::NotSent(_) => "not sent",
    })
}

impl Report for PingReport {
    const COMMAND: &'static str = "ping";

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let from = match self.this_agent {
            Some(ip) => ip.to_string(),
            None => "this host".to_owned(),
        };
        let whose = match &self.master {
            Some(master) => format!("of the master {master}"),
            None => "of this host's kernel".to_owned(),
        };
        let (probed, all) = (self.probed.len(), self.peers);
        let which = match probed == all {
            true => count(all, "peer"),
            false => format!("{probed} of {}", count(all, "peer")),
        };
        page.line(format_args!("From {from} to {which} {whose}"))?;
        if self.probed.is_empty() {
            page.line("There is nobody to probe.")?;
        } else {
            page.line("")?;
        }
        let has_v6 = self.columns.iter().any(|c| c.family == Family::V6);
        let headings: Vec<String> = self.columns.iter().map(|c| heading(c, has_v6)).collect();
        let mut all: Vec<&str> = vec!["AGENT"];
        all.extend(headings.iter().map(String::as_str));
        let right: Vec<usize> = (1..all.len()).collect();
        page.table(
            &all,
            &right,
            self.probed.iter().map(|peer| self.cells(peer)),
        )?;
        for note in &self.notes {
            page.line(format_args!("\n{} {note}", styled(DIM, "note:")))?;
        }
        Ok(())
    }
}

impl PingReport {
    fn cells(&self, peer: &PeerResult) -> Vec<String> {
        let mut cells = vec![peer.agent.to_string()];
        for column in &self.columns {
            let (path, overlay) = match &column.target {
                Target::Underlay => ("underlay", None),
                Target::Vtep => ("vtep", None),
                Target::Overlay(name) => ("overlay", Some(name)),
                Target::Address => ("address", None),
            };
            let mut paths = peer.paths.iter();
            let found = paths.find(|found| {
                found.path == path
                    && found.overlay.as_ref() == overlay
                    && found.family == column.family.name()
            });
            cells.push(found.map_or("-".to_owned(), cell));
        }
        cells
    }
}

fn heading(column: &Column, has_v6: bool) -> String {
    let name = match &column.target {
        Target::Underlay => return "UNDERLAY".to_owned(),
        Target::Vtep => "VTEP",
        Target::Overlay(name) => name,
        Target::Address => "ADDRESS",
    };
    match has_v6 {
        true => format!("{name} {}", super::diagnosis::family_word(column.family)),
        false => name.to_owned(),
    }
}

fn cell(result: &PathResult) -> String {
    let Some(time) = result.round_trip_ms else {
        return styled(ERROR, result.problem.unwrap_or("no answer"));
    };
    let mut text = format!("{time:.2} ms");
    if result.answered < result.sent {
        text += &format!(
            ", {} of {} lost",
            result.sent - result.answered,
            result.sent
        );
    }
    match &result.large {
        Some(large) if !large.passes => {
            let mtu = large
                .mtu
                .map_or(String::new(), |mtu| format!(" (MTU {mtu})"));
            styled(
                ERROR,
                format_args!("{text}, {} bytes lost{mtu}", large.bytes),
            )
        }
        _ => styled(GOOD, text),
    }
}
