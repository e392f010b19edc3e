//! `mesos-overlay trace`: follows the way that a packet would take.

mod far;
pub mod report;
mod route;
mod walk;
mod words;

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};
use std::process::ExitCode;

use nix::unistd::geteuid;
use overlay_host::lookup::{Protocol, Rules};

use crate::answers::Agent;
use crate::connection::ConnectionOptions;
use crate::finding::Finding;
use crate::output::{Failure, OutputOptions, finish};
use crate::paths::model::{Model, Place};
use crate::ping::{self, Prober};
use far::Far;
use report::{End, State, TraceReport};
use walk::{Exit, Next, Walk};

/// Follows the way that a packet would take, and says where it ends.
///
/// Each step shows what the leading master says beside what this host's kernel says: bridge, rule,
/// route, forwarding, firewall, masquerading, neighbour, FDB entry and underlay. Of another host it
/// shows what its agent reports and whether its tunnel, gateway and container answer to ICMP; run trace
/// there to see its kernel.
///
/// The packet itself is not sent.
#[derive(Debug, clap::Args)]
#[command(
    about = "Follows the way of a packet, and says where it ends",
    verbatim_doc_comment,
    after_long_help = EXAMPLES,
    after_help = EXAMPLES
)]
pub struct Options {
    /// Source: address of a container or host, or "host" for this host itself.
    #[arg(value_name = "SRC")]
    source: String,
    /// Destination: any address, or the name of an agent.
    #[arg(value_name = "DST")]
    destination: String,
    /// Destination port.
    #[arg(value_name = "PORT")]
    port: Option<u16>,
    /// Protocol of the packet. Rules of a firewall can depend on it.
    #[arg(long, value_enum, default_value_t = Layer::Tcp)]
    protocol: Layer,
    /// Send no ICMP echo requests to the other host.
    #[arg(long)]
    no_probe: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

const EXAMPLES: &str = "\
Examples:
  Where does a packet to a container on another host end?
      mesos-overlay trace 9.0.0.2 9.0.1.7 80
  Does it reach another host's own address, through the tunnel?
      mesos-overlay trace 9.0.0.2 10.77.1.2 5051
  Does the firewall let DNS out?
      mesos-overlay trace 9.0.0.2 192.0.2.53 53 --protocol udp
  What becomes of packets of this host itself?
      mesos-overlay trace host 9.0.1.7";

/// Protocol on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Layer {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, or ICMPv6.
    Icmp,
}

impl Layer {
    fn protocol(self) -> (Protocol, &'static str) {
        match self {
            Layer::Tcp => (Protocol::Tcp, "tcp"),
            Layer::Udp => (Protocol::Udp, "udp"),
            Layer::Icmp => (Protocol::Icmp, "icmp"),
        }
    }
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, trace(options))
}

fn trace(options: &Options) -> Result<TraceReport, Failure> {
    let mut prober = Prober::new(&options.connection, None, 1)?;
    let model = prober.source.model.clone();
    let source = match options.source.as_str() {
        "host" => None,
        text => Some(address(text, &prober, None)?),
    };
    let destination = address(&options.destination, &prober, source)?;
    if source.is_some_and(|source| source.is_ipv4() != destination.is_ipv4()) {
        return Err("SRC and DST must be of one family, IPv4 or IPv6".into());
    }
    if options.port.is_some() && options.protocol == Layer::Icmp {
        return Err("ICMP has no ports; leave PORT out, or give another --protocol".into());
    }
    let rules = geteuid().is_root().then(Rules::read);
    let mut notes = std::mem::take(&mut prober.notes);
    if rules.is_none() {
        notes.push("only root can read the firewall of this host".to_owned());
    }
    let (protocol, word) = options.protocol.protocol();
    let mut report = TraceReport {
        source: end(&model, source),
        destination: end(&model, Some(destination)),
        protocol: word,
        port: options.port,
        steps: Vec::new(),
        arrives: None,
        verdict: String::new(),
        notes,
        findings: Vec::new(),
    };
    let from = source.map(|source| model.locate(source));
    if let (Some(source), Some(place)) = (source, &from)
        && place.agent().is_none()
    {
        if matches!(place, Place::Outside) && !prober.addresses().contains(&source) {
            return Err(format!("{source} is no address of an agent, a VTEP or a container: SRC must be one, or \"host\"").into());
        }
        if !matches!(place, Place::Outside) {
            return Ok(ended(report, words::nobody(source, place)));
        }
    }
    let Some(own) = model.own() else {
        return Err("this host has no agent with overlays, so that it has no part in the way; run trace on the host of SRC or DST".into());
    };
    let is_here = |place: &Place<'_>| place.agent().is_some_and(|agent| agent.ip == own.ip);
    let to = model.locate(destination);
    let packet = Packet {
        source,
        destination,
        protocol,
        port: options.port,
        probes: !options.no_probe,
    };
    let from = from.filter(|place| !matches!(place, Place::Outside));
    match from {
        Some(place) if !is_here(&place) => {
            let Some(peer) = place.agent() else {
                return Err("SRC has no host".into());
            };
            let is_container = matches!(place, Place::Container(..));
            match is_here(&to) {
                true => packet.arrive(
                    &mut prober,
                    &model,
                    rules.as_ref(),
                    peer,
                    is_container,
                    &mut report,
                )?,
                false => packet.elsewhere(&prober, &model, peer, &mut report)?,
            }
        }
        place => packet.leave(&mut prober, &model, rules.as_ref(), place, &mut report)?,
    }
    Ok(report)
}

/// Returns the report about a packet that nobody can send.
fn ended(mut report: TraceReport, finding: Finding) -> TraceReport {
    report.arrives = Some(false);
    report.verdict = format!("Nobody can send it: {}", finding.message);
    report.findings.push(finding);
    report
}

/// Packet to follow.
struct Packet {
    source: Option<IpAddr>,
    destination: IpAddr,
    protocol: Protocol,
    port: Option<u16>,
    /// True if other hosts are probed.
    probes: bool,
}

impl Packet {
    fn walk<'a>(
        &self,
        prober: &'a Prober,
        model: &'a Model,
        rules: Option<&'a Rules>,
        own: &'a Agent,
    ) -> Walk<'a> {
        Walk {
            model,
            local: &prober.local,
            rules,
            own,
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            port: self.port,
            steps: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Follows a packet of this host or its containers.
    fn leave<'a>(
        &self,
        prober: &mut Prober,
        model: &'a Model,
        rules: Option<&Rules>,
        place: Option<Place<'a>>,
        report: &mut TraceReport,
    ) -> Result<(), Failure> {
        let Some(own) = model.own() else {
            return Ok(());
        };
        let (exit, steps, findings) = {
            let mut walk = self.walk(prober, model, rules, own);
            let exit = match place {
                Some(Place::Container(_, gateway)) => walk.follow_container(gateway),
                _ => walk.follow_host(),
            };
            (owned(exit), walk.steps, walk.findings)
        };
        report.steps = steps;
        report.findings = findings;
        self.conclude(exit, prober, model, report)
    }

    /// Follows a packet of another host to this one.
    fn arrive(
        &self,
        prober: &mut Prober,
        model: &Model,
        rules: Option<&Rules>,
        peer: &Agent,
        is_container: bool,
        report: &mut TraceReport,
    ) -> Result<(), Failure> {
        let Some(own) = model.own() else {
            return Ok(());
        };
        let far = Far::new(prober, peer);
        let mut steps = far.sends(own.ip);
        let (exit, mut found, findings) = {
            let mut walk = self.walk(prober, model, rules, own);
            let exit = walk.follow_peer(peer, is_container);
            (owned(exit), walk.steps, walk.findings)
        };
        steps.append(&mut found);
        report.steps = steps;
        report.findings = findings;
        report.notes.push(format!(
            "run trace on {} as well, to see its kernel",
            peer.ip
        ));
        self.conclude(exit, prober, model, report)
    }

    /// Says what is known of a packet between other hosts.
    fn elsewhere(
        &self,
        prober: &Prober,
        model: &Model,
        from: &Agent,
        report: &mut TraceReport,
    ) -> Result<(), Failure> {
        let to = model.locate(self.destination);
        let far = Far::new(prober, from);
        match to.agent() {
            Some(agent) => report.steps = far.sends(agent.ip),
            None if matches!(to, Place::Outside) => {}
            None => {
                let finding = words::nobody(self.destination, &to);
                report.arrives = Some(false);
                report.verdict = format!("It is dropped: {}", finding.message);
                report.findings.push(finding);
                return Ok(());
            }
        }
        if let Some(agent) = to.agent() {
            report.steps.extend(Far::new(prober, agent).reports());
        }
        report.verdict = format!("This host has no part in it; run trace on {}", from.ip);
        Ok(())
    }

    /// Says where a packet ends, after what was seen on this host.
    fn conclude(
        &self,
        exit: Option<Ended>,
        prober: &mut Prober,
        model: &Model,
        report: &mut TraceReport,
    ) -> Result<(), Failure> {
        let what = report.destination.description.clone();
        match exit {
            None => dropped(report),
            Some(Ended::Here) => {
                report.arrives = Some(true);
                report.verdict = "It arrives at this host itself".to_owned();
            }
            Some(Ended::Outside(device, source)) => {
                let source = source.map_or(String::new(), |ip| format!(" with the source {ip}"));
                report.verdict = format!(
                    "It leaves this host by {device}{source}; what is outside of the overlays is not known"
                );
            }
            Some(Ended::OnBridge) => self.on_bridge(prober, report),
            Some(Ended::Tunnel(peer)) => {
                let Some(peer) = model.agents.iter().find(|agent| agent.ip == peer) else {
                    return Ok(());
                };
                report.steps.extend(Far::new(prober, peer).reports());
                report.verdict = format!("It leaves this host for {what}");
                if self.probes {
                    far::probe(prober, model, peer, self.destination, report)?;
                    let probed = report.steps.last().filter(|step| step.step == "probe");
                    match probed.map(|step| step.state) {
                        Some(State::Drops) => dropped(report),
                        Some(State::Ok) => {
                            report.arrives = Some(true);
                            report.verdict = format!("It arrives at {what}");
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks for the container on this host.
    fn on_bridge(&self, prober: &Prober, report: &mut TraceReport) {
        let what = report.destination.description.clone();
        report.verdict = format!("It is delivered to {what}");
        if !self.probes {
            return;
        }
        let host = prober
            .source
            .model
            .own
            .map_or_else(String::new, |ip| ip.to_string());
        if let Some(finding) = far::local_container(self.destination, &host, report) {
            report.findings.push(finding);
            dropped(report);
        } else if report
            .steps
            .last()
            .is_some_and(|step| step.step == "container" && step.state == State::Ok)
        {
            report.arrives = Some(true);
            report.verdict = format!("It arrives at {what}");
        }
    }
}

/// End of the walk on this host.
enum Ended {
    Here,
    OnBridge,
    Tunnel(std::net::Ipv4Addr),
    Outside(String, Option<IpAddr>),
}

/// Returns the end of a walk without references; `None`: the packet was dropped.
fn owned(exit: Next<Exit<'_>>) -> Option<Ended> {
    Some(match exit {
        Break(()) => return None,
        Continue(Exit::Here) => Ended::Here,
        Continue(Exit::OnBridge) => Ended::OnBridge,
        Continue(Exit::Tunnel(peer)) => Ended::Tunnel(peer.ip),
        Continue(Exit::Outside(device, source)) => Ended::Outside(device, source),
    })
}

/// Says at which step a packet is dropped.
fn dropped(report: &mut TraceReport) {
    let number = report.steps.len();
    let step = report.steps.last().map_or("", |step| step.step);
    let why = report.findings.last();
    let why = why.map_or("its way cannot be followed", |finding| {
        finding.message.as_str()
    });
    report.arrives = Some(false);
    report.verdict = format!("It is dropped at step {number} ({step}): {why}");
}

/// Returns the address of an end of the way.
fn address(text: &str, prober: &Prober, other: Option<IpAddr>) -> Result<IpAddr, Failure> {
    if let Ok(ip) = text.parse() {
        return Ok(ip);
    }
    let mut slaves = None;
    let ips = ping::resolve(text, prober.source.master.as_ref(), &mut slaves)?;
    let alike = |ip: &&IpAddr| other.is_none_or(|other| other.is_ipv4() == ip.is_ipv4());
    let found = ips.iter().find(alike).or(ips.first());
    found
        .copied()
        .ok_or_else(|| format!("{text} has no address").into())
}

/// Describes an end of the way.
fn end(model: &Model, ip: Option<IpAddr>) -> End {
    let place = ip.map(|ip| model.locate(ip));
    let description = match &place {
        None => "this host itself".to_owned(),
        Some(Place::Host(agent)) if Some(agent.ip) == model.own => "this host itself".to_owned(),
        Some(Place::Host(agent)) => format!("the host of the agent {}", agent.ip),
        Some(Place::Vtep(agent)) => format!("the VTEP of {}", agent.ip),
        Some(Place::Gateway(agent, gateway)) => {
            format!(
                "the gateway of {} on {} ({})",
                gateway.overlay, agent.ip, gateway.bridge
            )
        }
        Some(Place::Container(agent, gateway)) => {
            format!(
                "a container of {} on {} ({})",
                gateway.overlay, agent.ip, gateway.bridge
            )
        }
        Some(Place::WithoutBridge(agent, _)) => {
            format!("in the subnet of {}, of none of its bridges", agent.ip)
        }
        Some(Place::Unassigned(overlay, _)) => format!("of {overlay}, of no agent"),
        Some(Place::UnassignedVtep(_)) => "of the VTEPs, of no agent".to_owned(),
        Some(Place::Outside) => "outside of the overlays".to_owned(),
    };
    let agent = match (&place, ip) {
        (Some(place), _) => place.agent().map(|agent| agent.ip),
        (None, _) => model.own,
    };
    End {
        address: ip,
        description,
        agent,
    }
}
