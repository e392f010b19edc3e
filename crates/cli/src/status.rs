//! `mesos-overlay status`: shows the cluster and this host.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use overlay_host::Operation;

use crate::connection::candidates::{self, NamedPlace};
use crate::connection::{ConnectionOptions, Http};
use crate::finding::{Finding, Severity, kinds};
use crate::output::progress::Progress;
use crate::output::{Failure, OutputOptions, finish};
use crate::this_host::ThisHost;
use cluster::Extent;
pub use cluster::overlay_finding;
use found::Found;
pub use report::Status;

mod addresses;
mod agents;
mod cluster;
mod compare;
mod difference;
mod found;
mod host;
mod page;
mod ranges;
mod report;

const EXAMPLES: &str = "\
Examples:
  On a host of the cluster:
      mesos-overlay status
  From elsewhere:
      mesos-overlay status --master zk://10.0.0.1:2181,10.0.0.2:2181/mesos
  In a script, after an upgrade:
      mesos-overlay status --wait --wait-limit 600 && echo all is well";

/// Time between two looks. Repairs of a host take less.
const SETTLE: Duration = Duration::from_secs(2);

/// Number of further looks for differences that the second look does not show.
const MORE_LOOKS: usize = 5;

/// Time between them.
const MORE_PAUSE: Duration = Duration::from_millis(50);

/// Time between two examinations with --wait.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows the cluster and this host on one screen, and what is wrong.
///
/// The part about the cluster is of the leading master: its overlays, the subnets and VTEP addresses
/// that are used, and its agents, the worst first. On a host with an overlay agent there is a part
/// about the host: what the agent says, and whether the devices, bridges, routes, rules, files,
/// Docker networks and firewall rules are as the agent wants them. Nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = EXAMPLES)]
pub struct Options {
    /// List all agents, not only the ten worst.
    #[arg(long)]
    all: bool,
    /// Wait until no error is found.
    #[arg(long)]
    wait: bool,
    /// Time limit of --wait, in seconds. [default: 300]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    wait_limit: Option<u64>,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    let progress = Progress::new("looking at the cluster and this host", 0);
    let result = Http::new(&options.connection).and_then(|http| match options.wait {
        true => wait(options, &http, &progress),
        false => examine(options, &http),
    });
    drop(progress);
    finish(options.output, result)
}

/// Examines until no error is found, or the limit is over.
fn wait(options: &Options, http: &Http, progress: &Progress) -> Result<Status, Failure> {
    let limit = Duration::from_secs(options.wait_limit.unwrap_or(300));
    let start = Instant::now();
    loop {
        let result = examine(options, http);
        let is_well = |status: &Status| {
            status
                .findings
                .iter()
                .all(|f| f.severity != Severity::Error)
        };
        if result.as_ref().is_ok_and(is_well) || start.elapsed() + PAUSE >= limit {
            return result;
        }
        progress.say(&match &result {
            Ok(status) => match status.findings.first() {
                Some(Finding { message, .. }) => format!("waiting: {message}"),
                None => "waiting".to_owned(),
            },
            Err(Failure(sentence)) => format!("waiting: {sentence}"),
        });
        thread::sleep(PAUSE);
    }
}

/// Look at everything.
#[derive(Default)]
struct Look {
    cluster: Option<cluster::View>,
    host: Option<host::View>,
    notes: Vec<String>,
}

impl Look {
    /// Returns whether a second look is needed.
    fn is_doubtful(&self) -> bool {
        let differs = |host: &host::View| !host.differences.is_empty();
        self.found().any(|found| found.may_pass) || self.host.as_ref().is_some_and(differs)
    }

    /// Returns the differences of the host.
    fn differences(&self) -> &[Operation] {
        self.host.as_ref().map_or(&[], |host| &host.differences)
    }

    /// Returns whether the host has all differences of an earlier look.
    fn differs_like(&self, earlier: &Look) -> bool {
        let mut before = earlier.differences().iter();
        before.all(|operation| self.differences().contains(operation))
    }

    /// Adds the differences of another look.
    fn add_differences(&mut self, other: Look) {
        if let (Some(host), Some(other)) = (&mut self.host, other.host) {
            host.differences.extend(other.differences);
            host.differences.dedup();
        }
    }

    /// Returns what is wrong, without the differences of the host.
    fn found(&self) -> impl Iterator<Item = &Found> {
        let cluster = self.cluster.iter().flat_map(|view| &view.found);
        cluster.chain(self.host.iter().flat_map(|view| &view.found))
    }
}

/// Examines the cluster and this host. What may pass within seconds must be found twice.
fn examine(options: &Options, http: &Http) -> Result<Status, Failure> {
    let first = look(options, http)?;
    if !first.is_doubtful() {
        return Ok(report(first, None));
    }
    thread::sleep(SETTLE);
    let mut second = look(options, http)?;
    for _ in 0..MORE_LOOKS {
        if second.differs_like(&first) {
            break;
        }
        // Somebody may undo the agent's repairs again and again, and one look come in between.
        thread::sleep(MORE_PAUSE);
        second.add_differences(look(options, http)?);
    }
    Ok(report(second, Some(&first)))
}

fn look(options: &Options, http: &Http) -> Result<Look, Failure> {
    let this_host = ThisHost::look();
    let mut look = Look::default();
    let named = candidates::named(&options.connection, &this_host);
    if let Ok(place) = &named {
        let extent = Extent { all: options.all };
        look.cluster = Some(cluster::look(http, place, &options.connection, extent)?);
    }
    let state = look.cluster.as_ref().and_then(|view| view.state.as_ref());
    if let Some(place) = host::find(&this_host, &options.connection, state) {
        look.host = Some(host::look(http, &this_host, &place, &options.connection)?);
    }
    if look.host.is_none() && this_host.processes.is_empty() && !geteuid().is_root() {
        let note = "Mesos on this host was not looked for, since a user sees no processes of others; run this command \
                    as root on hosts of the cluster.";
        look.notes.push(note.to_owned());
    }
    match (named, &look.host) {
        (Ok(NamedPlace { .. }), _) => {}
        (Err(failure), None) => return Err(failure),
        (Err(Failure(sentence)), Some(_)) => {
            look.notes
                .push(format!("The cluster was not looked at: {sentence}."));
        }
    }
    Ok(look)
}

/// Makes the report of a look. Of what may pass, and of the differences of the host, it has what the
/// earlier look has, too.
fn report(look: Look, earlier: Option<&Look>) -> Status {
    let before: Vec<Found> = earlier.into_iter().flat_map(Look::found).cloned().collect();
    let lasting = |found: &Vec<Found>| -> Vec<Finding> {
        let lasts = found.iter().filter(|found| found.lasts(&before));
        lasts.map(|found| found.finding.clone()).collect()
    };
    let mut status = Status {
        notes: look.notes,
        ..Status::default()
    };
    let mut of_host = Vec::new();
    let own_agent = look.host.as_ref().and_then(|view| view.agent);
    if let Some(mut view) = look.host {
        let earlier = earlier.and_then(|look| look.host.as_ref());
        let lasts =
            |operation: &_| earlier.is_some_and(|view| view.differences.contains(operation));
        view.differences.retain(lasts);
        of_host = lasting(&view.found);
        of_host.extend(difference::findings(&view.differences));
        status.notes.extend(view.notes);
        compare::recount(&mut view.report, &view.differences);
        status.host = Some(view.report);
    }
    if let Some(view) = look.cluster {
        let serves = view.state.is_some();
        let own = own_agent.map(|ip| ip.to_string());
        let mut of_cluster = lasting(&view.found);
        // The part about this host says it.
        let says = |code: &str| of_host.iter().any(|finding| finding.code == code);
        let is_away = says("agent-silent") || says("agent-unregistered");
        of_cluster.retain(|finding| {
            let is_own = own.is_some() && finding.subject == own;
            !(is_own && (says(finding.code) || is_away && finding.code == "agent-lost"))
        });
        if !serves {
            of_host.retain(|finding| finding.code != "agent-unregistered");
        }
        status.findings = of_cluster;
        status.notes.extend(view.notes);
        status.cluster = Some(view.report);
    }
    status.findings.extend(of_host);
    say_once_that_a_range_is_full(&mut status.findings);
    status
        .findings
        .sort_by_key(|finding| (finding.severity, kinds::rank(finding.code)));
    status
}

/// Makes one finding of a full range and of the agent that got nothing of it. A full range is an error
/// if an agent got nothing; as long as all have their share it is a warning.
fn say_once_that_a_range_is_full(findings: &mut Vec<Finding>) {
    let is_full = |finding: &Finding| finding.code == "range-full";
    let is_known = findings.iter().any(is_full);
    let is_short = findings.iter().any(says_full);
    if is_known {
        findings.retain(|finding| finding.code != "agent-refused" || !says_full(finding));
    }
    for finding in findings
        .iter_mut()
        .filter(|finding| is_full(finding) && !is_short)
    {
        finding.severity = Severity::Warning;
    }
}

/// Returns whether a finding about an agent says that a range is full.
fn says_full(finding: &Finding) -> bool {
    finding.message.contains(" is left for overlay ")
        || finding.message.contains("no VTEP address is left")
}
