//! `mesos-overlay ping`: probes the paths from this host to other agents.

mod choose;
mod diagnosis;
mod echo;
mod plan;
pub mod report;
mod socket;

use std::cell::Cell as Counter;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use overlay_core::config::{AgentConfig, OVERLAY_MTU};
use overlay_core::host_api::desired::CONTAINER_TABLE;
use overlay_core::util::family::Family;
use overlay_host::lookup::{Decision, Flow, Judgement, Protocol, Question, Rules};

use crate::answers::Agent;
use crate::connection::ConnectionOptions;
use crate::finding::Finding;
use crate::finding::kinds::{host, path};
use crate::output::progress::Progress;
use crate::output::{Failure, OutputOptions, finish};
use crate::paths::entries::{device_fault, rule_faults};
use crate::paths::local::{self, Local};
use crate::paths::model::{Model, PORT};
use crate::paths::source;
use crate::this_host::ThisHost;
use choose::choose;
pub use choose::resolve;
pub use diagnosis::family_word;
use diagnosis::{Cell, Here, Row};
use echo::{Echo, MIN_BYTES, Outcome, Pace, Request};
use plan::{Chosen, Column, Sizes, Sources, Target};
use report::{PeerResult, PingReport};

/// Requests per second.
const RATE: u32 = 500;
/// Time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time that the answer of a container may take: a host needs some seconds to find out that nobody
/// has an address.
const LONG_PATIENCE: Duration = Duration::from_millis(3500);
/// Number of times that a request without an answer is sent.
const ATTEMPTS: u32 = 2;
/// Pause before entries that are wrong are read again: the agent may be about to write them.
const SETTLING: Duration = Duration::from_millis(1500);
/// Column of the agents' own addresses.
const UNDERLAY: Column = Column {
    target: Target::Underlay,
    family: Family::V4,
};
/// MTU of a VXLAN device where this host has none.
const USUAL_VTEP_MTU: u32 = 1450;

/// Probes the paths from this host to other agents with ICMP echo requests: directly (the underlay),
/// through the tunnel (VTEP), and to the gateways of their containers, which is the path that a
/// container's packet takes. Small packets, and the largest that have to pass without fragments.
///
/// Findings tell apart: a host that does not answer, UDP port 64000 that is dropped, an entry of this
/// host that is wrong, a gateway that is missing, a way back that is broken, an MTU that is too small.
#[derive(Debug, clap::Args)]
#[command(
    about = "Probes the paths from this host to other agents",
    verbatim_doc_comment,
    after_long_help = EXAMPLES,
    after_help = EXAMPLES
)]
pub struct Options {
    /// Agents to probe: address or name of the agent, address of its VTEP, or any address in one of
    /// its subnets, which is then probed as well. Without any: all, or 50 of them that are evenly
    /// distributed.
    #[arg(value_name = "AGENT", verbatim_doc_comment)]
    agents: Vec<String>,
    /// Probe every agent, however many there are, with 500 packets per second.
    #[arg(long, conflicts_with = "agents")]
    all: bool,
    /// Size of large packets to VTEPs and containers with the IP header, in bytes. Without this
    /// option: the MTUs of the VXLAN device and of the containers.
    #[arg(long, value_name = "BYTES", verbatim_doc_comment)]
    #[arg(value_parser = clap::value_parser!(u32).range(i64::from(MIN_BYTES)..=65_000))]
    size: Option<u32>,
    /// Number of small packets to each address.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// Probe only IPv4 addresses.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Probe only IPv6 addresses of the overlays, besides the hosts' own ones, which are IPv4.
    #[arg(short = '6', long)]
    ipv6: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

const EXAMPLES: &str = "\
Examples:
  mesos-overlay ping                       50 agents at most
  mesos-overlay ping --all --count 10      every agent, with ten packets each
  mesos-overlay ping 10.77.1.2             one agent
  mesos-overlay ping 9.0.1.7               the agent that has this address, and the address itself
  mesos-overlay ping 10.77.1.2 --size 8900 with jumbo frames";

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, probe(options))
}

impl Options {
    fn families(&self) -> Vec<Family> {
        match (self.ipv4, self.ipv6) {
            (true, _) => vec![Family::V4],
            (_, true) => vec![Family::V6],
            _ => Family::BOTH.to_vec(),
        }
    }
}

fn probe(options: &Options) -> Result<PingReport, Failure> {
    let mut run = Prober::new(&options.connection, options.size, options.count)?;
    let model = run.source.model.clone();
    let chosen = choose(options, &model, run.source.master.as_ref())?;
    let has_tunnel = run.local.device.is_some();
    let mut columns = plan::columns(&chosen, &options.families(), has_tunnel);
    if options.ipv6 && !chosen.is_empty() {
        columns.insert(0, UNDERLAY);
    }
    let rows = run.probe(&chosen, &columns, &model)?;
    let (findings, mut notes) = run.findings(&rows, &columns, &model)?;
    run.notes.append(&mut notes);
    Ok(PingReport {
        master: run
            .source
            .master
            .as_ref()
            .map(|master| master.address().to_owned()),
        this_agent: model.own,
        peers: model.peers().count(),
        probed: rows
            .iter()
            .map(|row| PeerResult::of(row, &columns))
            .collect(),
        notes: run.notes,
        findings,
        columns,
    })
}

/// Prober of the paths from this host.
pub struct Prober {
    /// Agents, and who named them.
    pub source: source::Source,
    /// Kernel of this host.
    pub local: Local,
    /// Remarks.
    pub notes: Vec<String>,
    count: u32,
    sizes: Sizes,
    addresses: Vec<IpAddr>,
}

impl Prober {
    /// Finds the agents, and reads this host's kernel. `size` is that of large packets, and `count`
    /// the number of small ones.
    ///
    /// # Errors
    /// Nobody names an agent, or the kernel does not answer.
    pub fn new(
        options: &ConnectionOptions,
        size: Option<u32>,
        count: u32,
    ) -> Result<Prober, Failure> {
        let host = ThisHost::look();
        let config = host.agent_config(options.agent_config.as_deref());
        let config: Option<AgentConfig> = config.ok().flatten().map(|(_, config)| config);
        let table = config
            .as_ref()
            .map_or(CONTAINER_TABLE, |config| config.container_table.0);
        let mut local = Local::read(table, None)?;
        let source = source::find(options, &host, &local)?;
        if let Some(vxlan) = source.model.own().and_then(Agent::vxlan) {
            local.vtep = Some(vxlan.vtep_name.clone());
            local.refresh()?;
        }
        let mtu = local.device.as_ref().map(|device| device.mtu);
        let overlay_mtu = config.and_then(|config| config.network.overlay_mtu);
        let mut notes = source.notes.clone();
        if local.device.is_none() && source.model.own.is_none() {
            notes.push(
                "this host has no agent with overlays, and so no tunnel: only the underlay was probed"
                    .to_owned(),
            );
        }
        let sizes = Sizes::new(
            mtu.unwrap_or(USUAL_VTEP_MTU),
            overlay_mtu.unwrap_or(OVERLAY_MTU),
            size,
        );
        Ok(Prober {
            source,
            local,
            notes,
            count,
            sizes,
            addresses: local::addresses(),
        })
    }

    /// Probes one peer in one family, and a container's address on it. Returns the results and what
    /// is wrong with them.
    ///
    /// # Errors
    /// This user may not send echo requests, or the kernel does not answer.
    pub fn peer(
        &mut self,
        model: &Model,
        peer: &Agent,
        address: Option<IpAddr>,
        family: Family,
    ) -> Result<(PeerResult, Vec<Finding>), Failure> {
        let chosen = [Chosen { peer, address }];
        let mut columns = plan::columns(&chosen, &[family], self.local.device.is_some());
        if family == Family::V6 {
            columns.insert(0, UNDERLAY);
        }
        let rows = self.probe(&chosen, &columns, model)?;
        let (findings, _) = self.findings(&rows, &columns, model)?;
        let row = rows.first().ok_or("nothing was probed")?;
        let result = PeerResult::of(row, &columns);
        Ok((result, findings))
    }

    /// Returns the addresses of this host.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    fn probe<'m>(
        &mut self,
        chosen: &[Chosen<'m>],
        columns: &[Column],
        model: &'m Model,
    ) -> Result<Vec<Row<'m>>, Failure> {
        let sources = Sources {
            own: model.own(),
            present: self.addresses.clone(),
        };
        let probes = plan::probes(chosen, columns, &sources, model);
        let mut echo = Echo::new();
        let repeated = self.count as usize;
        let total = probes.len() * (repeated + 1);
        let progress = Progress::new("Probing", total as u64);
        let pace = Pace {
            per_second: RATE,
            patience: PATIENCE,
            attempts: if repeated == 1 { ATTEMPTS } else { 1 },
        };
        let mut rows: Vec<Row<'_>> = chosen
            .iter()
            .map(|chosen| Row {
                peer: chosen.peer,
                cells: vec![None; columns.len()],
            })
            .collect();
        let small: Vec<Request> = (0..repeated)
            .flat_map(|_| probes.iter().map(|probe| probe.request.clone()))
            .collect();
        let outcomes = echo.send(&small, &pace, &|| progress.step())?;
        for (number, outcome) in outcomes.into_iter().enumerate() {
            let probe = &probes[number % probes.len()];
            let cell = &mut rows[probe.row].cells[probe.column];
            add(cell, &probe.request, outcome);
        }
        self.send_large(&mut rows, columns, &mut echo, &progress)?;
        again(&mut rows, columns, &sources, &mut echo)?;
        Ok(rows)
    }

    /// Sends large packets to what answered to small ones.
    fn send_large(
        &self,
        rows: &mut [Row<'_>],
        columns: &[Column],
        echo: &mut Echo,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let pace = Pace {
            per_second: RATE,
            patience: PATIENCE,
            attempts: ATTEMPTS,
        };
        let ask = |column: &Column, cell: &Cell| {
            let bytes = self.sizes.large(&column.target);
            cell.answers().then(|| request(cell, bytes))
        };
        ask_again(
            rows,
            columns,
            &pace,
            echo,
            &|| progress.step(),
            &ask,
            |cell, bytes, outcome| {
                cell.large = Some((bytes, outcome));
            },
        )
    }

    /// Returns what is wrong, and notes.
    fn findings(
        &mut self,
        rows: &[Row<'_>],
        columns: &[Column],
        model: &Model,
    ) -> Result<(Vec<Finding>, Vec<String>), Failure> {
        let mut first = self.examine(rows, columns, model);
        let is_of_entries =
            |(findings, _): &(Vec<Finding>, Vec<String>)| findings.iter().any(is_local);
        if is_of_entries(&first) && self.source.master.is_some() {
            // The master may have known peers before this host did.
            std::thread::sleep(SETTLING);
            self.local.refresh()?;
            first = self.examine(rows, columns, model);
        }
        Ok(first)
    }

    fn examine(
        &self,
        rows: &[Row<'_>],
        columns: &[Column],
        model: &Model,
    ) -> (Vec<Finding>, Vec<String>) {
        let own = model.own();
        let has_master = self.source.master.is_some();
        let mut findings = Vec::new();
        let mut device = self.local.device.as_ref();
        if let Some(own) = own.filter(|_| has_master) {
            if let Some(fault) = device_fault(&self.local, own) {
                findings.push(fault.finding(own.ip, self.local.vtep.clone().unwrap_or_default()));
                device = None;
            } else {
                let rules = rule_faults(&self.local, own).into_iter();
                findings.extend(rules.map(|(overlay, fault)| fault.finding(own.ip, overlay)));
            }
        }
        let here = Here {
            own,
            device,
            table: self.local.table,
            has_master,
        };
        let columns_used: Vec<Column> = columns.to_vec();
        let without_tunnel;
        let rows = match (device, own) {
            // Whatever does not arrive, the finding about this host's device says why.
            (None, Some(_)) => {
                without_tunnel = rows
                    .iter()
                    .map(|row| only_underlay(row, columns))
                    .collect::<Vec<_>>();
                &without_tunnel
            }
            _ => rows,
        };
        let (mut others, notes) = diagnosis::examine(rows, &columns_used, &here);
        if let Some(finding) = self.own_firewall(rows, &others) {
            others.retain(|other| other.code != path::TUNNEL_BLOCKED.code);
            others.push(finding);
        }
        findings.append(&mut others);
        (findings, notes)
    }

    /// Returns the finding if tunnels seem to be blocked, and this host's own firewall does it.
    fn own_firewall(&self, rows: &[Row<'_>], findings: &[Finding]) -> Option<Finding> {
        let is_blocked = |finding: &Finding| finding.code == path::TUNNEL_BLOCKED.code;
        if !findings.iter().any(is_blocked) {
            return None;
        }
        let own = self.source.model.own()?;
        let peer = rows.first()?.peer;
        let question = Question {
            destination: peer.ip.into(),
            source: Some(own.ip.into()),
            arrives_on: None,
        };
        let Ok(Decision::Forward(way)) = self.local.lookup.route(&question) else {
            return None;
        };
        let flow = Flow {
            from: way.device?,
            to: None,
            source: peer.ip.into(),
            destination: own.ip.into(),
            protocol: Protocol::Udp,
            port: Some(PORT),
        };
        match Rules::read().judge(&flow) {
            Judgement::Dropped(rule) => Some(
                host::FIREWALL_DROPS
                    .finding(
                        format!("packets of other hosts' tunnels (UDP port {PORT}) are dropped by this host's firewall: {rule}"),
                        format!("Let UDP port {PORT} in there"),
                    )
                    .about(own.ip),
            ),
            _ => None,
        }
    }
}

/// Sends an echo request to an address of this host's own networks, and returns the round trip time
/// of an answer.
///
/// # Errors
/// This user may not send echo requests.
pub fn once(ip: IpAddr) -> Result<Option<Duration>, Failure> {
    let request = Request {
        target: ip,
        source: None,
        bytes: plan::small(Family::from(ip)),
    };
    let pace = Pace {
        per_second: RATE,
        patience: PATIENCE,
        attempts: ATTEMPTS,
    };
    let outcomes = Echo::new().send(&[request], &pace, &|| {})?;
    Ok(outcomes.first().and_then(Outcome::time))
}

/// Returns whether a finding is about entries of this host.
fn is_local(finding: &Finding) -> bool {
    [
        &path::DEVICE_WRONG,
        &path::NEIGHBOUR_WRONG,
        &path::FDB_WRONG,
        &path::ROUTE_WRONG,
        &path::RULE_MISSING,
    ]
    .iter()
    .any(|kind| kind.code == finding.code)
}

/// Returns the results of a peer without those of the tunnel.
fn only_underlay<'a>(row: &Row<'a>, columns: &[Column]) -> Row<'a> {
    let cells = columns.iter().zip(&row.cells);
    let cells = cells.map(|(column, cell)| match column.target {
        Target::Underlay => cell.clone(),
        _ => None,
    });
    Row {
        peer: row.peer,
        cells: cells.collect(),
    }
}

fn request(cell: &Cell, bytes: u32) -> Request {
    Request {
        target: cell.address,
        source: cell.source,
        bytes,
    }
}

/// Adds the outcome of a small packet to the results of its address.
fn add(cell: &mut Option<Cell>, request: &Request, outcome: Outcome) {
    let known = cell.get_or_insert(Cell {
        address: request.target,
        source: request.source,
        small: Outcome::Silent,
        sent: 0,
        answered: 0,
        large: None,
        from_vtep: None,
    });
    known.sent += 1;
    known.answered += u32::from(outcome.time().is_some());
    known.small = match (outcome.time(), known.small.time()) {
        (Some(new), Some(old)) => Outcome::Answered(new.min(old)),
        (None, Some(old)) => Outcome::Answered(old),
        _ => outcome,
    };
}

/// Sends another request for each cell that `ask` returns one for, and gives the outcome to `take`.
fn ask_again(
    rows: &mut [Row<'_>],
    columns: &[Column],
    pace: &Pace,
    echo: &mut Echo,
    step: &dyn Fn(),
    ask: &dyn Fn(&Column, &Cell) -> Option<Request>,
    take: impl Fn(&mut Cell, u32, Outcome),
) -> Result<(), Failure> {
    let mut places = Vec::new();
    let mut requests = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, cell) in row.cells.iter().enumerate() {
            if let Some(cell) = cell
                && let Some(request) = ask(&columns[column], cell)
            {
                places.push((number, column));
                requests.push(request);
            }
        }
    }
    let outcomes = echo.send(&requests, pace, step)?;
    for (((row, column), request), outcome) in places.into_iter().zip(requests).zip(outcomes) {
        if let Some(cell) = &mut rows[row].cells[column] {
            take(cell, request.bytes, outcome);
        }
    }
    Ok(())
}

/// Sends more packets where that tells causes apart: to silent gateways from the tunnel's end, and
/// with more patience to containers.
fn again(
    rows: &mut [Row<'_>],
    columns: &[Column],
    sources: &Sources<'_>,
    echo: &mut Echo,
) -> Result<(), Failure> {
    let pace = Pace {
        per_second: RATE,
        patience: PATIENCE,
        attempts: ATTEMPTS,
    };
    let to_gateway = |column: &Column, cell: &Cell| {
        let is_silent = matches!(column.target, Target::Overlay(_)) && !cell.answers();
        let source = sources.vtep(column.family)?;
        (is_silent && cell.source.is_some()).then(|| Request {
            source: Some(source),
            ..request(cell, plan::small(column.family))
        })
    };
    ask_again(
        rows,
        columns,
        &pace,
        echo,
        &|| {},
        &to_gateway,
        |cell, _, outcome| {
            cell.from_vtep = Some(outcome);
        },
    )?;
    let pace = Pace {
        patience: LONG_PATIENCE,
        attempts: 1,
        ..pace
    };
    let tried = Counter::new(0);
    let to_container = |column: &Column, cell: &Cell| {
        let is_silent = column.target == Target::Address && cell.small == Outcome::Silent;
        tried.set(tried.get() + usize::from(is_silent));
        is_silent.then(|| request(cell, plan::small(column.family)))
    };
    ask_again(
        rows,
        columns,
        &pace,
        echo,
        &|| {},
        &to_container,
        |cell, _, outcome| {
            cell.answered += u32::from(outcome.time().is_some());
            cell.sent += u32::from(outcome.time().is_some());
            cell.small = outcome;
        },
    )
}
