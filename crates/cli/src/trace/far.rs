//! The other end of the way: what its agent reports, and what answers there.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use overlay_core::util::family::Family;

use super::report::{State, Step, TraceReport};
use crate::answers::{Agent, OwnAgent};
use crate::finding::Finding;
use crate::finding::kinds::path;
use crate::output::Failure;
use crate::paths::model::{Model, PORT, Place};
use crate::ping::{self, Prober};
use crate::this_host::ThisHost;

/// Time limit of another agent's answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Port of Mesos agents where this host's own is not known.
const AGENT_PORT: u16 = 5051;
/// Number of characters of another host's sentence.
const SHORT: usize = 160;

/// Another agent.
pub struct Far<'a> {
    agent: &'a Agent,
    /// What it reports of itself; the error says why that is not known.
    own: Result<OwnAgent, String>,
}

impl Far<'_> {
    /// Asks an agent for its own report.
    pub fn new<'a>(prober: &Prober, agent: &'a Agent) -> Far<'a> {
        // All agents of a cluster usually have one port.
        let local = ThisHost::look().agent_address();
        let port = local.and_then(|address| address.rsplit_once(':')?.1.parse().ok());
        let address = format!("{}:{}", agent.ip, port.unwrap_or(AGENT_PORT));
        let http = prober.source.http.with_limit(LIMIT);
        let own = http.json(&address, "/overlay-agent/overlay");
        Far {
            agent,
            own: own.map_err(|error| error.to_string()),
        }
    }

    /// Returns the step in which it sends a packet through its tunnel to another host.
    pub fn sends(&self, to: Ipv4Addr) -> Vec<Step> {
        let mut steps = self.reports();
        steps.push(Step {
            host: self.agent.ip.to_string(),
            step: "tunnel",
            model: Some(format!("UDP {PORT} to {to}")),
            kernel: None,
            state: State::Unknown,
        });
        steps
    }

    /// Returns the step with what it reports.
    pub fn reports(&self) -> Vec<Step> {
        let connected = match self.agent.connected {
            true => "connected",
            false => "not connected",
        };
        let states = self.agent.overlays.iter().filter_map(|overlay| {
            let state = overlay.state.as_ref()?;
            Some(format!("{} {}", overlay.info.name, state.status))
        });
        let model = std::iter::once(connected.to_owned()).chain(states);
        let (kernel, state) = match &self.own {
            Err(_) => (None, State::Unknown),
            Ok(own) => match own.host_errors.first() {
                None => (Some("reports no errors of its host".to_owned()), State::Ok),
                Some(error) => (Some(short(error)), State::Differs),
            },
        };
        vec![Step {
            host: self.agent.ip.to_string(),
            step: "agent",
            model: Some(model.collect::<Vec<_>>().join(", ")),
            kernel,
            state: if self.agent.connected {
                state
            } else {
                State::Differs
            },
        }]
    }
}

/// Returns the beginning of a sentence of another host, without control characters.
fn short(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(SHORT)
        .collect()
}

/// Probes the other host, and adds the step and what is wrong.
///
/// # Errors
/// The kernel does not answer.
pub fn probe(
    prober: &mut Prober,
    model: &Model,
    peer: &Agent,
    destination: IpAddr,
    report: &mut TraceReport,
) -> Result<(), Failure> {
    let is_container = matches!(model.locate(destination), Place::Container(..));
    let address = is_container.then_some(destination);
    let family = Family::from(destination);
    let (result, findings) = match prober.peer(model, peer, address, family) {
        Ok(probed) => probed,
        Err(Failure(reason)) => {
            report
                .notes
                .push(format!("the other host was not probed: {reason}"));
            return Ok(());
        }
    };
    // What was found on this host already needs no second finding.
    let known: Vec<&str> = report.findings.iter().map(|finding| finding.code).collect();
    let new = findings
        .into_iter()
        .filter(|finding| !known.contains(&finding.code));
    let new: Vec<Finding> = new
        .filter(|finding| finding.code != path::PACKETS_LOST.code)
        .collect();
    let answers = result.paths.iter().map(|path| {
        let name = match path.path {
            "overlay" => "gateway",
            "address" => "container",
            name => name,
        };
        match path.round_trip_ms {
            Some(time) => format!("{name} answers in {time:.2} ms"),
            None => format!("{name}: {}", path.problem.unwrap_or("no answer")),
        }
    });
    // Small packets pass where only the MTU is too small, and a lost agent's host may go on.
    let stops = |finding: &Finding| {
        let target = result.paths.last().and_then(|path| path.round_trip_ms);
        finding.code != path::MTU_TOO_SMALL.code && target.is_none()
    };
    let is_stopped = new.iter().any(stops);
    report.steps.push(Step {
        host: peer.ip.to_string(),
        step: "probe",
        model: None,
        kernel: Some(answers.collect::<Vec<_>>().join(", ")),
        state: match (new.is_empty(), is_stopped) {
            (true, _) => State::Ok,
            (false, true) => State::Drops,
            (false, false) => State::Ok,
        },
    });
    report.findings.extend(new);
    Ok(())
}

/// Probes a container of this host, adds the step, and returns what is wrong.
pub fn local_container(ip: IpAddr, host: &str, report: &mut TraceReport) -> Option<Finding> {
    let time = match ping::once(ip) {
        Ok(time) => time,
        Err(Failure(reason)) => {
            report
                .notes
                .push(format!("the container was not probed: {reason}"));
            return None;
        }
    };
    let kernel = match time {
        Some(time) => format!("answers in {:.2} ms", time.as_secs_f64() * 1e3),
        None => "no answer".to_owned(),
    };
    report.steps.push(Step {
        host: host.to_owned(),
        step: "container",
        model: None,
        kernel: Some(kernel),
        state: if time.is_some() {
            State::Ok
        } else {
            State::Drops
        },
    });
    time.is_none().then(|| {
        path::CONTAINER_SILENT
            .finding(
                format!("{ip} does not answer on its bridge: no container has it, or it does not answer ICMP"),
                format!("See with \"mesos-overlay whois {ip}\" if a container has it"),
            )
            .about(ip)
    })
}
